"""Committing parts, from any process or node that a term's handle was sent to."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_store.errors import StoreError
from feature_store.files import Files, Sink
from feature_store.ledger import TermHandle
from feature_store.parts import Part
from feature_store.retry import retried
from feature_store.schema import differences, failure_schema
from feature_store.snapshot import Snapshot

ROW_GROUP_BYTES = 8 << 20


@dataclass(frozen=True)
class Handle(TermHandle):
    """What a task needs to commit parts of a term. Small and picklable."""

    schema: pa.Schema
    id_column: str

    def snapshot(self, parts: Iterable[Part]) -> Snapshot:
        """Of some committed parts."""
        return Snapshot(self.files, self.folder, self.schema, self.id_column, list(parts))

    def part_name(self, ids: Iterable[str]) -> str:
        """The part of a unit of work: the same in this term for the same ids in the same order."""
        digest = hashlib.sha256()
        for id_ in ids:
            encoded = id_.encode()
            digest.update(len(encoded).to_bytes(8, "little") + encoded)
        return f"{self.term.writer}-{digest.hexdigest()[:16]}"

    def committed(self, name: str) -> Part | None:
        """The part of that name, if this term has committed it."""
        return self.ledger.entry(self.term, f"{name}.json")

    def commit(
        self,
        name: str,
        rows: pa.Table | pa.RecordBatchReader | None,
        failures: pa.Table | None = None,
        replaces: Iterable[str] = (),
    ) -> Part:
        """Write a part and enter it in the ledger. Does nothing if the part is committed already.

        Args:
            name: from ``part_name``.
            rows: of the set's schema. A table is sorted by id here; a reader must come sorted and is written as a
                stream.
            failures: of ``failure_schema``.
            replaces: names of committed parts that this one stands for from now on.

        Raises:
            StoreError: another writer has taken over, the rows do not fit the set, or the storage failed. The store
                is as it was.
        """
        committed = self.committed(name)
        self.refuse_if_taken_over()
        if committed:
            return committed

        def write() -> tuple[str, Written, Written]:
            file = f"{name}-{secrets.token_hex(3)}"
            try:
                written = self._write_rows(f"{self.folder}/parts/{file}.parquet", rows)
                failed = self._write_failures(f"{self.folder}/failures/{file}.parquet", failures)
            except BaseException:
                self._remove(file)
                raise
            return file, written, failed

        # A reader gives its rows once.
        file, written, failed = write() if isinstance(rows, pa.RecordBatchReader) else retried(write)
        part = Part(
            name=name, term=self.term.number, file=file, rows=written.rows, failures=failed.rows,
            bytes=written.bytes, sha256=written.sha256, failure_bytes=failed.bytes, failure_sha256=failed.sha256,
            first_id=written.first_id, last_id=written.last_id, row_groups=tuple(written.row_groups),
            time=time.time(), replaces=tuple(replaces),
        )  # fmt: skip
        # If this fails the entry may still have arrived, so the files stay; without an entry the next writer
        # sweeps them.
        self.ledger.add(self.term, part)
        # Looked at before and after: a newer writer lists our entries only after it has shown itself, so an entry
        # written before it could be seen is in its base.
        self.refuse_if_taken_over()
        return part

    def _write_rows(self, path: str, rows: pa.Table | pa.RecordBatchReader | None) -> Written:
        if isinstance(rows, pa.RecordBatchReader):
            fitted = (self._fit(pa.Table.from_batches([batch]), self.schema, "rows") for batch in rows)
            written = write_parquet(self.files, path, fitted, self.schema, self.id_column)
            if not written.rows:
                self.files.delete(path)
                return Written()
            return written
        if rows is None or not rows.num_rows:
            return Written()
        table = self._fit(rows, self.schema, "rows").sort_by(self.id_column)
        return write_parquet(self.files, path, [table], self.schema, self.id_column)

    def _write_failures(self, path: str, failures: pa.Table | None) -> Written:
        if failures is None or not failures.num_rows:
            return Written()
        schema = failure_schema(self.id_column)
        table = self._fit(failures, schema, "failures").sort_by(self.id_column)
        return write_parquet(self.files, path, [table], schema, self.id_column)

    def _fit(self, table: pa.Table, schema: pa.Schema, what: str) -> pa.Table:
        """``table`` with the set's order of columns and nullability."""
        wrong = differences(table.schema, schema)
        wrong += [
            f"column {field.name} has {table[field.name].null_count} nulls and may have none"
            for field in schema
            if not wrong and not field.nullable and table[field.name].null_count
        ]
        if wrong:
            raise StoreError(f"these {what} do not fit the set {self.files.show(self.folder)}: {'; '.join(wrong)}")
        return pa.Table.from_arrays([table[name] for name in schema.names], schema=schema)

    def _remove(self, file: str) -> None:
        # Rubbish without an entry is harmless; failing to remove it must not hide why the commit failed.
        for folder in ("parts", "failures"):
            with suppress(StoreError):
                self.files.delete(f"{self.folder}/{folder}/{file}.parquet")


@dataclass
class Written:
    """A Parquet file, or the absence of one."""

    rows: int = 0
    bytes: int = 0
    sha256: str = ""
    first_id: str = ""
    last_id: str = ""
    row_groups: list[int] = field(default_factory=list)


def write_parquet(files: Files, path: str, tables: Iterable[pa.Table], schema: pa.Schema, id_column: str) -> Written:
    """Tables whose ids ascend, from one to the next too, as one file."""
    written = Written()
    with files.create(path) as sink, open_writer(sink, schema, id_column) as writer:
        for group in in_row_groups(tables):
            check_ascending(group[id_column], written.last_id if written.rows else None)
            writer.write_table(group, row_group_size=group.num_rows)
            written.first_id = written.first_id if written.rows else group[id_column][0].as_py()
            written.last_id = group[id_column][-1].as_py()
            written.rows += group.num_rows
            written.row_groups.append(group.num_rows)
        writer.close()
        written.bytes, written.sha256 = sink.bytes, sink.sha256
    return written


def in_row_groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of about ``ROW_GROUP_BYTES``."""
    held = None
    for table in tables:
        held = table if held is None else pa.concat_tables([held, table])
        size = max(1, ROW_GROUP_BYTES * held.num_rows // max(held.nbytes, 1))
        whole = held.num_rows - held.num_rows % size
        yield from (held.slice(start, size) for start in range(0, whole, size))
        held = held.slice(whole)
    if held is not None and held.num_rows:
        yield held


def open_writer(sink: Sink, schema: pa.Schema, id_column: str) -> pq.ParquetWriter:
    # Statistics of ids serve look-ups; those of a tensor's numbers, and dictionaries of them, serve nobody.
    return pq.ParquetWriter(
        sink, schema, compression="zstd", compression_level=1, use_dictionary=False, write_statistics=[id_column]
    )


def check_ascending(ids: pa.ChunkedArray, before: str | None = None) -> None:
    ids = ids.combine_chunks()
    if before is not None:
        ids = pa.concat_arrays([pa.array([before], ids.type), ids])
    wrong = pc.less_equal(ids[1:], ids[:-1])
    if pc.any(wrong).as_py():
        at = pc.index(wrong, True).as_py()
        raise StoreError(
            f"ids must ascend and be unique in a part: {ids[at + 1].as_py()!r} follows {ids[at].as_py()!r}"
        )
