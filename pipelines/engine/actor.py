"""What an actor does with a unit: it computes what is not committed yet, commits it, and reports.

An actor has two units at a time (``CALLS``). One thread computes, a unit after the other; the threads in which Ray
calls wait for it, and commit. So the network begins a unit while the one before is still being committed, and pictures
of a unit that waits are read and decoded while the network ends the one before (``COUNTER.following``).
"""

from __future__ import annotations

import logging
import resource
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import ray

from feature_store import Handle, Part, StoreError, failure_schema, retry
from feature_store.errors import StorageFault
from pipelines.cluster.shared_storage import refuse_unseen
from pipelines.engine import isolation
from pipelines.engine.counter import COUNTER
from pipelines.engine.failures import DEFERRED
from pipelines.engine.isolation import Worker
from pipelines.engine.summary import describe_failures
from pipelines.engine.work import Unit
from pipelines.errors import Fault, UserError

logger = logging.getLogger(__name__)

CALLS = 2
"""Units that an actor has at a time: one is computed, and another committed, or waiting."""


class Computed(NamedTuple):
    """What a worker made of a unit; ``begun`` in seconds since 1970, the others as the ``UnitCounter`` has them."""

    rows: pa.Table | None
    failures: pa.Table
    begun: float
    done_elsewhere: int
    cpu_elsewhere: float
    remarks: dict[str, str]


