import errno
import os

import pytest

from rnncond.atomic import replace_folder, sweep, sync_folder
from tests.worlds.disk import watched_disk


def test_a_folder_is_on_the_disk_before_its_name_and_the_name_before_the_end(tmp_path):
    for content in (b"old", b"new"):
        with watched_disk() as disk:
            replace_folder(tmp_path / "best", {"weights": content, "model.json": b"{}"})
        (renamed,) = [rename for rename in disk.renames if rename.to == tmp_path / "best"]
        assert renamed.unsynced == set()
        assert tmp_path / "best" not in disk.pending
        assert (tmp_path / "best" / "weights").read_bytes() == content
    assert os.listdir(tmp_path) == ["best"]


def test_a_folder_stays_as_it_was_where_the_disk_is_full(tmp_path, monkeypatch):
    replace_folder(tmp_path / "best", {"weights": b"old"})

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        replace_folder(tmp_path / "best", {"weights": b"new"})
    assert (tmp_path / "best" / "weights").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["best"]


def test_what_was_moved_out_of_the_way_by_a_killed_writer_comes_back(tmp_path):
    replace_folder(tmp_path / "best", {"weights": b"old"})
    (tmp_path / ".best.old.x").mkdir()
    (tmp_path / "best").rename(tmp_path / ".best.old.x" / "best")
    (tmp_path / ".best.y").mkdir()
    sweep(tmp_path / "best")
    assert os.listdir(tmp_path) == ["best"]
    assert (tmp_path / "best" / "weights").read_bytes() == b"old"


def test_a_file_system_that_cannot_flush_a_folder_is_no_reason_to_stop(tmp_path, monkeypatch):
    def refuse(code):
        def fsync(descriptor):
            raise OSError(code, os.strerror(code))

        return fsync

    monkeypatch.setattr(os, "fsync", refuse(errno.EINVAL))
    sync_folder(tmp_path)
    monkeypatch.setattr(os, "fsync", refuse(errno.EIO))
    with pytest.raises(OSError, match="Input/output"):
        sync_folder(tmp_path)
