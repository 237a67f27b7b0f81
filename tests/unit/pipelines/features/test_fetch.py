import os

import pytest

from pipelines.features import fetch


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
