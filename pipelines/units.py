"""The engine of every batch verb: inputs in units, units over Ray Data to actors, each unit committed as one part.

An actor asks the ledger whether its unit is committed, computes it if not, and commits it. Rows and pictures never pass
through the driver or the object store; of each unit one small row comes back. The driver holds no more than references
to the units, so its memory does not grow with what is in them.

Kill anything: a unit whose actor or node dies is done again on another, and the same command goes on where the last one
stopped. What is lost is at most the units that were in work. Hence a unit's size: a part of ``PART_BYTES``, but at most
``MAX_ROWS`` inputs and, in small runs, a ``UNITS_PER_WORKER``-th of a worker's share.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.data

from feature_store import Dataset, Handle, Snapshot, StoreError
from pipelines import cluster
from pipelines.cluster import Plan
from pipelines.console import Progress

PART_BYTES = 128 << 20
MAX_ROWS = 4096
MIN_ROWS = 16
UNITS_PER_WORKER = 4
EXAMPLES = 20
"""Failures that are shown."""


class Worker(Protocol):
    """Computes units in an actor; made there, once."""

    def process(self, unit: pa.Table) -> tuple[pa.Table, pa.Table]:
        """Rows of the set's schema and rows of failures; each input of ``unit`` is in exactly one of the two.

        ``unit`` has the listing's columns and ``tries``: how often each input has failed in earlier runs.
        """


@dataclass(frozen=True)
class Options:
    """What every batch verb lets its user choose.

    Attributes:
        workers, gpus: see ``cluster.plan``.
        rows_per_part: inputs a unit; chosen by ``choose_rows`` if None.
        retry_failed: take inputs that failed in earlier runs, too.
        takeover: write although another writer seems to live.
        address: of a Ray cluster, see ``cluster.connect``.
    """

    workers: int | None = None
    gpus: int | None = None
    rows_per_part: int | None = None
    retry_failed: bool = False
    takeover: bool = False
    address: str | None = None


DEFAULTS = Options()


@dataclass
class Totals:
    """What became of the inputs.

    Attributes:
        listed: all inputs. ``done_before`` of them had a row already, ``failed_before`` had failed and were left out.
        rows, failed: the inputs of this run.
        units, bytes: of the parts that this run committed.
        failures: some inputs without a row, "id: stage: reason".
        cpu: seconds that the workers' processors were busy.
        begun, ended: when the first unit began and the last one ended, seconds since 1970.
        plan: the workers; None where there was nothing to do.
    """

    listed: int = 0
    done_before: int = 0
    failed_before: int = 0
    rows: int = 0
    failed: int = 0
    units: int = 0
    bytes: int = 0
    failures: list[str] = field(default_factory=list)
    cpu: float = 0.0
    begun: float = math.inf
    ended: float = 0.0
    plan: Plan | None = None

    @property
    def seconds(self) -> float:
        """From the first unit's beginning to the last one's end: the run without starting up and closing down."""
        return max(self.ended - self.begun, 0.0)

    def add(self, summary: dict[str, Any]) -> None:
        """Count a unit."""
        self.rows += summary["rows"]
        self.failed += summary["failed"]
        self.units += 1
        self.bytes += summary["bytes"]
        self.cpu += summary["cpu"]
        self.show(summary["failures"])
        self.begun, self.ended = min(self.begun, summary["begun"]), max(self.ended, summary["ended"])

    def show(self, failures: list[str]) -> None:
        self.failures += failures[: EXAMPLES - len(self.failures)]

    def summary(self, inputs: str) -> dict[str, Any]:
        """For an Outcome: the numbers, with ``inputs`` ("images") for their name."""
        shown: dict[str, Any] = {inputs: self.listed, "already_done": self.done_before, "computed": self.rows}
        if self.units:
            shown[f"{inputs}_per_second"] = round((self.rows + self.failed) / max(self.seconds, 1e-9), 1)
            shown |= {"seconds": round(self.seconds, 2), "cpu_seconds": round(self.cpu, 2)}
            shown |= {"parts": self.units, "megabytes": round(self.bytes / 1e6, 1)}
        if self.plan:
            shown["workers"] = self.plan.describe()
        return shown


def run(
    dataset: Dataset,
    chunks: Iterable[pa.Table],
    make_worker: Callable[[Plan], Callable[[], Worker]],
    progress: Progress,
    row_bytes: int,
    options: Options = DEFAULTS,
) -> Totals:
    """Give every listed input its row in ``dataset``, or its failure. Ray is started if there is work to do.

    Args:
        chunks: tables of inputs. The first column is the id, which is unique.
        make_worker: called once here with the plan; what it returns is pickled and called in each actor.
        row_bytes: about what an input adds to the store.

    Raises:
        UserError: the cluster cannot hold the workers asked for.
        StoreError: another writer is at work, or a commit failed (a full disk). What was committed stays.
    """
    totals = Totals()
    with dataset.begin(takeover=options.takeover) as term:
        pending = find_pending(chunks, dataset.snapshot(), options.retry_failed, totals)
        first = next(pending, None)
        if first is None:
            return totals
        with cluster.connect(options.address) as found:
            totals.plan = plan = cluster.plan(found, options.workers, options.gpus)
            refs, count = store_chunks(chain([first], pending))
            rows = options.rows_per_part or choose_rows(row_bytes, count, plan.workers)
            progress.total = count
            with progress:
                for summary in stream(list(cut(refs, rows)), make_worker(plan), term.handle, plan):
                    totals.add(summary)
                    progress.advance(summary["rows"] + summary["failed"], failed=summary["failed"])
    return totals


def find_pending(
    chunks: Iterable[pa.Table], snapshot: Snapshot, retry_failed: bool, totals: Totals
) -> Iterator[pa.Table]:
    """The inputs without a row, and without a failure unless those are tried again; counts the others.

    Tables have a further column ``tries``: how often each input has failed.
    """
    done = snapshot.ids(include_failures=False)
    known = snapshot.failures()
    for chunk in chunks:
        left = chunk.filter(pc.invert(pc.is_in(chunk[0], value_set=done)))
        totals.listed += chunk.num_rows
        totals.done_before += chunk.num_rows - left.num_rows
        at = pc.index_in(left[0], value_set=known[0])
        if not retry_failed:
            failed = known.take(at.drop_null())
            totals.failed_before += failed.num_rows
            totals.show(describe_failures(failed))
            left, at = left.filter(at.is_null()), at.filter(at.is_null())
        if left.num_rows:
            tries = pc.fill_null(known["tries"].take(at), 0)
            yield left.append_column(pa.field("tries", pa.int32()), tries)


def store_chunks(chunks: Iterable[pa.Table]) -> tuple[list[ray.ObjectRef], int]:
    """Chunks into the object store, out of the driver's memory: how much there is decides the size of units."""
    refs, count = [], 0
    for chunk in chunks:
        refs.append(ray.put(chunk))
        count += chunk.num_rows
    return refs, count


