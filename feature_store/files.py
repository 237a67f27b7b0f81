"""The files below a store's root, on any file system that pyarrow or fsspec knows.

A file appears whole or not at all: a local one is written under a temporary name, synced and renamed; object storage
puts whole objects. Paths are relative to the root.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ParamSpec, TypeVar

import pyarrow as pa
from pyarrow import fs

from feature_store.errors import StoreError, explained
from feature_store.retry import retried
from feature_store.uris import as_arrow, locate

if TYPE_CHECKING:
    from typing_extensions import Buffer

TEMPORARY = ".tmp-"
"""In the name of every local file that is still being written."""

UPLOAD_BYTES = 8 << 20


Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def again(method: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """A method whose request may be made twice, and is while storage is away or overloaded."""

    @wraps(method)
    def call(*given: Arguments.args, **named: Arguments.kwargs) -> Result:
        return retried(lambda: method(*given, **named))

    return call


@dataclass(frozen=True)
class Files:
    """A file system and the root in it. Picklable."""

    filesystem: fs.FileSystem
    root: str
    shown: str

    @classmethod
    def at(cls, root: str | os.PathLike[str], filesystem: Any = None) -> Files:
        """``root`` is a local path, a uri, or a path inside ``filesystem`` (pyarrow's or fsspec's)."""
        shown = os.fspath(root)
        if filesystem is not None:
            return cls(as_arrow(filesystem), shown.rstrip("/"), shown)
        if "://" not in shown:
            return cls(fs.LocalFileSystem(), os.path.abspath(os.path.expanduser(shown)), shown)
        with explained(f"Opening {shown}"):
            found, path = locate(shown)
        return cls(found, path, shown)

    @property
    def local(self) -> bool:
        return isinstance(self.filesystem, fs.LocalFileSystem)

    def full(self, path: str) -> str:
        return f"{self.root}/{path}" if path else self.root

    def show(self, path: str) -> str:
        return f"{self.shown.rstrip('/')}/{path}" if path else self.shown

    @again
    def infos(self, folder: str) -> list[fs.FileInfo]:
        """What lies directly in ``folder``; nothing if there is no such folder."""
        # fsspec remembers listings; the ledger's safety rests on seeing what others have just written.
        handler = getattr(self.filesystem, "handler", None)
        if isinstance(handler, fs.FSSpecHandler):
            handler.fs.invalidate_cache()
        # Of Google's storage pyarrow does not list the folders that it did not make itself.
        is_gcs = self.filesystem.type_name == "gcs"
        selector = fs.FileSelector(self.full(folder), allow_not_found=True, recursive=is_gcs)
        with explained(f"Listing {self.show(folder)}"):
            infos: list[fs.FileInfo] = self.filesystem.get_file_info(selector)
            return directly_in(self.full(folder), infos) if is_gcs else infos

    def names(self, folder: str) -> list[str]:
        """Sorted names in ``folder``, without files that are still being written."""
        return sorted(info.base_name for info in self.infos(folder) if TEMPORARY not in info.base_name)

    @again
    def exists(self, path: str) -> bool:
        with explained(f"Looking for {self.show(path)}"):
            there: bool = self.filesystem.get_file_info(self.full(path)).type != fs.FileType.NotFound
            return there

    @again
    def size(self, path: str) -> int | None:
        """Bytes of a file; None if it is not there."""
        with explained(f"Looking for {self.show(path)}"):
            size: int | None = self.filesystem.get_file_info(self.full(path)).size
            return size

    @again
    def read(self, path: str) -> bytes | None:
        """A small file's contents; None if it is not there."""
        try:
            with explained(f"Reading {self.show(path)}"), self.filesystem.open_input_stream(self.full(path)) as stream:
                content: bytes = stream.read()
                return content
        except FileNotFoundError:
            return None

    @again
    def open(self, path: str) -> pa.NativeFile:
        """A random-access file.

        Raises:
            FileNotFoundError: it is not there.
        """
        with explained(f"Opening {self.show(path)}"):
            return self.filesystem.open_input_file(self.full(path))

    @again
    def sha256(self, path: str) -> str:
        digest = hashlib.sha256()
        with explained(f"Reading {self.show(path)}"), self.filesystem.open_input_stream(self.full(path)) as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
        return digest.hexdigest()

    @again
    def write(self, path: str, content: bytes) -> None:
        """Put a small file in place. One of that name is replaced, and stays if this fails."""
        if self.local:
            with self.create(path) as sink:
                sink.write(content)
            return
        with explained(f"Writing {self.show(path)}"), self._open_remote(path) as stream:
            stream.write(content)

    @contextmanager
    def replace(self, path: str) -> Iterator[Sink]:
        """``create`` for a name that may be there already: the old file stays unless the block ends well."""
        if self.local:
            with self.create(path) as sink:
                yield sink
            return
        # A stream to object storage cannot be given up: closing it, in whatever way, puts what it has.
        with explained(f"Writing {self.show(path)}"), tempfile.NamedTemporaryFile() as spooled:
            yield Sink(spooled)
            spooled.flush()
            with open(spooled.name, "rb") as whole, self._open_remote(path) as stream:
                shutil.copyfileobj(whole, stream, UPLOAD_BYTES)

    @contextmanager
    def create(self, path: str) -> Iterator[Sink]:
        """Write a file of a new name, which appears only when the block ends without an exception."""
        with explained(f"Writing {self.show(path)}"):
            if self.local:
                with self._create_local(self.full(path)) as sink:
                    yield sink
            else:
                with self._create_remote(path) as sink:
                    yield sink

    @contextmanager
    def _create_local(self, path: str) -> Iterator[Sink]:
        temporary = f"{path}{TEMPORARY}{secrets.token_hex(4)}"
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            with open(temporary, "wb") as stream:
                yield Sink(stream)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        sync_folder(os.path.dirname(path))

    @contextmanager
    def _create_remote(self, path: str) -> Iterator[Sink]:
        stream = self._open_remote(path)
        try:
            yield Sink(stream)
            stream.close()
        except BaseException:
            with suppress(OSError):
                stream.close()
            with suppress(OSError):
                self.filesystem.delete_file(self.full(path))
            raise

    def _open_remote(self, path: str) -> pa.NativeFile:
        full = self.full(path)
        try:
            return self.filesystem.open_output_stream(full)
        except FileNotFoundError:
            # Only where folders are real: in object storage, making one may need rights that writing does not.
            self.filesystem.create_dir(full.rpartition("/")[0], recursive=True)
            return self.filesystem.open_output_stream(full)

    @again
    def delete(self, path: str) -> None:
        """Remove a file, if it is there."""
        try:
            with explained(f"Deleting {self.show(path)}"):
                self.filesystem.delete_file(self.full(path))
        except FileNotFoundError:
            pass

    @again
    def delete_folder(self, path: str) -> None:
        try:
            with explained(f"Deleting {self.show(path)}"):
                self.filesystem.delete_dir(self.full(path))
        except FileNotFoundError:
            pass


