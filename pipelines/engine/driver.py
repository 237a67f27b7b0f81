"""The engine of every batch verb: inputs in units, units over Ray Data to actors, each unit committed as one part.

An actor asks the ledger whether its unit is committed, computes it if not, and commits it. Rows and pictures never pass
through the driver or the object store; of each unit one small row comes back. Inputs are listed while the work goes on
(``feed``), so the driver's memory does not grow with them, but for 28 bytes an image that is done (``pending``).

Kill anything: a unit whose actor or node dies is done again on another, the task that hands out the units is begun
anew, and after the death of the driver the same command goes on where the last one stopped. What is lost is at most the
units that were in work. Hence a unit's size: a part of ``PART_BYTES``, but at most ``MAX_ROWS`` inputs and, in small
runs, a ``UNITS_PER_WORKER``-th of a worker's share. An input that kills its process again and again, or raises what
nobody foresaw, becomes a failure, and costs the others no more than time (``isolation``).
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from typing import Any

import pyarrow as pa
import ray
import ray.data

from feature_store import Dataset, Handle, retry
from feature_store.errors import RESUME_LATER
from pipelines.cluster import connection, resources
from pipelines.cluster.prometheus import BatchMeter
from pipelines.cluster.resources import Plan, WorkerCount
from pipelines.cluster.shared_storage import mark_of, refuse_hidden
from pipelines.cluster.waiting import wait_for_room
from pipelines.console import Progress, tell
from pipelines.engine.actor import CALLS, ERRORS, Actor
from pipelines.engine.feed import Feed
from pipelines.engine.isolation import Attempts
from pipelines.engine.resume import Pending
from pipelines.engine.summary import RunSummary
from pipelines.engine.within import UnitWatch
from pipelines.engine.work import Unit, count, count_units
from pipelines.engine.workers import MakeWorker
from pipelines.errors import Fault, UserError

PART_BYTES = 128 << 20
MAX_ROWS = 4096
MIN_ROWS = 16
UNITS_PER_WORKER = 4
MANY = 64
"""Workers whose work is listed before the first begin; for more, as many as there may be are taken to be worth it."""
ATTEMPTS = 5
"""To hand out the work, where the task that does it dies."""


@dataclass(frozen=True)
class Options:
    """What every batch verb lets its user choose.

    Attributes:
        workers, gpus: see ``cluster.plan``.
        rows_per_part: inputs a unit; chosen by ``choose_rows`` if None.
        retry_failed: take inputs that failed in earlier runs, too.
        takeover: write although another writer seems to live.
        address: of a Ray cluster, see ``cluster.connect``.
        redo_changed: compute inputs again whose version has changed; their rows are replaced.
        retry_seconds: for which storage is asked again while it is overloaded or away.
        wait_seconds: for which a first worker's room is waited for, on a cluster that is full or has no workers yet.
        limit: do the first so many inputs of the listing only.
        dry_run: try ``sample`` inputs and estimate the run, see ``dry_run``; ``price_per_hour`` as the user gave it.
    """

    workers: WorkerCount = None
    gpus: int | None = None
    rows_per_part: int | None = None
    retry_failed: bool = False
    takeover: bool = False
    address: str | None = None
    redo_changed: bool = False
    retry_seconds: float = retry.SECONDS
    wait_seconds: float = 3600
    limit: int | None = None
    dry_run: bool = False
    sample: int = 64
    price_per_hour: str | None = None


DEFAULTS = Options()


def unlike_defaults(options: Options) -> list[str]:
    """The options that are not as they are by default, by their names on the command line; but for how long storage is
    asked again, which holds without Ray, too."""
    given, usual = dataclasses.asdict(options), dataclasses.asdict(DEFAULTS)
    names = [name for name in given if given[name] != usual[name] and name != "retry_seconds"]
    return [f"--{name.removesuffix('_seconds').replace('_', '-')}" for name in names]


def run(
    dataset: Dataset,
    chunks: Iterable[pa.Table],
    make_worker: MakeWorker,
    progress: Progress,
    row_bytes: int,
    options: Options = DEFAULTS,
    listed: int | None = None,
    besides: Iterable[Handle] = (),
) -> RunSummary:
    """Give every listed input its row in ``dataset``, or its failure. Ray is started if there is work to do.

    Args:
        chunks: tables of inputs. The first column is the id, which is unique.
        make_worker: see ``workers.shipped``.
        row_bytes: about what an input adds to the store.
        listed: number of inputs in ``chunks``, where that is known before they are listed.
        besides: of other sets that the workers commit to.

    Raises:
        UserError: the cluster cannot hold the workers asked for, some of its machines do not see the store, or nothing
            in a unit can be done.
        StoreError: another writer is at work, or a commit failed (a full disk). What was committed stays.
    """
    summary = RunSummary(whole=options.limit is None, store=dataset.store.files.shown)
    chunks = limited(chunks, options.limit)
    if options.limit is not None and listed is not None:
        listed = min(listed, options.limit)
    with dataset.begin(takeover=options.takeover) as term:
        pending = Pending(dataset.snapshot(), summary, options.retry_failed, options.redo_changed)
        inputs: Iterator[pa.Table | Unit] = chain(pending.chunks(chunks), pending.changed_units())
        first = next(inputs, None)
        if first is None:
            term.to_do = 0
            return summary
        inputs = chain([first], inputs)
        with ExitStack() as stack:
            stack.enter_context(progress)
            progress.phase("starting Ray")
            cluster = stack.enter_context(connection.connect(options.address))
            plan = resources.plan(cluster, options.workers, options.gpus)
            if cluster.joined and wait_for_room(cluster, plan, options.wait_seconds):
                plan = resources.plan(connection.running(), options.workers, options.gpus)
            summary.plan = plan
            handles = (term.handle, *besides)
            for handle in handles:
                refuse_hidden(handle, plan)
            most = plan.most or plan.workers
            enough = min(most, MANY) * UNITS_PER_WORKER * MAX_ROWS
            known, inputs = look_ahead(inputs, enough)
            total = sum(map(count, known))
            workers = plan.worth(total) if total < enough else most
            rows = options.rows_per_part or choose_rows(row_bytes, total, workers)
            if total < enough:
                workers = min(workers, sum(count_units(chunk, rows) for chunk in known))
            del known  # the feed alone holds what is not done yet
            meter = BatchMeter(dataset.kind, dataset.store.files.shown)
            with Feed(inputs, rows) as feed:
                attempts: Any = (
                    ray.remote(Attempts).options(max_restarts=-1, max_task_retries=-1, **feed.place).remote()
                )
                marks = {handle.files.root: mark_of(handle) for handle in handles if handle.files.local}
                parts = (make_worker(plan), term.handle, attempts, marks, options.retry_seconds)
                progress.total = left_of(summary, feed, listed)
                term.to_do = progress.total
                done_anew = 0
                summary.workers = min(plan.workers, workers)
                with UnitWatch(progress, attempts, summary.workers, meter) as watch:
                    for report in stream(feed, parts, plan, workers):
                        if feed.finish(report["number"]):
                            summary.add(report)
                            for topic, remark in report["remarks"]:
                                if summary.remarks.setdefault(topic, remark) is remark:
                                    tell(remark)
                            meter.add(report)
                            progress.total = left_of(summary, feed, listed)
                            took = report["ended"] - report["begun"]
                            done, failed = report["rows"] + report["failed"], report["failed"]
                            watch.finish(report["number"], done, failed, took)
                            done_anew += report["replaced"] * done
                            term.working_since = summary.begun
                            term.to_do = None if progress.total is None else progress.total - done_anew
                ray.kill(attempts)  # a Ray that was there before would keep it
    refuse_deferred(summary)
    return summary


def limited(chunks: Iterable[pa.Table], limit: int | None) -> Iterator[pa.Table]:
    """The first ``limit`` inputs; all where it is None."""
    if limit is None:
        yield from chunks
        return
    for chunk in chunks:
        yield chunk.slice(0, limit)
        limit -= chunk.num_rows
        if limit <= 0:
            return


def refuse_deferred(summary: RunSummary) -> None:
    """Raise Fault where inputs are left that storage did not give."""
    if summary.deferred:
        shown = "\n  ".join(summary.deferred_shown)
        raise Fault(
            f"{summary.deferred:,} inputs could not be read through no fault of their own, so they are neither done "
            f"nor noted as failed; {summary.rows:,} were done:\n  {shown}\n{RESUME_LATER}"
        )


def left_of(summary: RunSummary, feed: Feed, listed: int | None) -> int | None:
    """Inputs of this run, of ``listed`` ones; None as long as neither is known."""
    if feed.total is not None or listed is None:
        return feed.total
    return listed - summary.done_before - summary.failed_before


def look_ahead(
    inputs: Iterator[pa.Table | Unit], enough: int
) -> tuple[list[pa.Table | Unit], Iterator[pa.Table | Unit]]:
    """The first ``enough`` inputs, or all if there are fewer; and all of them, to be done."""
    known, total = [], 0
    while total < enough and (chunk := next(inputs, None)) is not None:
        known.append(chunk)
        total += count(chunk)
    return known, chain(known, inputs)


def choose_rows(row_bytes: int, count: int, workers: int) -> int:
    """Inputs a unit."""
    fair = math.ceil(count / (workers * UNITS_PER_WORKER))
    return max(min(PART_BYTES // max(row_bytes, 1), MAX_ROWS, fair), MIN_ROWS)


def stream(feed: Feed, parts: tuple[Any, ...], plan: Plan, workers: int) -> Iterator[dict[str, Any]]:
    """Units through actors, made of ``parts``; of each its ``actor.REPORT``, in the order in which they end. Some come
    twice, where the task that hands them out has died.

    Raises:
        StoreError: a unit could not be committed.
        UserError: the listing is wrong somewhere, nothing in a unit can be done, or that task dies again and again.
    """
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # Ray Data's own bounds are of an actor's units by how many it has at a time, which it takes for one.
    context.autoscaling_config.actor_pool_util_upscaling_threshold = 1.75 / CALLS
    context.autoscaling_config.actor_pool_util_downscaling_threshold = 0.5 / CALLS
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what goes wrong is raised, and told once
    for _ in range(ATTEMPTS):
        yield from stream_once(feed, parts, plan, workers)
        if feed.error:
            raise feed.error
        if feed.done:
            return
        feed.restart()
    raise UserError(
        f"The task that hands out the work has died {ATTEMPTS} times. Is there too little memory on this machine? Run "
        "the same command again to go on."
    )


def stream_once(feed: Feed, parts: tuple[Any, ...], plan: Plan, workers: int) -> Iterator[dict[str, Any]]:
    summaries = feed.dataset().map_batches(
        Actor,
        fn_constructor_args=parts,
        batch_size=1,  # row, a unit; with GPUs Ray Data asks for a number
        batch_format="pyarrow",
        compute=pool(plan, workers),
        num_cpus=plan.cpus,
        num_gpus=plan.gpus,
    )
    batch: pa.Table
    for batch in summaries.iter_batches(batch_size=None, batch_format="pyarrow"):
        for report in batch.to_pylist():
            if report["error"]:
                raise ERRORS[report["of_store"], report["code"]](report["error"])
            yield report
        if feed.error:
            return


def pool(plan: Plan, workers: int) -> ray.data.ActorPoolStrategy:
    """The actors: as many as ``workers``, which all come where the cluster cannot grow. Elsewhere Ray Data asks its
    autoscaler for more by the rates that it measures, takes them as nodes come, and goes on when they go."""
    size = {"size": workers}
    if plan.most is not None:
        fewest, now = min(plan.fewest or 1, workers), min(plan.workers, workers)
        size = {"min_size": fewest, "max_size": workers, "initial_size": now}
    return ray.data.ActorPoolStrategy(
        **size,
        max_concurrent_calls_per_actor=CALLS,
        max_tasks_in_flight_per_actor=CALLS,  # no more, which another actor would have to wait for
        enable_true_multi_threading=True,
    )
