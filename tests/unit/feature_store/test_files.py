"""The same store on every kind of file system, and what happens when one fails."""

from __future__ import annotations

import errno
import io
import os
import resource
import secrets
import stat
import subprocess
from contextlib import contextmanager

import pyarrow as pa
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from pyarrow import fs

from feature_store import Store, StoreError, compact, retry, vacuum, verify
from feature_store.errors import cause_of
from feature_store.files import Files
from tests.worlds.feature_rows import commit, dataset, ids, rows


class ObjectStore(MemoryFileSystem):
    """Like object storage through fsspec: nothing can be renamed, no folder is made, listings are remembered."""

    cachable = False

    def __init__(self, **options) -> None:
        super().__init__(**options)
        self.listings = {}

    def find(self, path, *args, **options):
        key = (path, repr(args), repr(options))
        if key not in self.listings:
            self.listings[key] = super().find(path, *args, **options)
        return self.listings[key]

    def invalidate_cache(self, path=None):
        self.listings.clear()

    def mv(self, *args, **options):
        raise NotImplementedError("object storage has no rename")

    mv_file = move = rename = mv

    def makedirs(self, path, exist_ok=False):
        raise PermissionError("no right to make folders")

    mkdir = makedirs


def stores(tmp_path):
    yield "uri", Store(f"file://{tmp_path}/a ü%20")
    yield "memory", Store(f"memory://{secrets.token_hex(4)}/a ü%20/store")
    yield "object", Store(f"{secrets.token_hex(4)}/store", ObjectStore())
    yield "subtree", Store("sub", fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem()))
    yield "mock", Store("sub/store", fs._MockFileSystem())


@pytest.mark.parametrize("kind", ["uri", "memory", "object", "subtree", "mock"])
def test_the_whole_life_of_a_store(tmp_path, kind):
    store = dict(stores(tmp_path))[kind]
    made = dataset(store)
    with made.begin() as term:
        for start in range(0, 30, 10):
            commit(term, ids(start, start + 10), [f"x{start}"])
        with pytest.raises(StoreError, match="another writer"):
            made.begin()
    old = made.snapshot()
    with made.begin() as term:
        commit(term, ["x0"])
        with pytest.raises(StoreError, match="column grid"):
            term.handle.commit("unfit", rows(["a"]).drop(["grid"]))
    assert verify(made).problems == []
    done = compact(made)
    assert (done.parts_before, done.parts_after) == (4, 1)
    assert verify(made).problems == [] and sum(batch.num_rows for batch in old.scan()) == 30
    assert vacuum(made, grace=0).files
    snapshot = store.open().snapshot()
    assert snapshot.ids().to_pylist() == [*ids(0, 30), "x0", "x10", "x20"]
    assert snapshot.take(["x0", "00007"]).equals(rows(["x0", "00007"]))
    assert verify(made).problems == []


@contextmanager
def mounted(folder, size: str):
    folder.mkdir()
    tried = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True)
    if tried.returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def fill(made) -> StoreError:
    """Commit until the storage refuses."""
    with pytest.raises(StoreError) as raised, made.begin() as term:
        for start in range(0, 100_000, 1000):
            commit(term, ids(start, start + 1000))
    return raised.value


def test_a_full_disk_loses_nothing_and_says_so(tmp_path):
    with mounted(tmp_path / "disk", "512k"):
        made = dataset(Store(tmp_path / "disk/store"))
        message = str(fill(made))
        assert "the disk is full" in message and "run the same command again" in message
        committed = made.snapshot()
        assert committed.rows >= 1000 and verify(made).problems == []
        assert [*tmp_path.rglob("*.tmp-*")] == []
        assert len([*tmp_path.rglob("parts/*")]) <= len(committed.parts) + 1  # one may lack its entry
        subprocess.run(["mount", "-o", "remount,size=4m", tmp_path / "disk"], check=True)
        with made.begin() as term:
            assert made.snapshot().parts == committed.parts
            commit(term, ids(90_000, 90_010))
        assert made.snapshot().rows == committed.rows + 10 and verify(made).problems == []


@contextmanager
def files_at_most(size: int):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_write_that_fails_in_the_middle_leaves_no_half_file(tmp_path):
    made = dataset(Store(tmp_path / "store"))
    with made.begin() as term:
        kept = commit(term, ids(0, 10))
        with files_at_most(8000), pytest.raises(StoreError, match="larger than this process may write"):
            commit(term, ids(10, 1000))
        assert [path.name for path in tmp_path.rglob("parts/*")] == [f"{kept.file}.parquet"]
        commit(term, ids(10, 1000))
    assert made.snapshot().rows == 1000 and verify(made).problems == []


