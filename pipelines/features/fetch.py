"""The bytes of a picture, wherever a listing says that it lies: a file, a stretch of one, or a cell of a table."""

from __future__ import annotations

from datetime import datetime

import pyarrow as pa
from pyarrow import fs

from pipelines.errors import UserError
from pipelines.files.filesystems import as_uri, locate, version_of
from pipelines.inputs import shards

MAX_BYTES = 512 << 20
"""Larger pictures are refused unread."""


class ReadError(Exception):
    """A picture could not be read."""


def read(uri: str, version: str | None = None) -> tuple[str | None, bytes]:
    """A picture's version and contents.

    Args:
        version: as it was listed. That of a whole file is looked at again, unless a user's listing gave it.

    Raises:
        ReadError: no file, no permission, a failing network; too large.
    """
    try:
        address, place = shards.parse(uri) or ("", uri)
        filesystem, path = opened(place)
        if address:
            size = shards.size_of(address)
            refuse_large(size or 0)
            return version, _read_member(filesystem, path, address, version, place)
        given = version and not shards.is_ours(version)
        if isinstance(filesystem, fs.S3FileSystem):
            found, data = _read_object(filesystem, path)
            return version if given else found, data
        info = filesystem.get_file_info(path)  # opening a pipe would wait for ever
        if info.type != fs.FileType.File:
            raise ReadError("no such file" if info.type == fs.FileType.NotFound else "not a file")
        if info.size is not None:
            refuse_large(info.size)
        with filesystem.open_input_stream(path) as stream:
            return version if given else version_of(filesystem, info), stream.read()
    except (OSError, UserError, pa.ArrowException) as error:
        raise ReadError(str(error)) from error


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
        return shards.read_member(filesystem, path, address, version)
    except shards.NoBytes as row:
        try:
            return read(row.file if "://" in row.file else as_uri(filesystem, row.file, place))[1]
        except ReadError as error:
            raise ReadError(f"{row}, of which is said: {error}") from None


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