def choose_rows(row_bytes: int, count: int, workers: int) -> int:
    """Inputs a unit."""
    fair = math.ceil(count / (workers * UNITS_PER_WORKER))
    return max(min(PART_BYTES // max(row_bytes, 1), MAX_ROWS, fair), MIN_ROWS)


def cut(chunks: list[ray.ObjectRef], rows: int) -> Iterator[ray.ObjectRef]:
    """Chunks to units of about equal size, at most ``rows``."""
    while chunks:
        chunk = ray.get(chunks.pop(0))
        size = math.ceil(chunk.num_rows / math.ceil(chunk.num_rows / rows))
        for start in range(0, chunk.num_rows, size):
            yield ray.put(chunk.slice(start, size).combine_chunks())


def stream(
    units: list[ray.ObjectRef], make_worker: Callable[[], Worker], handle: Handle, plan: Plan
) -> Iterator[dict[str, Any]]:
    """Units through actors; of each its ``SUMMARY``, in the order in which they are finished.

    Raises:
        StoreError: a unit could not be committed.
    """
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what goes wrong is raised, and told once
    summaries = ray.data.from_arrow_refs(units).map_batches(
        Actor,
        fn_constructor_args=(make_worker, handle),
        batch_size=None,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=min(plan.workers, len(units))),
        num_cpus=plan.cpus,
        num_gpus=plan.gpus,
    )
    for batch in summaries.iter_batches(batch_size=None, batch_format="pyarrow"):
        for summary in batch.to_pylist():
            if summary["error"]:
                raise StoreError(summary["error"])
            yield summary


class Actor:
    """Computes and commits units."""

    def __init__(self, make_worker: Callable[[], Worker], handle: Handle) -> None:
        self.worker, self.handle = make_worker(), handle

    def __call__(self, unit: pa.Table) -> pa.Table:
        begun, cpu = time.time(), time.process_time()
        try:
            summary = self.do(unit)
        except StoreError as error:  # Ray would wrap it beyond recognition
            summary = {"error": str(error)}
        spent = {"cpu": time.process_time() - cpu, "begun": begun, "ended": time.time()}
        return pa.Table.from_pylist([{**summary, **spent}], SUMMARY)

    def do(self, unit: pa.Table) -> dict[str, Any]:
        name = self.handle.part_name(unit[0].to_pylist())
        rows = failures = None
        # Committed already where the first attempt died between its commit and its answer.
        if not self.handle.is_committed(name):
            rows, failures = self.worker.process(unit)
        part = self.handle.commit(name, rows, failures)
        shown = describe_failures(failures) if failures is not None else []
        return {"rows": part.rows, "failed": part.failures, "bytes": part.bytes, "failures": shown}


SUMMARY = pa.schema(
    [
        ("rows", pa.int64()),
        ("failed", pa.int64()),
        ("bytes", pa.int64()),
        ("failures", pa.list_(pa.string())),
        ("cpu", pa.float64()),
        ("begun", pa.float64()),
        ("ended", pa.float64()),
        ("error", pa.string()),
    ]
)


def describe_failures(failures: pa.Table) -> list[str]:
    """The first failed inputs, for the eye."""
    rows = failures.slice(0, EXAMPLES).to_pylist()
    return [f"{row[failures.column_names[0]]}: {row['stage']}: {row['reason']}" for row in rows]
