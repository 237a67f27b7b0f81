"""Images that cannot be read because nothing can be: no image's fault."""

from __future__ import annotations

import pytest

from feature_store.errors import CREDENTIAL_SIGNS, cause_of, shows
from pipelines.cluster.resources import Plan
from pipelines.engine.failures import Failures
from pipelines.engine.resume import with_tries
from pipelines.errors import UserError
from pipelines.features import backbones, featurizer
from pipelines.features.fetch import ReadError
from pipelines.files import filesystems
from pipelines.inputs.listing import Listing
from pipelines.verbs import features
from tests.integration.test_features import unit_of
from tests.worlds.hostile import Mean

UNPLUGGED = "AWS Error NETWORK_CONNECTION during HeadObject operation: curlCode: 7, Could not connect to server"
EXPIRED = "AWS Error UNKNOWN (HTTP status 400) during GetObject operation: ExpiredToken"
DENIED = "AWS Error ACCESS_DENIED during HeadObject operation: No response body."
GONE = "no such file"


def note(count: int, *reasons: str | None) -> None:
    """A unit of ``count`` images whose reads end so; None is a good one."""
    lost = featurizer.Lost(count)
    for reason in reasons:
        lost.reset() if reason is None else lost.add(reason, "s3://b/a.jpg")
    lost.end()


@pytest.mark.parametrize("reason", [UNPLUGGED, EXPIRED])
def test_a_connection_lost_midway(reason):
    with pytest.raises(UserError, match=r"2 images in a row.*none of them is noted"):
        note(4, None, GONE, reason, reason)


def test_reading_ends_soon_because_each_attempt_takes_seconds():
    with pytest.raises(UserError, match="8 images in a row"):
        note(4096, None, *[UNPLUGGED] * 8)


def test_all_of_a_unit_denied():
    with pytest.raises(UserError, match="ACCESS_DENIED"):
        note(3, DENIED, DENIED, DENIED)


@pytest.mark.parametrize(
    "reasons",
    [
        (None, UNPLUGGED, None),
        (UNPLUGGED, UNPLUGGED, GONE),
        (None, *[DENIED] * 20),  # a folder of others
        (UNPLUGGED,),
        (GONE,) * 20,
    ],
)
def test_what_may_be_the_images_fault(reasons):
    note(len(reasons), *reasons)


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("/data/Expired_contracts/{}.jpg", "[Errno 13] Failed to open local file '/data/Expired_contracts/{}.jpg'"),
        ("bytes://0+5::/data/UNAVAILABLE/{}.tar", "Failed to open local file '/data/UNAVAILABLE/{}.tar'. Detail: ..."),
        ("memory://Forbidden/{}.jpg", "/Forbidden/{}.jpg"),
        ("/data/no credential{}.jpg", "[Errno 5] Cannot read '/data/no credential{}.jpg': Input/output error"),
    ],
)
def test_names_are_no_signs(uri, reason):
    lost = featurizer.Lost(20)
    for number in range(20):
        lost.add(reason.format(number), uri.format(number))
    lost.end()


@pytest.mark.parametrize(
    "reason",
    [
        UNPLUGGED.replace(
            "AWS", "When reading information for key 'Forbidden/timed out' in bucket 'credential-x': AWS"
        ),
        f"Path 'credential-x/Forbidden/timed out': {EXPIRED}",
    ],
)
def test_signs_beside_names(reason):
    """The key alone would be taken for a denial, of which eight are not enough."""
    lost = featurizer.Lost(4096)
    with pytest.raises(UserError, match=r"8 images in a row.*Forbidden/timed out"):
        for _ in range(8):
            lost.add(reason, "s3://credential-x/Forbidden/timed out?region=us-east-1")


def test_unreadable_files_with_such_names_are_failures(tmp_path, monkeypatch):
    """Of a disk: nothing about it is a connection."""
    folder = tmp_path / "Expired credentials"
    folder.mkdir()
    unit = unit_of(folder, range(10))

    def unreadable(row, preprocess):
        raise ReadError(f"[Errno 13] Failed to open local file '{row['uri']}'. Detail: [errno 13] Permission denied")

    monkeypatch.setattr(featurizer, "load", unreadable)
    failures = Failures()
    assert list(featurizer.Featurizer(Mean(), 4, 2)(unit, failures)) == []
    assert [row["stage"] for row in failures.rows] == ["read"] * 10


@pytest.mark.parametrize(
    "said",
    [
        "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH", "INVALID_CLIENT_TOKEN_ID", "UNAUTHENTICATED",
        "PERMISSION_DENIED",
    ],
)  # fmt: skip
def test_what_object_storage_says_of_credentials(said):
    assert shows(f"AWS Error {said} during", CREDENTIAL_SIGNS)
    assert cause_of(OSError(f"AWS Error {said} during")).startswith("the credentials")


def test_a_unit_of_lost_images_is_not_committed_and_is_done_later(tmp_path, monkeypatch):
    network = backbones.load("timm/test_resnet", "random")
    unit = unit_of(tmp_path, [1, 2, 3, 4])
    monkeypatch.setattr(features.ray, "get", lambda found: found)
    worker = features.FeatureWorker(
        network, featurizer.dataset_of(network, str(tmp_path / "store")).schema, Plan(1, 1, 0), 2, 1
    )
    good, asked = featurizer.load, []

    def until_unplugged(*given):
        asked.append(given)
        if len(asked) > 1:
            raise ReadError(UNPLUGGED)
        return good(*given)

    monkeypatch.setattr(featurizer, "load", until_unplugged)
    with pytest.raises(UserError, match="3 images in a row could not be read"):
        worker.process(unit)
    monkeypatch.setattr(featurizer, "load", good)
    rows, failures = worker.process(unit)
    assert (rows.num_rows, failures.num_rows) == (4, 0)


def test_a_server_that_does_not_answer(bucket, monkeypatch):
    """What it looks like from pyarrow."""
    uri, put = bucket
    for name in "ab":
        put(f"p/{name}.jpg", b"a picture")
    unit = with_tries(next(Listing(f"{uri}/p").chunks()))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    filesystems._file_system.cache_clear()
    compute = featurizer.Featurizer(backbones.load("timm/test_resnet", "random"), 2, 2)
    with pytest.raises(UserError, match="2 images in a row could not be read, for want of a connection"):
        list(compute(unit, Failures()))
