import gzip
import os

import pytest

from feature_store import retry
from feature_store.errors import ErrorClass
from pipelines.errors import Fault, UserError
from pipelines.files.storage import class_of
from pipelines.inputs import fetch


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "not a file"),
        (os.mkfifo, "not a file"),
        (lambda path: path.symlink_to("x"), "symbolic links|no such file"),
        (lambda path: path.write_bytes(bytes(11)), "11 bytes, more than 10"),
    ],
    ids=["missing", "folder", "pipe", "circle", "large"],
)
def test_what_cannot_be_read(tmp_path, make, reason, monkeypatch):
    monkeypatch.setattr(fetch, "MAX_BYTES", 10)
    make(tmp_path / "x")
    with pytest.raises(fetch.ReadError, match=reason):
        fetch.read(str(tmp_path / "x"))


def test_the_version_is_that_of_the_file_that_was_read(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert fetch.read(str(tmp_path / "x")) == (f"3-{(tmp_path / 'x').stat().st_mtime_ns}", b"abc")


def test_a_packed_file_is_read_as_it_is(tmp_path):
    """Its size was looked at, and not what it unpacks to."""
    (tmp_path / "x.jpg.gz").write_bytes(gzip.compress(bytes(10**6)))
    assert fetch.read(str(tmp_path / "x.jpg.gz"))[1] == (tmp_path / "x.jpg.gz").read_bytes()


@pytest.mark.parametrize("given", ["v1", "2024-05", "1-2", "9@3-1795000000"])
def test_a_version_that_a_listing_gave_is_kept(tmp_path, given):
    (tmp_path / "x").write_bytes(b"abc")
    assert fetch.read(str(tmp_path / "x"), given) == (given, b"abc")


@pytest.mark.parametrize("given", [None, "", "2-1795000000123456789", "2-1795000000", "0-0"])
def test_a_version_that_was_looked_up_is_looked_up_again(tmp_path, given):
    """A saved listing has such, and the file may be another one by now."""
    (tmp_path / "x").write_bytes(b"abc")
    assert fetch.read(str(tmp_path / "x"), given)[0] == f"3-{(tmp_path / 'x').stat().st_mtime_ns}"


def test_a_large_member_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "MAX_BYTES", 10)
    with pytest.raises(fetch.ReadError, match="11 bytes, more than 10"):
        fetch.read(f"bytes://0+11::{tmp_path}/not/there.tar")


UNPLUGGED = "AWS Error NETWORK_CONNECTION during HeadObject operation: curlCode: 7, Could not connect to server"
EXPIRED = "AWS Error UNKNOWN (HTTP status 400) during GetObject operation: ExpiredToken"
DENIED = "AWS Error ACCESS_DENIED during HeadObject operation: No response body."
GONE = "no such file"


def note(count: int, *reasons: str | None) -> None:
    """A unit of ``count`` images whose reads end so; None is a good one."""
    streak = fetch.UnreadStreak(count)
    for reason in reasons:
        streak.reset() if reason is None else streak.add(fetch.ReadError(reason, class_of(reason, "s3://b/a.jpg")))
    streak.end()


@pytest.mark.parametrize(("reason", "kind", "code"), [(UNPLUGGED, Fault, 4), (EXPIRED, UserError, 2)])
def test_a_connection_or_credentials_lost_midway(reason, kind, code):
    with pytest.raises(kind, match=r"2 images in a row.*none of them is noted") as raised:
        note(4, None, GONE, reason, reason)
    assert raised.value.code == code


def test_reading_ends_soon_because_each_attempt_takes_seconds():
    with pytest.raises(Fault, match="8 images in a row"):
        note(4096, None, *[UNPLUGGED] * 8)


def test_all_of_a_unit_denied():
    with pytest.raises(UserError, match="ACCESS_DENIED"):
        note(3, DENIED, DENIED, DENIED)


@pytest.mark.parametrize(
    "reasons",
    [(None, UNPLUGGED, None), (UNPLUGGED, UNPLUGGED, GONE), (None, *[DENIED] * 20), (UNPLUGGED,), (GONE,) * 20],
)
def test_the_others_are_done(reasons):
    note(len(reasons), *reasons)


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("/data/Expired_contracts/1.jpg", "[Errno 13] Failed to open local file '/data/Expired_contracts/1.jpg'"),
        ("bytes://0+5::/data/UNAVAILABLE/1.tar", "Failed to open local file '/data/UNAVAILABLE/1.tar'. Detail: ..."),
        ("memory://Forbidden/1.jpg", "/Forbidden/1.jpg"),
        ("/data/no credential1.jpg", "[Errno 13] Cannot read '/data/no credential1.jpg'"),
    ],
)
def test_names_are_no_signs(uri, reason):
    assert class_of(reason, uri) is ErrorClass.OBJECT


@pytest.mark.parametrize(
    "reason",
    [
        UNPLUGGED.replace(
            "AWS", "When reading information for key 'Forbidden/timed out' in bucket 'credential-x': AWS"
        ),
        f"Path 'credential-x/Forbidden/timed out': {UNPLUGGED}",
    ],
)
def test_signs_beside_names(reason):
    assert class_of(reason, "s3://credential-x/Forbidden/timed out?region=us-east-1") is ErrorClass.STORAGE


def test_a_read_that_storage_refuses_for_a_while_is_made_again(tmp_path, monkeypatch):
    (tmp_path / "x").write_bytes(b"abc")
    real, refused = fetch.opened, []

    def opened(place):
        if len(refused) < 3:
            refused.append(place)
            raise OSError("AWS Error SLOW_DOWN during HeadObject operation: Please reduce your request rate.")
        return real(place)

    monkeypatch.setattr(fetch, "opened", opened)
    monkeypatch.setattr(retry.random, "uniform", lambda low, high: 0.0)
    assert fetch.read(str(tmp_path / "x"))[1] == b"abc"
    refused.clear()
    with pytest.raises(fetch.ReadError, match="SLOW_DOWN") as raised:
        fetch.read(str(tmp_path / "x"), seconds=-1)
    assert raised.value.is_of_storage