class Actor:
    """Computes and commits units."""

    def __init__(
        self,
        make_worker: Callable[[], Worker],
        handle: Handle,
        attempts: Any,
        marks: dict[str, str],
        retry_seconds: float = retry.SECONDS,
    ) -> None:
        retry.SECONDS = retry_seconds  # of this process, which serves this run alone
        attempts.greet.remote()
        self.worker, self.handle, self.attempts, self.marks = make_worker(), handle, attempts, marks
        self.computing = ThreadPoolExecutor(1, thread_name_prefix="compute")
        self.reporting = threading.Lock()
        self.ended, self.cpu, self.retries = 0.0, time.process_time(), retry.RETRIES.total

    def __call__(self, packed: pa.Table) -> pa.Table:
        begun, number = time.time(), packed["number"][0].as_py()
        logger.info("unit %d is there", number)
        try:
            refuse_unseen(self.marks)
            self.marks = {}
            report = self.do(number, Unit.unpack(packed))
        except (StoreError, UserError) as error:  # Ray would wrap it beyond recognition
            report = {"error": str(error), "of_store": isinstance(error, StoreError), "code": error.code}
        logger.info("unit %d ends: %s", number, report)
        report = {"begun": begun, "remarks": [], "done_elsewhere": 0, "cpu_elsewhere": 0.0} | report
        return pa.Table.from_pylist([self.with_costs(report) | {"number": number}], REPORT)

    def with_costs(self, report: dict[str, Any]) -> dict[str, Any]:
        """A unit's report, and what the actor spent since the one before: so nothing that two units share is counted
        twice, not even time."""
        with self.reporting:
            ended, cpu, retries = time.time(), time.process_time(), retry.RETRIES.total
            spent = {
                "retries": retries - self.retries,
                "cpu": cpu - self.cpu + report.pop("cpu_elsewhere"),
                "memory": peak_memory(),
                "begun": max(report["begun"], self.ended),
                "ended": ended,
            }
            self.ended, self.cpu, self.retries = ended, cpu, retries
            return report | spent

    def do(self, number: int, unit: Unit) -> dict[str, Any]:
        name = self.handle.part_name(unit.inputs[0].to_pylist())
        part = self.handle.committed(name)
        costs: dict[str, Any] = {}
        if part:  # the first attempt died between its commit and its answer
            old = self.handle.snapshot([part])
            failures = old.read_failures(part) if part.failures else failure_schema(old.id_column).empty_table()
            failures = failures.filter(pc.is_in(failures[0], value_set=unit.inputs[0]))
            waiting = []  # told by the attempt that committed
        else:
            COUNTER.waiting[number] = unit.inputs
            computed = self.computing.submit(self.compute, number, unit.inputs).result()
            costs = {name: getattr(computed, name) for name in ("begun", "done_elsewhere", "cpu_elsewhere")}
            costs["remarks"] = list(computed.remarks.items())
            is_deferred = pc.equal(computed.failures["stage"], DEFERRED)
            deferred = computed.failures.filter(is_deferred)
            failures = computed.failures.filter(pc.invert(is_deferred))
            part = self.commit(name, unit, computed.rows, failures, deferred[0])
            waiting = describe_failures(deferred)
            waiting += [""] * (deferred.num_rows - len(waiting))
        ray.get(self.attempts.end.remote(number))  # it may be killed when the last unit has answered
        return costs | {
            "rows": unit.inputs.num_rows - failures.num_rows - len(waiting),
            "deferred": waiting,
            "failed": failures.num_rows,
            "bytes": part.bytes,
            "replaced": bool(part.replaces),
            "failures": describe_failures(failures),
            "stages": failures["stage"].to_pylist(),
        }

    def compute(self, number: int, inputs: pa.Table) -> Computed:
        """In the thread that computes, when it is the unit's turn."""
        begun = time.time()
        logger.info("unit %d begins", number)
        COUNTER.begin(self.attempts, number)
        rows, failures = isolation.compute(self.worker, self.attempts, number, inputs)
        return Computed(rows, failures, begun, COUNTER.done_elsewhere, COUNTER.cpu_elsewhere, COUNTER.remarks)

    def commit(
        self, name: str, unit: Unit, rows: pa.Table | None, failures: pa.Table, deferred: pa.ChunkedArray
    ) -> Part:
        if unit.replaces is None:
            return self.handle.commit(name, rows, failures)
        rows = self.handle.schema.empty_table() if rows is None else rows
        return self.handle.commit(
            name, *self.with_others(unit, unit.replaces, rows, failures, deferred), [unit.replaces.name]
        )

    def with_others(
        self, unit: Unit, replaced: Part, rows: pa.Table, failures: pa.Table, deferred: pa.ChunkedArray
    ) -> tuple[pa.Table, pa.Table]:
        """Rows and failures, with what the part ``replaced`` has of other inputs, and of those that are deferred."""
        old = self.handle.snapshot([replaced])
        others = pa.Table.from_batches(old.scan(), old.schema)
        others = others.filter(
            pc.or_(
                pc.invert(pc.is_in(others[old.id_column], value_set=unit.inputs[0])),
                pc.is_in(others[old.id_column], value_set=deferred),
            )
        )
        kept = [] if unit.failures is None else [unit.failures]
        rows = pa.Table.from_arrays([rows[name] for name in old.schema.names], schema=old.schema)
        return pa.concat_tables([rows, others]), pa.concat_tables([failures, *kept])


def peak_memory() -> int:
    """The most bytes that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


ERRORS = {(True, 2): StoreError, (True, 4): StorageFault, (False, 2): UserError, (False, 4): Fault}
"""What a worker raised, by whether it is the store's and by its exit code."""

REPORT = pa.schema(
    [
        ("rows", pa.int64()),
        ("failed", pa.int64()),
        ("bytes", pa.int64()),
        ("replaced", pa.bool_()),
        ("failures", pa.list_(pa.string())),
        ("stages", pa.list_(pa.string())),
        ("cpu", pa.float64()),
        ("done_elsewhere", pa.int64()),
        ("memory", pa.int64()),
        ("begun", pa.float64()),
        ("ended", pa.float64()),
        ("number", pa.int64()),
        ("error", pa.string()),
        ("of_store", pa.bool_()),
        ("code", pa.int64()),
        ("retries", pa.int64()),
        ("deferred", pa.list_(pa.string())),
        ("remarks", pa.map_(pa.string(), pa.string())),
    ]
)
