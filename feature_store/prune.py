"""Taking inputs out of a set: rows and failures of what its source does not have any more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.parts import Part
from feature_store.snapshot import Snapshot
from feature_store.store import Dataset


@dataclass
class Pruned:
    """What was taken out: rows, standing failures, and the parts that were written anew without them."""

    rows: int = 0
    failures: int = 0
    parts: int = 0


def prune(dataset: Dataset, ids: Iterable[str], takeover: bool = False) -> Pruned:
    """Take ``ids`` out of a set, in a term of its own: each part that has some is replaced by one without them.

    Holds the ids and one row group in memory. It may be killed anywhere: the change of a part is atomic, and the same
    call takes out the rest. Readers that began before keep their files until ``vacuum``.

    Raises:
        StoreError: another writer is at work.
    """
    gone = np.array(sorted(set(ids)), dtype=object)
    everyone = pa.array(gone, pa.string())
    pruned = Pruned()
    with dataset.begin(takeover) as term:
        snapshot = dataset.snapshot()
        # Parts with failures first: without the row that overcame it, an earlier failure would stand again.
        for part in sorted(snapshot.parts, key=lambda part: not part.failures):
            in_rows = rows_among(snapshot, part, gone)
            failed = snapshot.read_failures(part)[snapshot.id_column] if part.failures else pa.array([], pa.string())
            in_failures = pc.sum(pc.is_in(failed, value_set=everyone)).as_py() or 0
            if not in_rows and not in_failures:
                continue
            standing = snapshot.standing_failures[part.name] if part.failures else None
            kept = None if standing is None else without(standing, snapshot.id_column, gone)
            rows = pa.RecordBatchReader.from_batches(snapshot.schema, batches_without(snapshot, part, gone))
            term.handle.commit(term.handle.part_name([part.name]), rows, kept, replaces=[part.name])
            pruned.rows += in_rows
            pruned.failures += 0 if standing is None or kept is None else standing.num_rows - kept.num_rows
            pruned.parts += 1
    return pruned


def between(gone: np.ndarray, first: str, last: str) -> pa.Array:
    """Those of the sorted ids ``gone`` that lie between ``first`` and ``last``, ends included."""
    ends = np.searchsorted(gone, first), np.searchsorted(gone, last, side="right")
    return pa.array(gone[slice(*ends)], pa.string())


def rows_among(snapshot: Snapshot, part: Part, gone: np.ndarray) -> int:
    """How many rows of a part have one of the ids ``gone``; its file is opened only where its range holds one."""
    if not part.rows or not len(some := between(gone, part.first_id, part.last_id)):
        return 0
    (ids,) = snapshot.iter_ids([part])
    return pc.sum(pc.is_in(ids, value_set=some)).as_py() or 0


def batches_without(snapshot: Snapshot, part: Part, gone: np.ndarray) -> Iterator[pa.RecordBatch]:
    for batch in snapshot.scan(parts=[part]):
        left = without(pa.Table.from_batches([batch]), snapshot.id_column, gone)
        yield from left.to_batches()


def without(table: pa.Table, id_column: str, gone: np.ndarray) -> pa.Table:
    """The rows of ``table`` whose id is none of ``gone``."""
    ids = table[id_column]
    bounds = pc.min_max(ids)
    some = between(gone, bounds["min"].as_py(), bounds["max"].as_py()) if len(ids) else pa.array([], pa.string())
    return table.filter(pc.invert(pc.is_in(ids, value_set=some)))
