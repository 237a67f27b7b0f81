"""What an error of storage means for a run: the picture's own, of the credentials, or passing (``classify``)."""

from __future__ import annotations

import io

import pyarrow as pa
from pyarrow import fs

from feature_store.errors import ErrorClass, classify
from feature_store.retry import retried
from feature_store.uris import split
from pipelines.errors import Fault, UserError

BLOCK = 1 << 20


def class_of(error: BaseException | str, uri: str) -> ErrorClass:
    """The class of an error at ``uri``, or of its message; the names in the uri are no signs."""
    return classify(error, names_in(uri))


def names_in(uri: str) -> list[str]:
    """What an error may call a file, or the one that a member of an archive lies in: its names, in any form."""
    inside = uri.partition("::")[2] if uri.startswith(("bytes://", "cell://")) else uri
    host, below = "", inside
    if "://" in inside:
        address, below, _ = split(inside)
        host = address.partition("://")[2].rpartition("@")[2].rstrip("/")
    return [name for name in (inside, f"{host}/{below}", f"'{below}'", f"'{host}'") if len(name) > 2]


def as_user_error(message: str, error: BaseException, uri: str = "") -> UserError:
    """What to raise for an error of storage: a Fault where it passes."""
    passing = class_of(error, uri) is ErrorClass.STORAGE
    return Fault(f"{message}. Run the same command again later.") if passing else UserError(message)


class AgainReader(io.RawIOBase):
    """A file in object storage, read forwards or anywhere; a request that storage refuses for a while is made again."""

    def __init__(self, filesystem: fs.FileSystem, path: str) -> None:
        self.filesystem, self.path, self.position = filesystem, path, 0
        self.file: pa.NativeFile | None = None
        self.length: int = retried(lambda: self._opened().size())

    def _opened(self) -> pa.NativeFile:
        if self.file is None:
            self.file = self.filesystem.open_input_file(self.path)
        return self.file

    def _read(self, size: int) -> bytes:
        try:
            return self._opened().read_at(size, self.position)
        except OSError:
            self.file = None  # another attempt opens it anew
            raise

    def readinto(self, buffer) -> int:
        size = min(len(buffer), self.length - self.position)
        data = retried(lambda: self._read(size)) if size else b""
        buffer[: len(data)] = data
        self.position += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.length}[whence]
        return self.position

    def size(self) -> int:
        """Bytes of the file."""
        return self.length

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


def open_file(filesystem: fs.FileSystem, path: str) -> pa.NativeFile | AgainReader:
    """A random-access file that outlives a storage's bad minute."""
    if isinstance(filesystem, fs.LocalFileSystem):
        return filesystem.open_input_file(path)
    return AgainReader(filesystem, path)


def open_stream(filesystem: fs.FileSystem, path: str, compression: str | None) -> pa.NativeFile | AgainReader:
    """A file to be read once from its beginning, unpacked on the way."""
    if isinstance(filesystem, fs.LocalFileSystem):
        return filesystem.open_input_stream(path, compression=compression)
    file = AgainReader(filesystem, path)
    if compression is None:
        return file
    return pa.CompressedInputStream(pa.PythonFile(io.BufferedReader(file, BLOCK), "r"), compression)
