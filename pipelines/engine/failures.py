"""Failure rows: an input that could not be done, the stage it failed at, and why."""

from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa

from feature_store import failure_schema

DEFERRED = "storage"
"""The stage of an input that could not be read through no fault of its own. It is never committed, so that the input is
done when the same command runs again."""


def failure(one: pa.Table, stage: str, reason: str) -> pa.Table:
    """A row of failures for a table of one input."""
    (given,) = one.to_pylist()
    row = {"uri": given.get("uri") or "", "version": given.get("version"), "tries": given["tries"] + 1}
    row |= {one.column_names[0]: one[0][0].as_py(), "stage": stage, "reason": " ".join(reason.split())[:500]}
    return pa.Table.from_pylist([row], failure_schema(one.column_names[0]))


@dataclass
class Failures:
    """Rows of ``failures`` in the making. ``tries`` says how often each image failed before."""

    tries: dict[str, int] = field(default_factory=dict)
    rows: list[dict] = field(default_factory=list)

    @classmethod
    def before(cls, unit: pa.Table) -> Failures:
        """None yet of this unit, whose images may have failed in earlier runs."""
        return cls(dict(zip(unit["image_id"].to_pylist(), unit["tries"].to_pylist(), strict=True)))

    def add(self, image_id: str, uri: str, version: str | None, stage: str, reason: str) -> None:
        tries = self.tries.get(image_id, 0) + 1
        reason = " ".join(reason.split())[:500]
        row = {"image_id": image_id, "uri": uri, "version": version, "stage": stage, "reason": reason, "tries": tries}
        self.rows.append(row)

    def table(self) -> pa.Table:
        return pa.Table.from_pylist(self.rows, schema=failure_schema())
