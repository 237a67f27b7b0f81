"""Parquet tables that hold pictures: their cells, listed without their bytes, and the bytes of one."""

from __future__ import annotations

import posixpath
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs

from pipelines.inputs.members import Member, is_hidden, is_ours, refuse_changed

BLOCK = 1 << 20
"""Bytes fetched at once from object storage while pages are read."""

WINDOW = 32
"""Rows of a Parquet table decoded at once."""

OPEN_TABLES = 4

BYTES_COLUMNS = ("image", "bytes", "image_bytes", "jpg", "jpeg", "png", "webp")


class NoBytes(OSError):
    """A row of a table has no picture, but the name of its ``file``, as in Hugging Face's {bytes, path}."""

    def __init__(self, file: str) -> None:
        super().__init__(f"the row has no bytes, but the path {file}")
        self.file = file


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
        ids = text_column(table, "image_id")
        paths, states = text_column(table, path), text_column(table, "status")
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


def text_column(table: pa.Table, column: str | None) -> list[str | None] | None:
    """A column as strings, None if it is not there."""
    parent, _, child = (column or "").partition(".")
    if parent not in table.column_names:
        return None
    values = pc.struct_field(table[parent], child) if child else table[parent]
    return values.cast(pa.string()).to_pylist()


def read_cell(filesystem: fs.FileSystem, path: str, address: str, version: str | None) -> bytes:
    """The bytes at an address ``cell://`` in the Parquet file ``path``; of ``version``, where that is one of ours.

    Raises:
        NoBytes: the picture is a file of its own.
        OSError, pa.ArrowException: the file cannot be read, or is not the one that was listed.
    """
    group, row, column = address.removeprefix("cell://").split("/")

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


class Rows:
    """One column of one row group, read forwards in windows: a later row costs what is new, an earlier one all."""

    def __init__(self, open_file: Callable[[], pa.NativeFile], group: int, column: str) -> None:
        self.open_file, self.group, self.column = open_file, group, column
        self.lock = threading.Lock()
        self._start()

    def _start(self) -> None:
        file = pq.ParquetFile(self.open_file(), pre_buffer=False, buffer_size=BLOCK)
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