def test_a_read_only_folder_is_named(tmp_path):
    if os.geteuid():
        (tmp_path / "disk").mkdir(mode=0o500)
        with pytest.raises(StoreError, match=r"Writing .*disk/store/store.json failed: permission denied"):
            dataset(Store(tmp_path / "disk/store")).begin()
        return
    with mounted(tmp_path / "disk", "512k"):
        subprocess.run(["mount", "-o", "remount,ro", tmp_path / "disk"], check=True)
        with pytest.raises(StoreError, match=r"Writing .*disk/store/store.json failed: the file system is read-only"):
            dataset(Store(tmp_path / "disk/store")).begin()


def test_a_store_that_is_a_file_is_named(tmp_path):
    (tmp_path / "store").touch()
    with pytest.raises(StoreError, match="Not a directory"):
        dataset(Store(tmp_path / "store")).begin()


def test_lost_credentials_are_told():
    said = "When writing to key 'x' in bucket 'b': AWS Error ACCESS_DENIED during PutObject operation: Access Denied"
    assert cause_of(OSError(said)).startswith("the credentials are missing")
    assert cause_of(OSError(errno.ENOSPC, "No space left on device")).startswith("the disk is full")
    assert cause_of(OSError("something else")) == "something else"


@pytest.mark.parametrize("kind", ["uri", "memory", "object", "subtree", "mock"])
def test_a_file_that_was_not_finished_is_not_there(tmp_path, kind):
    files = dict(stores(tmp_path))[kind].files
    with pytest.raises(StoreError, match="Connection reset"), files.create("folder/file") as sink:
        sink.write(b"half")
        raise OSError("Connection reset")
    assert not files.exists("folder/file") and files.names("folder") == []


class Upload(io.BytesIO):
    """Put as a whole when it is closed, as object storage does; or not at all."""

    def __init__(self, storage: LosingLink, path: str) -> None:
        super().__init__()
        self.storage, self.path = storage, path

    def close(self):
        if not self.closed:
            content = self.getvalue()
            super().close()
            if self.storage.lost:
                raise OSError("Connection reset")
            with MemoryFileSystem._open(self.storage, self.path, "wb") as file:
                file.write(content)


class LosingLink(ObjectStore):
    lost = False

    def _open(self, path, mode="rb", **options):
        return Upload(self, path) if mode == "wb" else super()._open(path, mode, **options)


def replace_by_stream(files, path, content):
    with files.replace(path) as sink:
        sink.write(content)


@pytest.mark.parametrize("write", [Files.write, replace_by_stream])
def test_what_cannot_be_replaced_stays(write, monkeypatch):
    """A heartbeat that fails does not take the sign of life away."""
    monkeypatch.setattr(retry, "SECONDS", 0)  # which is not tried again
    storage = LosingLink()
    files = Store(f"{secrets.token_hex(4)}/store", storage).files
    write(files, "alive", b"old")
    storage.lost = True
    with pytest.raises(StoreError, match="Connection reset"):
        write(files, "alive", b"new")
    assert files.read("alive") == b"old"


@pytest.mark.parametrize("kind", ["uri", "memory", "object", "subtree", "mock"])
def test_a_replacement_that_was_not_finished_leaves_the_old_file(tmp_path, kind):
    files = dict(stores(tmp_path))[kind].files
    replace_by_stream(files, "folder/file", b"old")
    with pytest.raises(RuntimeError), files.replace("folder/file") as sink:
        sink.write(b"ne")
        raise RuntimeError("of the caller")
    assert files.read("folder/file") == b"old" and files.names("folder") == ["file"]


def test_a_stream_that_breaks_leaves_no_part(tmp_path):
    made = dataset(Store(tmp_path / "store"))
    with made.begin() as term:
        stream = pa.RecordBatchReader.from_batches(made.schema, breaking(rows(ids(0, 10)).to_batches()))
        with pytest.raises(StoreError, match="Connection reset"):
            term.handle.commit("broken", stream)
    assert [*tmp_path.rglob("parts/*")] == [] and made.snapshot().parts == []


def breaking(batches):
    yield from batches
    raise OSError("Connection reset")


def test_a_file_system_that_flushes_no_folders_has_stores(tmp_path, monkeypatch):
    """As some network file systems do; that the disk is at fault is told all the same."""
    flush = os.fsync

    def refuse(number: int) -> None:
        def fsync(descriptor: int) -> None:
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                raise OSError(number, os.strerror(number))
            flush(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)

    refuse(errno.EINVAL)
    Files.at(str(tmp_path)).write("a", b"a")
    refuse(errno.EIO)
    with pytest.raises(StoreError):
        Files.at(str(tmp_path)).write("b", b"b")


def test_a_home_that_nobody_has_is_a_folder_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Files.at("~nosuchuser/store").write("a", b"a")
    assert (tmp_path / "~nosuchuser" / "store" / "a").read_bytes() == b"a"