def directly_in(folder: str, infos: list[fs.FileInfo]) -> list[fs.FileInfo]:
    """The files that lie in ``folder`` itself, and its folders, of all files below it."""
    found: dict[str, fs.FileInfo] = {}
    for info in infos:
        name, _, deeper = info.path.removeprefix(f"{folder}/").partition("/")
        found.setdefault(name, fs.FileInfo(f"{folder}/{name}", fs.FileType.Directory) if deeper else info)
    return list(found.values())


class Sink:
    """A file object that knows what has gone through it: ``bytes`` and ``sha256``."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._digest = stream, hashlib.sha256()
        self.bytes, self.closed = 0, False

    def write(self, data: Buffer) -> int:
        view = memoryview(data)
        self._stream.write(view)
        self._digest.update(view)
        self.bytes += view.nbytes
        return view.nbytes

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def tell(self) -> int:
        return self.bytes

    def flush(self) -> None:
        self._stream.flush()

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False


NOT_FOR_FOLDERS = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)
"""What file systems answer that know no fsync of a folder, as some network file systems do."""


def sync_folder(folder: str) -> None:
    if os.name == "nt":  # a folder cannot be opened there; the rename itself is journalled
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NOT_FOR_FOLDERS:
            raise
    finally:
        os.close(descriptor)


def read_json(content: bytes, shown: str) -> dict[str, Any]:
    try:
        values = json.loads(content)
    except ValueError as error:
        raise StoreError(f"{shown} is damaged: {error}. Restore this file from a backup.") from error
    if not isinstance(values, dict):
        raise StoreError(f"{shown} is damaged: it holds no mapping. Restore this file from a backup.")
    return values
