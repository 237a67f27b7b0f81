"""What of the inputs is left to do: the listing against the set, chunk by chunk, in memory that does not grow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store import Index, Snapshot
from feature_store.errors import ErrorClass
from pipelines.engine.summary import RunSummary, describe_failures
from pipelines.engine.work import Unit
from pipelines.files.storage import class_of


class Pending:
    """The inputs of a run, against what ``snapshot`` has.

    Args:
        retry_failed: inputs that failed in earlier runs are left to do.
        redo_changed: so are those whose version is another than that which was read or failed then.
        summary: counts what is not left to do, and the changed ones.
    """

    def __init__(self, snapshot: Snapshot, summary: RunSummary, retry_failed: bool = False, redo_changed: bool = False):
        self.snapshot, self.summary = snapshot, summary
        self.retry_failed, self.redo_changed = retry_failed, redo_changed
        self.done, self.failures = Index.of(snapshot), snapshot.failures()
        # Versions before 0.2.0 noted throttles and lost connections as failures of the input.
        self.failures = self.failures.filter(
            pa.array([not is_of_storage(row) for row in self.failures.to_pylist()], pa.bool_())
        )
        self.failed_at = {id_: row for row, id_ in enumerate(self.failures[0].to_pylist())}
        self.listed = np.zeros(len(self.done.first), bool)
        self.changed: list[pa.Table] = []
        self.tried_again: list[pa.Array] = []

    def chunks(self, chunks: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """Inputs without a row, and without a failure that is left alone. The first column is the id; the last one is
        new: ``tries``, how often each input has failed."""
        for chunk in chunks:
            self.summary.listed += chunk.num_rows
            at = self.done.find(chunk[0])
            self.listed[at[at >= 0]] = True
            if (at >= 0).any():
                stays = self._look_for_changes(chunk, at)
                if self.summary.moved_example is None and stays.any():
                    self.summary.moved_example = self._moved_example(chunk.filter(pa.array(stays)), at[stays])
            left = self._leave_failed(chunk.filter(pa.array(at < 0)))
            if left.num_rows:
                yield left
        if self.summary.whole:
            self.summary.not_listed = int((~self.listed).sum())

    def _look_for_changes(self, chunk: pa.Table, at: np.ndarray) -> np.ndarray:
        """Keep the changed inputs that are to be done again; returns which of all count as done."""
        changed = np.zeros(len(at), bool)
        if "version" in chunk.column_names:
            changed = self.done.changed(at, chunk["version"])
        self.summary.changed += int(changed.sum())
        again = changed & self.redo_changed
        self.summary.done_before += int((at >= 0).sum() - again.sum())
        if again.any():
            part = pa.array(self.done.part[at[again]])
            self.changed.append(with_tries(chunk.filter(pa.array(again))).append_column("part", part))
        return (at >= 0) & ~again

    def _moved_example(self, chunk: pa.Table, at: np.ndarray) -> str:
        """An input that lies elsewhere than the one whose row it counts as done by, told for the eye; "" if none does.
        Looks into one part only: whoever gives another root gives another one for all inputs."""
        if "uri" not in chunk.column_names or "uri" not in self.snapshot.schema.names:
            return ""
        number = self.done.part[at[0]]
        columns = [self.snapshot.id_column, "uri"]
        (rows,) = self.snapshot.iter_columns(columns, [self.snapshot.parts[number]])
        where = chunk["uri"].take(pc.index_in(rows[0], value_set=chunk[0].combine_chunks()))
        moved = rows.append_column("now", where).filter(pc.fill_null(pc.not_equal(where, rows["uri"]), False))
        if not moved.num_rows:
            return ""
        id_, before, now = moved.slice(0, 1).to_pylist()[0].values()
        return f"{id_} was {before} and is now {now}"

    def _leave_failed(self, left: pa.Table) -> pa.Table:
        if not self.failures.num_rows:
            return with_tries(left)
        at = pa.array(map(self.failed_at.get, left[0].to_pylist()), pa.int64())
        failed = self.failures.take(at)  # nulls where an input has not failed
        nothing = pa.array(np.zeros(left.num_rows, bool))
        changed = nothing
        if "version" in left.column_names:
            changed = pc.fill_null(pc.not_equal(failed["version"], left["version"]), False)
        self.summary.changed += pc.sum(changed).as_py() or 0
        leave = pc.is_valid(at)
        if self.retry_failed:
            leave = nothing
        elif self.redo_changed:
            leave = pc.and_not(leave, changed)
        left_alone = failed.filter(leave)
        self.summary.failed_before += left_alone.num_rows
        self.summary.show(describe_failures(left_alone))
        take = pc.invert(leave)
        left, tries = left.filter(take), failed["tries"].filter(take)
        self.tried_again.append(left[0].filter(pc.is_valid(tries)).combine_chunks())
        return with_tries(left, pc.fill_null(tries, 0))

    def changed_units(self) -> Iterator[Unit]:
        """After ``chunks``: the changed inputs, a unit for each part that has rows of them. It takes the part's place
        with the other rows, and with the failures that nobody tries again."""
        if not self.changed:
            return
        inputs = pa.concat_tables(self.changed).sort_by("part")
        self.changed = []
        parts = inputs["part"].to_numpy().astype(np.int64)
        starts = np.flatnonzero(np.diff(parts, prepend=-1))
        tried = pa.chunked_array(self.tried_again, pa.string()) if self.tried_again else pa.array([], pa.string())
        for start, end in zip(starts, [*starts[1:], len(parts)], strict=True):
            part = self.snapshot.parts[parts[start]]
            failures = self.snapshot.standing_failures.get(part.name) if part.failures else None
            if failures is not None:
                failures = failures.filter(pc.invert(pc.is_in(failures[0], value_set=tried)))
            yield Unit(inputs.slice(start, end - start).drop_columns("part").combine_chunks(), part, failures)


def is_of_storage(failure: Mapping[str, Any]) -> bool:
    """Whether a failure says nothing of its input, because storage or the credentials were ill."""
    kinds = (ErrorClass.STORAGE, ErrorClass.ACCOUNT)
    return failure["stage"] in ("list", "read") and class_of(failure["reason"], failure["uri"]) in kinds


def with_tries(inputs: pa.Table, tries: pa.Array | pa.ChunkedArray | None = None) -> pa.Table:
    if tries is None:
        tries = pa.array(np.zeros(inputs.num_rows, np.int32))
    return inputs.append_column(pa.field("tries", pa.int32()), tries)
