"""What an actor does with a unit: it computes what is not committed yet, commits it, and reports."""

from __future__ import annotations

import logging
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

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

    def __call__(self, packed: pa.Table) -> pa.Table:
        begun, cpu, number = time.time(), time.process_time(), packed["number"][0].as_py()
        logger.info("unit %d begins", number)
        COUNTER.begin(self.attempts, number)
        retries = retry.RETRIES.total
        try:
            refuse_unseen(self.marks)
            self.marks = {}
            report = self.do(number, Unit.unpack(packed))
        except (StoreError, UserError) as error:  # Ray would wrap it beyond recognition
            report = {"error": str(error), "of_store": isinstance(error, StoreError), "code": error.code}
        logger.info("unit %d ends: %s", number, report)
        spent = {
            "retries": retry.RETRIES.total - retries,
            "cpu": time.process_time() - cpu + COUNTER.cpu_elsewhere,
            "remarks": list(COUNTER.remarks.items()),
            "memory": peak_memory(),
            "begun": begun,
            "ended": time.time(),
        }
        return pa.Table.from_pylist([{**report, **spent, "number": number}], REPORT)

    def do(self, number: int, unit: Unit) -> dict[str, Any]:
        name = self.handle.part_name(unit.inputs[0].to_pylist())
        part = self.handle.committed(name)
        if part:  # the first attempt died between its commit and its answer
            old = self.handle.snapshot([part])
            failures = old.read_failures(part) if part.failures else failure_schema(old.id_column).empty_table()
            failures = failures.filter(pc.is_in(failures[0], value_set=unit.inputs[0]))
            waiting = []  # told by the attempt that committed
        else:
            rows, failures = isolation.compute(self.worker, self.attempts, number, unit.inputs)
            is_deferred = pc.equal(failures["stage"], DEFERRED)
            deferred, failures = failures.filter(is_deferred), failures.filter(pc.invert(is_deferred))
            part = self.commit(name, unit, rows, failures, deferred[0])
            waiting = describe_failures(deferred)
            waiting += [""] * (deferred.num_rows - len(waiting))
        ray.get(self.attempts.end.remote(number))  # it may be killed when the last unit has answered
        return {
            "rows": unit.inputs.num_rows - failures.num_rows - len(waiting),
            "deferred": waiting,
            "failed": failures.num_rows,
            "bytes": part.bytes,
            "failures": describe_failures(failures),
            "stages": failures["stage"].to_pylist(),
        }

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
        ("failures", pa.list_(pa.string())),
        ("stages", pa.list_(pa.string())),
        ("cpu", pa.float64()),
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
