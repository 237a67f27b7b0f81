"""What the ledger says of a part, as a JSON entry and as a row of ``base.parquet``."""

from __future__ import annotations

import builtins
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any

import pyarrow as pa


@dataclass(frozen=True)
class Part:
    """A committed unit of work.

    Attributes:
        name: a function of the term's writer and of the ids that the unit was asked for.
        term: number of the term in which it was committed.
        file: stem of its files in ``parts/`` and ``failures/``; another attempt at the same part has another.
        rows: rows in ``parts/``; no such file if 0.
        failures: rows in ``failures/``; no such file if 0.
        bytes, sha256: of the file in ``parts/``; 0 and "" if there is none. ``failure_*``: of the one in ``failures/``.
        first_id, last_id: smallest and largest id of the rows; "" if there are none.
        row_groups: rows of each row group.
        time: of the commit, seconds since 1970.
        replaces: names of the parts in whose place this one is.
        replaced: when another part took its place, else 0.
    """

    name: str
    term: int
    file: str
    rows: int
    failures: int
    bytes: int
    sha256: str
    failure_bytes: int
    failure_sha256: str
    first_id: str
    last_id: str
    row_groups: tuple[int, ...]
    time: float
    replaces: tuple[str, ...] = ()
    replaced: float = 0.0

    @property
    def path(self) -> str:
        """The file with its rows, below the set's folder; not there if it has none."""
        return f"parts/{self.file}.parquet"

    @property
    def failure_path(self) -> str:
        """The same for its failures."""
        return f"failures/{self.file}.parquet"

    @property
    def paths(self) -> list[str]:
        return [path for path, count in ((self.path, self.rows), (self.failure_path, self.failures)) if count]

    def to_json(self) -> builtins.bytes:
        return json.dumps(asdict(self), ensure_ascii=False).encode()

    @classmethod
    def from_json(cls, text: builtins.bytes) -> Part:
        """An entry.

        Raises:
            ValueError: the text is not a whole entry.
        """
        try:
            return cls.from_mapping(json.loads(text))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not an entry of the ledger: {error!r}") from error

    @classmethod
    def from_mapping(cls, values: dict[str, Any]) -> Part:
        known = {field.name: values[field.name] for field in fields(cls)}
        known["row_groups"], known["replaces"] = tuple(known["row_groups"]), tuple(known["replaces"])
        return cls(**known)


BASE_SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("term", pa.int64()),
        ("file", pa.string()),
        ("rows", pa.int64()),
        ("failures", pa.int64()),
        ("bytes", pa.int64()),
        ("sha256", pa.string()),
        ("failure_bytes", pa.int64()),
        ("failure_sha256", pa.string()),
        ("first_id", pa.string()),
        ("last_id", pa.string()),
        ("row_groups", pa.list_(pa.int64())),
        ("time", pa.float64()),
        ("replaces", pa.list_(pa.string())),
        ("replaced", pa.float64()),
    ]
)


def to_table(parts: Iterable[Part]) -> pa.Table:
    return pa.Table.from_pylist([asdict(part) for part in parts], BASE_SCHEMA)


def from_table(table: pa.Table) -> list[Part]:
    return [Part.from_mapping(values) for values in table.to_pylist()]
