"""Images that cannot be read because nothing can be: no image's fault."""

from __future__ import annotations

import pytest

from feature_store import retry
from feature_store.errors import ErrorClass
from pipelines.cluster.resources import Plan
from pipelines.engine.failures import DEFERRED, Failures
from pipelines.engine.resume import with_tries
from pipelines.errors import Fault
from pipelines.features import backbones, featurizer, preprocess
from pipelines.files import filesystems
from pipelines.inputs.fetch import ReadError
from pipelines.inputs.listing import Listing
from pipelines.verbs import features
from tests.integration.test_features import unit_of
from tests.worlds.hostile import Mean

UNPLUGGED = "AWS Error NETWORK_CONNECTION during HeadObject operation: curlCode: 7, Could not connect to server"


def test_unreadable_files_with_such_names_are_failures(tmp_path, monkeypatch):
    """Of a disk: nothing about it is a connection."""
    folder = tmp_path / "Expired credentials"
    folder.mkdir()
    unit = unit_of(folder, range(10))

    def unreadable(row, preprocess):
        raise ReadError(f"[Errno 13] Failed to open local file '{row['uri']}'. Detail: [errno 13] Permission denied")

    monkeypatch.setattr(preprocess, "load", unreadable)
    failures = Failures()
    assert list(featurizer.Featurizer(Mean(), 4, 2)(unit, failures)) == []
    assert [row["stage"] for row in failures.rows] == ["read"] * 10


def test_a_unit_of_lost_images_is_not_committed_and_is_done_later(tmp_path, monkeypatch):
    network = backbones.load("timm/test_resnet", "random")
    unit = unit_of(tmp_path, [1, 2, 3, 4])
    schema = featurizer.dataset_of(network, str(tmp_path / "store")).schema
    worker = features.FeatureWorker(Plan(1, 1, 0), network, schema, 2, 1)
    good, asked = preprocess.load, []

    def until_unplugged(*given):
        asked.append(given)
        if len(asked) > 1:
            raise ReadError(UNPLUGGED, ErrorClass.STORAGE)
        return good(*given)

    monkeypatch.setattr(preprocess, "load", until_unplugged)
    with pytest.raises(Fault, match="3 images in a row could not be read, for want of storage"):
        worker.process(unit)
    monkeypatch.setattr(preprocess, "load", good)
    rows, failures = worker.process(unit)
    assert (rows.num_rows, failures.num_rows) == (4, 0)


@pytest.mark.slow  # pyarrow looks for the server for six seconds, each time
def test_a_server_that_does_not_answer(bucket, monkeypatch):
    """What it looks like from pyarrow."""
    uri, put = bucket
    for name in "ab":
        put(f"p/{name}.jpg", b"a picture")
    unit = with_tries(next(Listing(f"{uri}/p").chunks()))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    filesystems._file_system.cache_clear()
    compute = featurizer.Featurizer(backbones.load("timm/test_resnet", "random"), 2, 2)
    monkeypatch.setattr(retry, "SECONDS", 0.0)
    with pytest.raises(Fault, match="2 images in a row could not be read, for want of storage that answers"):
        list(compute(unit, Failures()))


def test_a_picture_that_ill_storage_withholds_is_no_failure_of_it(tmp_path, monkeypatch):
    """Nor of those beside it, which are done."""
    unit = unit_of(tmp_path, [1, 2, 3, 4])
    good = preprocess.load

    def throttled(row, preprocess):
        if row["uri"].endswith("2.png"):
            raise ReadError("AWS Error SLOW_DOWN", ErrorClass.STORAGE)
        return good(row, preprocess)

    monkeypatch.setattr(preprocess, "load", throttled)
    failures = Failures()
    done = [image.image_id for images, _ in featurizer.Featurizer(Mean(), 4, 2)(unit, failures) for image in images]
    assert len(done) == 3
    assert [row["stage"] for row in failures.rows] == [DEFERRED]


def test_batches_that_a_thread_gathers_are_the_same_and_end_with_the_same_error(tmp_path, monkeypatch):
    unit = unit_of(tmp_path, range(10))
    (tmp_path / "4.png").write_bytes(b"no picture")
    done, failed = [], []
    for gathers in (False, True):
        compute, failures = featurizer.Featurizer(Mean(), 4, 2, gathers=gathers), Failures()
        done.append([[image.image_id for image in images] for images, _ in compute(unit, failures)])
        failed.append([(row["image_id"], row["stage"]) for row in failures.rows])
    assert done[0] == done[1] and [len(batch) for batch in done[0]] == [4, 4, 1]
    assert failed[0] == failed[1] and len(failed[0]) == 1

    def unplugged(*_):
        raise ReadError(UNPLUGGED, ErrorClass.STORAGE)

    monkeypatch.setattr(preprocess, "load", unplugged)
    with pytest.raises(Fault, match="could not be read, for want of storage"):
        list(featurizer.Featurizer(Mean(), 4, 2, gathers=True)(unit, Failures()))
