"""Pictures inside of larger files: members of tar shards (WebDataset), cells of Parquet tables.

What is listed of one is an address of its bytes, so that a worker reads those alone:

==========================================  =============================================
``bytes://OFFSET+SIZE::URI``                a stretch of the file URI
``cell://GROUP/ROW/COLUMN::URI``            row ROW of a row group of the Parquet file URI
==========================================  =============================================
"""

from __future__ import annotations

import io
import posixpath
import re
import sys
import tarfile
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Self, TypeGuard

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs

from feature_store.errors import ErrorClass
from pipelines.files.filesystems import version_of
from pipelines.files.storage import class_of, open_file

TAR_BLOCK = 8 << 20
"""Bytes fetched at once from object storage while the headers of a tar are read. A request takes as long as 2 MB do, so
members up to some MB are read through rather than skipped, and in blocks that make the requests cheap."""
TABLE_BLOCK = 1 << 20
"""The same for the pages of a Parquet table."""
WINDOW = 32
"""Rows of a Parquet table decoded at once."""
OPEN_TABLES = 4
LOOK_AGAIN = 60
"""Seconds after which it is asked again whether an object has changed: members of one archive share the request."""
CHANGED = "the file has changed since it was listed; list it anew"
BYTES_COLUMNS = ("image", "bytes", "image_bytes", "jpg", "jpeg", "png", "webp")

NAME_TYPES = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)
NAME_BYTES = 1 << 20
"""More of a long name or of a pax header is no name."""

NO_FILE = {
    tarfile.LNKTYPE: "a hard link to {}, of which no file comes before it in the archive",
    tarfile.SYMTYPE: "a symbolic link to {}, of which no file comes before it in the archive",
}


class NoBytes(OSError):
    """A row of a table has no picture, but the name of its ``file``, as in Hugging Face's {bytes, path}."""

    def __init__(self, file: str) -> None:
        super().__init__(f"the row has no bytes, but the path {file}")
        self.file = file


class Member(NamedTuple):
    """A file in a shard. ``address`` stands for ``URI::``; ``problem`` says why it, or what comes after, is lost."""

    name: str
    address: str
    version: str | None
    problem: str | None = None


def tar_members(filesystem: fs.FileSystem, path: str, version: str) -> Iterator[Member]:
    """Files of a tar in its order, read header by header. Names are only names, whatever they hold.

    A link is the member that it leads to. A name that is there again gets a number: ``name (2)``. Where the file is cut
    off or broken the last member has the name "" and a problem; those before it are good.

    Args:
        version: of the shard; a member's own is its size and time, and this where the archive keeps no times.
    """
    files: dict[str, Member] = {}  # by the name that links use
    names: set[str] = set()
    times: Counter[str] = Counter()
    try:
        with open_file(filesystem, path) as file:
            size = file.size()
            local = isinstance(filesystem, fs.LocalFileSystem)
            buffered = io.BufferedReader(file, 4096 if local else TAR_BLOCK)
            for info in _headers(buffered):
                if info.isdir():
                    continue
                if info.isreg() and info.offset_data + info.size > size and not info.issparse():
                    raise tarfile.ReadError(f"the file has {size:,} bytes and ends inside of {info.name!r}")
                name, times[info.name] = info.name, max(times[info.name], 1)
                while name in names:
                    times[info.name] += 1
                    name = f"{info.name} ({times[info.name]})"
                names.add(name)
                member = _member(info, files, version)._replace(name=name)
                if not member.problem:
                    files[posixpath.normpath(info.name)] = member
                yield member
    except (tarfile.TarError, ValueError, OverflowError, RecursionError, OSError) as error:
        if isinstance(error, OSError) and class_of(error, path) is ErrorClass.STORAGE:
            raise
        yield Member("", "", version, f"not a whole tar archive, its members from here on are lost: {error}")


def _member(info: tarfile.TarInfo, files: dict[str, Member], version: str) -> Member:
    """Of a header, after ``files``. Links that lead nowhere, devices and the like have a problem."""
    known = f"{info.size}-{int(info.mtime)}" if info.mtime else f"{info.size}@{version}"
    if info.isreg():
        problem = "a sparse file, whose bytes do not lie together" if info.issparse() else None
        return Member(info.name, f"bytes://{info.offset_data}+{info.size}", known, problem)
    # A hard link's target is a name in the archive; that of a symbolic link starts from the link's own folder.
    folder = posixpath.dirname(info.name) if info.issym() else ""
    target = files.get(posixpath.normpath(posixpath.join(folder, info.linkname)))
    if target and (info.islnk() or info.issym()):
        return target
    problem = NO_FILE.get(info.type, "a device or a pipe").format(info.linkname)
    return Member(info.name, "bytes://0+0", known, problem)


