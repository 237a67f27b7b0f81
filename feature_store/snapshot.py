"""Reading: a Snapshot is what was committed when it was made; later commits do not change it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_store.errors import StoreError, explained
from feature_store.files import Files
from feature_store.ledger import READ_THREADS
from feature_store.parts import Part
from feature_store.retry import retried
from feature_store.schema import failure_schema

KEPT_FOOTERS = 2000
"""Footers of parts kept in memory, some 10 kB each, so that reading row group by row group fetches none twice."""

Result = TypeVar("Result")


class RowGroup(NamedTuple):
    """The unit of reading: row group ``index`` of ``part``, with ``rows`` rows."""

    part: Part
    index: int  # type: ignore[assignment]  # nobody looks for a value in it, as tuple.index does
    rows: int


@dataclass
class Snapshot:
    """The committed parts of a set. Picklable; methods raise StoreError where a part is missing or damaged.

    Attributes:
        parts: in order of their first id.
        folder: of the set, relative to the store's root.
    """

    files: Files
    folder: str
    schema: pa.Schema
    id_column: str
    parts: list[Part]
    _metadata: dict[str, pq.FileMetaData] = field(default_factory=dict, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        # Without what has been read from files, so that it stays small on its way to a task.
        kept = ("files", "folder", "schema", "id_column", "parts")
        return {**{name: self.__dict__[name] for name in kept}, "_metadata": {}}

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.parts)

    @property
    def failed(self) -> int:
        """Inputs that gave no row so far."""
        return sum(table.num_rows for table in self.standing_failures.values())

    @property
    def paths(self) -> list[str]:
        """Parquet files with the rows, for other readers: full paths in the store's file system."""
        return [self.files.full(f"{self.folder}/{part.path}") for part in self.parts if part.rows]

    def row_groups(self) -> list[RowGroup]:
        """Every row group, known without opening a file."""
        return [RowGroup(part, index, rows) for part in self.parts for index, rows in enumerate(part.row_groups)]

    def read_row_group(self, part: Part, index: int, columns: Sequence[str] | None = None) -> pa.RecordBatch:
        """One row group; ``to_numpy`` views its tensor columns without copies."""
        names = self._columns(columns)
        return self._read(part, lambda file: as_batch(file.read_row_group(index, columns=names)))

    def scan(
        self, columns: Sequence[str] | None = None, parts: Iterable[Part] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """All rows, one batch per row group; ids ascend within a part. Holds one row group at a time."""
        columns = self._columns(columns)
        for part in self.parts if parts is None else parts:
            for index in range(len(part.row_groups)):
                yield self.read_row_group(part, index, columns)

    def take(self, ids: Sequence[str] | pa.Array, columns: Sequence[str] | None = None) -> pa.Table:
        """Rows by id, in the order asked, each as often as asked. Opens only parts whose range can hold an id.

        Raises:
            StoreError: some ids have no row; it names them.
        """
        wanted = pa.array(ids, self.schema.field(self.id_column).type)
        distinct = pc.unique(wanted).sort()
        columns = self._columns(columns)
        read = columns if self.id_column in columns else [*columns, self.id_column]
        bounds = distinct.to_numpy(zero_copy_only=False).astype(str)
        found = [table for part in self.parts if part.rows for table in self._matching(part, distinct, bounds, read)]
        schema = pa.schema([self.schema.field(name) for name in read])
        table = pa.concat_tables(found) if found else schema.empty_table()
        at = pc.index_in(wanted, table[self.id_column].combine_chunks())
        if at.null_count:
            raise StoreError(self._missing(wanted.filter(at.is_null())))
        return table.take(at).select(columns)

    def ids(self, include_failures: bool = True) -> pa.ChunkedArray:
        """Ids that have a row and, unless left out, those that have failed: what need not be done again."""
        chunks = [chunk for ids in self.iter_ids() for chunk in ids.chunks]
        if include_failures:
            chunks += self.failures()[self.id_column].chunks
        return pa.chunked_array(chunks, self.schema.field(self.id_column).type)

    def iter_ids(self, parts: Iterable[Part] | None = None) -> Iterator[pa.ChunkedArray]:
        """Ids of rows, part by part, several parts read at once."""
        return (table[0] for table in self.iter_columns([self.id_column], parts))

    def iter_columns(self, columns: Sequence[str], parts: Iterable[Part] | None = None) -> Iterator[pa.Table]:
        """Some small columns of each part that has rows, several parts read at once."""
        parts = [part for part in (self.parts if parts is None else parts) if part.rows]
        with ThreadPoolExecutor(READ_THREADS) as pool:
            for start in range(0, len(parts), 4 * READ_THREADS):  # bounded, however slow the caller is
                some = parts[start : start + 4 * READ_THREADS]
                yield from pool.map(lambda part: self._part_columns(part, columns), some)

    def failures(self) -> pa.Table:
        """Inputs without a row, each once with its latest reason, ordered by id."""
        tables = [*self.standing_failures.values(), failure_schema(self.id_column).empty_table()]
        return pa.concat_tables(tables).sort_by(self.id_column)

    @cached_property
    def standing_failures(self) -> dict[str, pa.Table]:
        """Of each part with failures, by name: those that have neither failed again nor succeeded since."""
        parts = sorted((part for part in self.parts if part.failures), key=lambda part: (part.term, part.time))
        with ThreadPoolExecutor(READ_THREADS) as pool:
            tables = list(pool.map(self.read_failures, parts))
        latest = {id_: part for part, table in zip(parts, tables, strict=True) for id_ in ids_of(table, self.id_column)}
        for done in self.iter_ids(self._later_parts(latest)):
            ids = pa.array(latest, done.type)
            for id_ in ids.filter(pc.is_in(ids, value_set=done)).to_pylist():
                del latest[id_]
        return {
            part.name: table.filter([latest.get(id_) is part for id_ in ids_of(table, self.id_column)])
            for part, table in zip(parts, tables, strict=True)
        }

    def _later_parts(self, failed: dict[str, Part]) -> list[Part]:
        """Parts in which a failed input may have succeeded: of a later term, and with ids in its range."""
        if not failed:
            return []
        first_term = min(part.term for part in failed.values())
        bounds = np.array(sorted(failed))
        return [p for p in self.parts if p.rows and p.term > first_term and may_hold(bounds, p.first_id, p.last_id)]

    def read_failures(self, part: Part) -> pa.Table:
        """The failures committed with ``part``, also those that have been overcome since."""

        def read() -> pa.Table:
            with explained_damage(self.files.show(f"{self.folder}/{part.failure_path}")):
                return pq.read_table(self._source(part.failure_path))

        return retried(read)

    def _part_columns(self, part: Part, columns: Sequence[str]) -> pa.Table:
        return self._read(part, lambda file: file.read(columns=list(columns)).select(columns))

    def _matching(self, part: Part, ids: pa.Array, bounds: np.ndarray, columns: list[str]) -> list[pa.Table]:
        """Rows of a part with one of ``ids``, by row group; nothing is read where none lies between its ends."""
        if not may_hold(bounds, part.first_id, part.last_id):
            return []

        def matching(file: pq.ParquetFile) -> Iterator[pa.Table]:
            own = file.read(columns=[self.id_column])[self.id_column].combine_chunks()
            hits = np.flatnonzero(pc.is_in(own, value_set=ids).to_numpy(zero_copy_only=False))
            starts = np.cumsum((0, *part.row_groups))
            groups = np.searchsorted(starts, hits, side="right") - 1
            for group in np.unique(groups):
                rows = file.read_row_group(int(group), columns=columns)
                yield rows.take(hits[groups == group] - starts[group])

        return self._read(part, lambda file: list(matching(file)))

    def _missing(self, ids: pa.Array) -> str:
        names = ids.unique().to_pylist()
        failed = self.failures()
        reasons = dict(zip(failed[self.id_column].to_pylist(), failed["reason"].to_pylist(), strict=True))
        shown = ", ".join(f"{name} (failed: {reasons[name]})" if name in reasons else name for name in names[:5])
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        return f"{self.files.show(self.folder)}: no rows for {len(names)} of the ids asked for: {shown}{more}"

    def _columns(self, columns: Sequence[str] | None) -> list[str]:
        unknown = [name for name in columns or () if name not in self.schema.names]
        if unknown:
            there = ", ".join(self.schema.names)
            raise StoreError(f"{self.files.show(self.folder)} has no column {', '.join(unknown)}; it has {there}")
        return list(self.schema.names if columns is None else columns)

    def _read(self, part: Part, read: Callable[[pq.ParquetFile], Result]) -> Result:
        """What ``read`` makes of a part's file; again from the start where storage fails for a while."""

        def whole() -> Result:
            with self._open(part) as file:
                return read(file)

        return retried(whole)

    @contextmanager
    def _open(self, part: Part) -> Iterator[pq.ParquetFile]:
        source = self._source(part.path)
        known = self._metadata.get(part.file)
        shown = self.files.show(f"{self.folder}/{part.path}")
        with explained_damage(shown), source, pq.ParquetFile(source, metadata=known, pre_buffer=True) as file:
            if known is None:
                if len(self._metadata) >= KEPT_FOOTERS:
                    self._metadata.clear()
                self._metadata[part.file] = file.metadata
            yield file

    def _source(self, path: str) -> pa.NativeFile:
        path = f"{self.folder}/{path}"
        try:
            return self.files.open(path)
        except FileNotFoundError as error:
            raise StoreError(
                f"{self.files.show(path)} is gone although it was committed: deleted by hand, or compacted and "
                "vacuumed since this reader began. Start again; if it is still missing, `rnncond store verify` tells "
                "what is lost."
            ) from error


@contextmanager
def explained_damage(shown: str) -> Iterator[None]:
    with explained(f"Reading {shown}"):
        try:
            yield
        except pa.ArrowInvalid as error:
            raise StoreError(f"{shown} is damaged: {error}. `rnncond store verify` tells what else is.") from error


def may_hold(sorted_ids: np.ndarray, first: str, last: str) -> bool:
    """Whether any of ``sorted_ids`` lies between ``first`` and ``last``, ends included."""
    at = np.searchsorted(sorted_ids, first)
    return bool(at < len(sorted_ids) and sorted_ids[at] <= last)


def ids_of(table: pa.Table, id_column: str) -> list[str]:
    ids: list[str] = table[id_column].to_pylist()
    return ids


def as_batch(table: pa.Table) -> pa.RecordBatch:
    return table.combine_chunks().to_batches()[0] if table.num_rows else table.schema.empty_table().to_batches()[0]
