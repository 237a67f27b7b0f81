"""The bytes of a picture, wherever a listing says that it lies: a file, a stretch of one, or a cell of a table."""

from __future__ import annotations

from datetime import datetime

import pyarrow as pa
from pyarrow import fs

from feature_store.errors import RESUME, RESUME_LATER, ErrorClass
from feature_store.retry import retried
from pipelines.errors import Fault, UserError
from pipelines.files.filesystems import as_uri, locate, version_of
from pipelines.files.storage import class_of
from pipelines.inputs.members import is_ours, parse_address, size_of
from pipelines.inputs.table_shards import NoBytes, read_cell
from pipelines.inputs.tar_shards import read_stretch

MAX_BYTES = 512 << 20
"""Larger pictures are refused unread."""
STREAK = 8
"""Reads in a row that only ill storage or bad credentials explain."""


class ReadError(Exception):
    """A picture could not be read; ``kind`` says whose fault that is."""

    def __init__(self, reason: str, kind: ErrorClass = ErrorClass.OBJECT) -> None:
        super().__init__(reason)
        self.kind = kind

    @property
    def is_of_storage(self) -> bool:
        """Whether it says nothing of the picture: storage is ill, or the credentials are."""
        return self.kind in (ErrorClass.STORAGE, ErrorClass.ACCOUNT)


class UnreadStreak:
    """The reads in a row that failed, of a unit of ``count`` pictures: many of them are no picture's fault.

    Attributes:
        errors: the last of the unit, in a row, that storage, the credentials or closed doors explain.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.errors: list[ReadError] = []

    def reset(self) -> None:
        """A picture was read."""
        self.errors = []

    def add(self, error: ReadError) -> None:
        """A picture could not be read.

        Raises:
            UserError: nothing can be; ``STREAK`` are enough, because each has been tried for long.
        """
        self.errors = [] if error.kind is ErrorClass.OBJECT else [*self.errors, error]
        if len(self.errors) == STREAK and not self.denied:
            self.tell()

    def end(self) -> None:
        """The unit is read.

        Raises:
            UserError: as for ``add``; some pictures alone may well be denied, but a whole unit of them is told, too.
        """
        if len(self.errors) > 1 and (not self.denied or len(self.errors) == self.count):
            self.tell()

    @property
    def denied(self) -> bool:
        return any(error.kind is ErrorClass.DENIED for error in self.errors)

    def tell(self) -> None:
        passing = all(error.kind is ErrorClass.STORAGE for error in self.errors)
        wanting, then = ("storage that answers", RESUME_LATER) if passing else ("valid credentials", RESUME)
        raise (Fault if passing else UserError)(
            f"{len(self.errors)} images in a row could not be read, for want of {wanting}, so none of them is noted as "
            f"failed. The last said: {self.errors[-1]}. {then}"
        )


def read(uri: str, version: str | None = None, seconds: float | None = None) -> tuple[str | None, bytes]:
    """A picture's version and contents. While storage is overloaded or away it is asked again, see ``retried``.

    Args:
        version: as it was listed. That of a whole file is looked at again, unless a user's listing gave it.
        seconds: for which storage is asked again; by default ``retry.SECONDS``.

    Raises:
        ReadError: no file, no permission, a failing network; too large.
    """
    return retried(lambda: read_once(uri, version), seconds, is_passing)


def is_passing(error: BaseException) -> bool:
    return isinstance(error, ReadError) and error.kind is ErrorClass.STORAGE


def read_once(uri: str, version: str | None) -> tuple[str | None, bytes]:
    """``read`` in one attempt."""
    try:
        address, place = parse_address(uri) or ("", uri)
        filesystem, path = opened(place)
        if address:
            size = size_of(address)
            refuse_large(size or 0)
            return version, _read_member(filesystem, path, address, version, place)
        given = version and not is_ours(version)
        if isinstance(filesystem, fs.S3FileSystem):
            found, data = _read_object(filesystem, path)
            return version if given else found, data
        info = filesystem.get_file_info(path)  # opening a pipe would wait for ever
        if info.type != fs.FileType.File:
            raise ReadError("no such file" if info.type == fs.FileType.NotFound else "not a file")
        if info.size is not None:
            refuse_large(info.size)
        with filesystem.open_input_stream(path, compression=None) as stream:  # of as many bytes as were looked at
            return version if given else version_of(filesystem, info), stream.read()
    except (OSError, UserError, pa.ArrowException) as error:
        raise ReadError(str(error), class_of(error, uri)) from error
    except ReadError:
        raise
    except Exception as error:  # clients of fsspec have errors of their own
        kind = class_of(error, uri)
        if kind is ErrorClass.OBJECT:
            raise
        raise ReadError(f"{type(error).__name__}: {error}", kind) from error


def opened(place: str) -> tuple[fs.FileSystem, str]:
    """The filesystem of an address, and the path in it.

    Raises:
        ReadError: the address has not the form that its scheme asks for, on which fsspec's parsers raise anything.
    """
    try:
        return locate(place)
    except (OSError, UserError, pa.ArrowException):
        raise
    except Exception as error:
        scheme = place.partition("://")[0]
        raise ReadError(f"an address that {scheme}:// does not take ({type(error).__name__}: {error})") from None


def _read_member(filesystem: fs.FileSystem, path: str, address: str, version: str | None, place: str) -> bytes:
    try:
        return (read_stretch if address.startswith("bytes://") else read_cell)(filesystem, path, address, version)
    except NoBytes as row:
        try:
            return read(row.file if "://" in row.file else as_uri(filesystem, row.file, place))[1]
        except ReadError as error:
            raise ReadError(f"{row}, of which is said: {error}", error.kind) from None


def _read_object(filesystem: fs.S3FileSystem, path: str) -> tuple[str, bytes]:
    """In two requests: opening one tells its size and time, too."""
    try:
        file = filesystem.open_input_file(path)
    except FileNotFoundError:
        raise ReadError("no such file") from None
    with file:
        size, time = file.size(), datetime.fromisoformat(file.metadata()["Last-Modified"].decode())
        refuse_large(size)
        return f"{size}-{int(time.timestamp())}", file.read()


def refuse_large(size: int) -> None:
    if size > MAX_BYTES:
        raise ReadError(f"{size:,} bytes, more than {MAX_BYTES:,}")
