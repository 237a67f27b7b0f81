import gc
import io
import os
import tarfile
import threading

import hostile
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store import Store, verify
from pipelines import features
from pipelines.images import Preprocess
from pipelines.listing import Listing
from pipelines.reading import Failures, Featuriser
from pipelines.units import Options


class Mean:
    """A network that says how bright a picture is."""

    preprocess = Preprocess((8, 8), (9, 9), "bilinear", (0.5,) * 3, (0.5,) * 3)

    def example(self, count):
        return np.zeros((count, 8, 8, 3), np.uint8)

    def __call__(self, pictures):
        return {"pooled": pictures.mean((1, 2, 3))[:, None].astype(np.float16)}


def outcome_of(listing: Listing) -> hostile.Expected:
    """What becomes of the listed pictures, as ``hostile.make`` says what should."""
    inputs = pa.concat_tables(listing.chunks())
    failures = Failures()
    featuriser = Featuriser(Mean(), 4, 2)
    done = [image.image_id for images, _ in featuriser(inputs, failures) for image in images]
    featuriser.pool.shutdown()
    assert sorted(done + [row["image_id"] for row in failures.rows]) == sorted(inputs["image_id"].to_pylist())
    return dict.fromkeys(done) | {row["image_id"]: (row["stage"], row["reason"]) for row in failures.rows}


def assert_as_expected(found: hostile.Expected, expected: hostile.Expected) -> None:
    assert found.keys() == expected.keys()
    assert len(found) >= 30
    for name, (stage, reason) in ((name, what) for name, what in expected.items() if what):
        assert found[name] is not None, name
        assert found[name][0] == stage and reason in found[name][1], name
    assert not {name: found[name] for name, what in expected.items() if what is None and found[name]}


def test_each_is_a_row_or_a_failure_with_its_reason(tmp_path):
    expected = hostile.make(tmp_path / "hostile")
    assert_as_expected(outcome_of(Listing(str(tmp_path / "hostile"))), expected)


def test_nothing_is_left_open(tmp_path):
    hostile.make(tmp_path / "hostile")

    def open_things():
        gc.collect()
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    outcome_of(Listing(str(tmp_path / "hostile")))
    before = open_things()
    outcome_of(Listing(str(tmp_path / "hostile")))
    assert open_things() == before


CONTENTS = hostile.SHOWN | {name: data for name, (data, _) in hostile.FAILED.items()}
EXPECTED: hostile.Expected = dict.fromkeys(hostile.SHOWN) | {
    name: ("decode", reason) for name, (_, reason) in hostile.FAILED.items()
}


def test_the_same_in_a_tar(tmp_path):
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        for name, data in CONTENTS.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    assert_as_expected(
        outcome_of(Listing(str(tmp_path / "shard.tar"))), {f"shard.tar/{name}": what for name, what in EXPECTED.items()}
    )


def test_the_same_in_parquet(tmp_path):
    images = [{"bytes": data, "path": name} for name, data in CONTENTS.items()]
    pq.write_table(pa.table({"image": images, "image_id": list(CONTENTS)}), tmp_path / "t.parquet", row_group_size=20)
    assert_as_expected(outcome_of(Listing(str(tmp_path / "t.parquet"))), EXPECTED)


@pytest.mark.ray
def test_the_verb(ray_cluster, tmp_path):
    expected = hostile.make(tmp_path / "hostile")
    arguments = (str(tmp_path / "hostile"), str(tmp_path / "store"), "torchvision/squeezenet1_0", "random", ("pooled",))
    outcome = features.run(*arguments, options=Options(workers=2))
    dataset = Store(tmp_path / "store").open(kind="features")
    snapshot = dataset.snapshot()
    failures = {row["image_id"]: (row["stage"], row["reason"]) for row in snapshot.failures().to_pylist()}
    done = snapshot.ids(include_failures=False).to_pylist()
    assert len(done) == len(set(done)) == outcome.summary["computed"]
    assert outcome.failed == len(failures)
    assert_as_expected(dict.fromkeys(done) | failures, expected)
    assert verify(dataset).problems == []
