import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipelines.files.atomic import FolderLock, is_locked, replacing, sweep_unfinished, write_whole
from tests.worlds.disk import watched_disk


def test_a_file_is_on_the_disk_before_its_name_and_the_name_before_the_end(tmp_path):
    with watched_disk() as disk:
        write_whole(tmp_path / "run.json", "é")
        write_whole(tmp_path / "run.json", b"\x00")
    disk.check()
    assert [rename.to.name for rename in disk.renames] == ["run.json"] * 2
    assert os.listdir(tmp_path) == ["run.json"]
    assert (tmp_path / "run.json").read_bytes() == b"\x00"


def test_what_is_not_finished_changes_nothing(tmp_path):
    write_whole(tmp_path / "page.html", "old")
    with pytest.raises(KeyError), replacing(tmp_path / "page.html") as fresh:
        fresh.write_text("ne")
        raise KeyError
    assert os.listdir(tmp_path) == ["page.html"]
    assert (tmp_path / "page.html").read_text() == "old"


def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path):
    name = "x" * os.pathconf(tmp_path, "PC_NAME_MAX")
    write_whole(tmp_path / name, "long")
    assert (tmp_path / name).read_text() == "long"


def test_two_writers_of_a_file_leave_that_of_one_of_them(tmp_path):
    with replacing(tmp_path / "page") as first:
        first.write_text("1" * 10)
        write_whole(tmp_path / "page", "2")
    assert (tmp_path / "page").read_text() == "1" * 10


def test_what_a_killed_writer_left_is_swept(tmp_path):
    code = "import os, sys\nfrom pipelines.files.atomic import replacing\n"
    code += "with replacing(sys.argv[1]) as fresh:\n    fresh.write_text('x')\n    os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code, tmp_path / "run.json"])
    assert len(os.listdir(tmp_path)) == 1
    sweep_unfinished(tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_locked_folder_is_refused_until_it_is_released(tmp_path):
    folder = tmp_path / "new" / "run"
    with FolderLock(folder), pytest.raises(BlockingIOError):
        FolderLock(folder)
    first = FolderLock(folder)
    threading.Timer(0.2, first.release).start()
    FolderLock(folder, patience=60).release()
    first.release()


def test_a_lock_ends_with_its_process(tmp_path):
    code = "import sys\nfrom pathlib import Path\nfrom pipelines.files.atomic import FolderLock\n"
    code += "lock = FolderLock(Path(sys.argv[1]))\nprint('locked', flush=True)\nsys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "locked\n"
    with pytest.raises(BlockingIOError):
        FolderLock(tmp_path)
    process.kill()
    process.communicate()
    FolderLock(tmp_path).release()


def test_whether_a_folder_is_locked(tmp_path):
    assert not is_locked(tmp_path) and not (tmp_path / ".lock").exists()  # nothing is made by asking
    with FolderLock(tmp_path):
        assert is_locked(tmp_path)
    assert not is_locked(tmp_path)
    FolderLock(tmp_path).release()


def test_a_link_stays_and_leads_to_what_was_written(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there/file")
    for content in ("first", "second"):
        write_whole(tmp_path / "link", content)
        assert (tmp_path / "link").is_symlink() and (tmp_path / "there" / "file").read_text() == content
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["file"]


def test_a_pipe_is_written_and_stays_one(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit((tmp_path / "pipe").read_text)
        write_whole(tmp_path / "pipe", "through")
        assert read.result() == "through" and (tmp_path / "pipe").is_fifo()