class Header(tarfile.TarInfo):
    """A header that is refused where ``tarfile`` would read its size at once, or go backwards by it, for ever."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        header = super().frombuf(buf, encoding, errors)
        if header.size < 0 or (header.type in NAME_TYPES and header.size > NAME_BYTES):
            raise tarfile.ReadError(f"a header that says {header.size:,} bytes")
        return header


def _headers(file: io.BufferedReader) -> Iterator[tarfile.TarInfo]:
    """Every header up to the mark of the end. ``tarfile`` itself takes a broken header for the end."""
    if not file.peek(1):
        raise tarfile.ReadError("the file is empty")
    with tarfile.TarFile(fileobj=file, encoding="utf-8", errors="backslashreplace") as tar:
        tar.offset = 0
        while True:
            file.seek(tar.offset)
            try:
                info = Header.fromtarfile(tar)
            except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # not in typeshed
                return
            except tarfile.EmptyHeaderError:  # type: ignore[attr-defined]  # not in typeshed
                raise tarfile.ReadError("it ends without the mark of its end") from None
            if info.size < 0:  # says a header before it
                raise tarfile.ReadError(f"a header that says {info.size:,} bytes")
            yield info


def is_hidden(path: str) -> bool:
    """Whether a file, named from the folder or archive that is listed, is hidden or lies in a hidden folder. Macs put
    one beside each file (``._NAME``, AppleDouble, RFC 1740), in archives below ``__MACOSX``, too."""
    return any((part.startswith(".") and part not in (".", "..")) or part == "__MACOSX" for part in path.split("/"))


def bytes_column(schema: pa.Schema) -> str | None:
    """The column of a Parquet table that holds pictures, as ``parent.child`` in a struct (Hugging Face's way)."""
    for name in BYTES_COLUMNS:
        if name in schema.names:
            kind = schema.field(name).type
            if is_binary(kind):
                return name
            if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0 and is_binary(kind.field("bytes").type):
                return f"{name}.bytes"
    return None


def is_binary(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)


def table_cells(file: pq.ParquetFile, column: str, version: str, shard: str) -> Iterator[Member | None]:
    """The pictures of a Parquet table in its order; the bytes stay unread. Named by ``image_id``, else by row, as in
    ``shard/00000017``. None stands for a row that is no picture: of a hidden file (Hugging Face's ``path``), or one
    that img2dataset could not download (its ``status``)."""
    first = 0
    known = file.schema_arrow
    path = path_column(known, column)
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        wanted = [name for name in ("image_id", "status", path) if name and (name == path or name in known.names)]
        table = file.read_row_group(group, wanted) if wanted else pa.table({})
        ids = texts(table, "image_id")
        paths, states = texts(table, path), texts(table, "status")
        for row in range(rows):
            if (paths and is_hidden(paths[row] or "")) or (states and (states[row] or "").startswith("failed")):
                yield None
                continue
            image_id = ids[row] if ids else None
            name = f"{shard}/{first + row:08d}" if image_id is None else image_id
            yield Member(name, f"cell://{group}/{row}/{column}", version)
        first += rows


def path_column(schema: pa.Schema, column: str) -> str | None:
    """Where the names of the pictures in ``column`` are, as ``parent.path``, if they have any."""
    parent, _, child = column.partition(".")
    return f"{parent}.path" if child and schema.field(parent).type.get_field_index("path") >= 0 else None


def texts(table: pa.Table, column: str | None) -> list[str | None] | None:
    """A column as strings, None if it is not there."""
    parent, _, child = (column or "").partition(".")
    if parent not in table.column_names:
        return None
    values = pc.struct_field(table[parent], child) if child else table[parent]
    return values.cast(pa.string()).to_pylist()


# Reading


def parse(uri: str) -> tuple[str, str] | None:
    """An address and the uri of the file that it lies in; None for the uri of a whole file."""
    match = re.match(r"((?:bytes://\d+\+\d+)|(?:cell://\d+/\d+/[\w.]+))::(.+)", uri, re.DOTALL)
    return (match[1], match[2]) if match else None


def size_of(address: str) -> int | None:
    """Bytes of what is at an address, where it tells."""
    return int(address.rpartition("+")[2]) if address.startswith("bytes://") else None


def read_member(filesystem: fs.FileSystem, path: str, address: str, version: str | None) -> bytes:
    """The bytes at an address in the file ``path``; of ``version``, where that is one of this module's.

    Raises:
        OSError, pa.ArrowException: the file cannot be read, is shorter, or is not the one that was listed.
    """
    scheme, _, where = address.partition("://")
    if scheme == "bytes":
        offset, size = map(int, where.split("+"))
        return _read_stretch(filesystem, path, offset, size, version)
    group, row, column = where.split("/")

    def open_file() -> pa.NativeFile:
        file = filesystem.open_input_file(path)
        if is_ours(version):
            refuse_changed(filesystem, path, version)
        return file

    data = TABLES.get((path, version, int(group), column), open_file).row(int(row))
    if data is not None:
        return data
    parent, _, child = column.partition(".")
    name = TABLES.get((path, version, int(group), f"{parent}.path"), open_file).row(int(row)) if child else None
    if not name:
        raise OSError("there are no bytes in this row")
    raise NoBytes(name if "://" in name else posixpath.join(posixpath.dirname(path), name))


def _read_stretch(filesystem: fs.FileSystem, path: str, offset: int, size: int, version: str | None) -> bytes:
    """With the header before it, so that it takes no request more to see whether it is the member that was listed."""
    known = re.fullmatch(rf"{size}(?:-(\d+)|@(.+))", version or "") if offset >= tarfile.BLOCKSIZE else None
    start = offset - tarfile.BLOCKSIZE if known else offset
    with filesystem.open_input_file(path) as file:
        data = file.read_at(offset + size - start, start)
    missing = offset + size - start - len(data)
    if missing:
        raise OSError(f"the file ends {missing:,} bytes before the end of this member")
    if known is None:
        return data
    _refuse_other_member(data[: tarfile.BLOCKSIZE], size, int(known[1] or 0))
    if shard := known[2]:
        local, now = isinstance(filesystem, fs.LocalFileSystem), time.monotonic()
        if local or now - LOOKED.get((path, shard), -LOOK_AGAIN) >= LOOK_AGAIN:
            refuse_changed(filesystem, path, shard)
            LOOKED[path, shard] = now
    return data[tarfile.BLOCKSIZE :]


LOOKED: dict[tuple[str, str], float] = {}
"""When a file was last seen to be of the version that was listed."""


def _refuse_other_member(header: bytes, size: int, mtime: int) -> None:
    try:
        info = tarfile.TarInfo.frombuf(header, "utf-8", "backslashreplace")
    except tarfile.HeaderError:
        raise OSError(CHANGED) from None
    # A later time is in a header before this one; and the fraction of a second that is there may have been rounded up.
    if info.size != size or (mtime < 8**11 and not 0 <= mtime - info.mtime <= 1):
        raise OSError(CHANGED)


def is_ours(version: str | None) -> TypeGuard[str]:
    """Whether it looks like ``version_of`` a file, rather than a version that a user's listing gave."""
    return re.fullmatch(r"\d+-(0|-?\d{9,})", version or "") is not None


def refuse_changed(filesystem: fs.FileSystem, path: str, version: str) -> None:
    if version_of(filesystem, filesystem.get_file_info(path)) != version:
        raise OSError(CHANGED)


class Rows:
    """One column of one row group, read forwards in windows: going on costs what is new, going back starts again."""

    def __init__(self, open_file: Callable[[], pa.NativeFile], group: int, column: str) -> None:
        self.open_file, self.group, self.column = open_file, group, column
        self.lock = threading.Lock()
        self._start()

    def _start(self) -> None:
        file = pq.ParquetFile(self.open_file(), pre_buffer=False, buffer_size=TABLE_BLOCK)
        name, _, self.child = self.column.partition(".")
        kind = file.schema_arrow.field(name).type if name in file.schema_arrow.names else None
        there = kind is not None and (not self.child or kind.get_field_index(self.child) >= 0)
        if not there or self.group >= file.num_row_groups:
            raise OSError(f"there is no column {self.column} or row group {self.group}: the file has changed")
        self.batches = file.iter_batches(WINDOW, row_groups=[self.group], columns=[self.column])
        self.windows: list[pa.Array] = []
        self.first = 0

    def row(self, index: int) -> Any:
        with self.lock:
            if index < self.first:
                self._start()
            while index >= self.first + sum(map(len, self.windows)):
                self._advance()
            at = index - self.first
            for window in self.windows:
                if at < len(window):
                    return window[at].as_py()
                at -= len(window)

    def _advance(self) -> None:
        try:
            batch = next(self.batches, None)
        except Exception:  # with which the generator has ended, so the next call starts again
            self.first = sys.maxsize
            raise
        if batch is None:
            raise OSError(f"row group {self.group} has fewer rows: the file has changed")
        values = batch.column(0)
        self.windows.append(pc.struct_field(values, self.child) if self.child else values)
        if len(self.windows) > 2:  # threads that read ahead are a few rows apart
            self.first += len(self.windows.pop(0))


class Tables:
    """The row groups that this process reads from, the ones used last."""

    def __init__(self) -> None:
        self.open: OrderedDict[tuple[str, str | None, int, str], Rows] = OrderedDict()
        self.lock = threading.Lock()

    def get(self, key: tuple[str, str | None, int, str], open_file: Callable[[], pa.NativeFile]) -> Rows:
        with self.lock:
            if key not in self.open:
                self.open[key] = Rows(open_file, *key[2:])
            self.open.move_to_end(key)
            while len(self.open) > OPEN_TABLES:
                self.open.popitem(last=False)
            return self.open[key]


TABLES = Tables()
