"""Failure rows: an input that could not be done, the stage it failed at, and why."""

from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa

from feature_store import failure_schema

DEFERRED = "storage"
"""The stage of an input that could not be read through no fault of its own. It is never committed, so that the input is
done when the same command runs again."""

REASON_CHARACTERS = 500


def failure(one: pa.Table, stage: str, reason: str) -> pa.Table:
    """A row of failures for a table of one input."""
    (given,) = one.to_pylist()
    failures = Failures.before(one)
    failures.add(given[one.column_names[0]], given.get("uri") or "", given.get("version"), stage, reason)
    return failures.table()


@dataclass
class Failures:
    """The failure rows of a work unit, in the making.

    Attributes:
        tries: how often each input failed in earlier runs, by its id.
        id_column: what the set calls its ids.
    """

    tries: dict[str, int] = field(default_factory=dict)
    id_column: str = "image_id"
    rows: list[dict] = field(default_factory=list)

    @classmethod
    def before(cls, unit: pa.Table) -> Failures:
        """No row yet of ``unit``, whose first column is the id."""
        tries = dict(zip(unit[0].to_pylist(), unit["tries"].to_pylist(), strict=True))
        return cls(tries, unit.column_names[0])

    def add(self, id_: str, uri: str, version: str | None, stage: str, reason: str) -> None:
        """An input has failed. Of ``reason`` blanks and line ends are folded, and what is very long is cut."""
        row = {"uri": uri, "version": version, "stage": stage, "tries": self.tries.get(id_, 0) + 1}
        self.rows.append({self.id_column: id_, "reason": " ".join(reason.split())[:REASON_CHARACTERS], **row})

    def table(self) -> pa.Table:
        return pa.Table.from_pylist(self.rows, schema=failure_schema(self.id_column))
