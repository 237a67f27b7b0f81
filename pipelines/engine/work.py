"""A unit of work, and its way to a worker: one row of bytes, so that Ray Data neither splits nor merges units."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import pyarrow as pa

from feature_store import Part

PACKED = pa.schema([("inputs", pa.large_binary()), ("replaces", pa.large_binary()), ("failures", pa.large_binary())])


class Unit(NamedTuple):
    """Inputs that become one part.

    Attributes:
        inputs: columns of the listing and ``tries``.
        replaces: the part in whose place the new one will be. Its rows of other inputs are taken over.
        failures: of that part, to be taken over.
    """

    inputs: pa.Table
    replaces: Part | None = None
    failures: pa.Table | None = None

    def pack(self) -> pa.Table:
        """A table of one row."""
        replaces = self.replaces.to_json() if self.replaces else None
        failures = None if self.failures is None else to_bytes(self.failures)
        row = {"inputs": to_bytes(self.inputs), "replaces": replaces, "failures": failures}
        return pa.Table.from_pylist([row], PACKED)

    @classmethod
    def unpack(cls, table: pa.Table) -> Unit:
        (row,) = table.to_pylist()
        return cls(
            from_bytes(row["inputs"]),
            Part.from_json(row["replaces"]) if row["replaces"] else None,
            from_bytes(row["failures"]) if row["failures"] else None,
        )


def count(chunk: pa.Table | Unit) -> int:
    """Inputs of a table or of a unit."""
    return (chunk.inputs if isinstance(chunk, Unit) else chunk).num_rows


def to_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def from_bytes(content: bytes) -> pa.Table:
    with pa.ipc.open_stream(content) as reader:
        return reader.read_all()


def merge(chunks: Iterable[pa.Table | Unit], rows: int) -> Iterator[pa.Table | Unit]:
    """Tables of at least ``rows``, but for the last one: few new inputs among many are no reason for small parts."""
    held: list[pa.Table] = []
    for chunk in chunks:
        if isinstance(chunk, Unit):
            yield chunk
            continue
        held.append(chunk)
        if sum(table.num_rows for table in held) >= rows:
            yield pa.concat_tables(held)
            held = []
    if held:
        yield pa.concat_tables(held)


def count_units(chunk: pa.Table | Unit, rows: int) -> int:
    """Units that a chunk is cut into."""
    return 1 if isinstance(chunk, Unit) else math.ceil(chunk.num_rows / rows)


def cut(chunk: pa.Table, rows: int) -> Iterator[Unit]:
    """A chunk in units of about equal size, at most ``rows``."""
    size = math.ceil(chunk.num_rows / count_units(chunk, rows))
    for start in range(0, chunk.num_rows, size):
        yield Unit(chunk.slice(start, size))
