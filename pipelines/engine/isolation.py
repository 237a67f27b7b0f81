"""Inputs that a process dies of, or that raise what nobody foresaw: each becomes a failure, and the others get rows.

Ray does a unit again whose process has died, and would for ever. So ``Attempts`` counts; from the attempt ``CAREFUL``
on, and where a whole unit raises, the inputs are done one by one, and one that was under way at ``DEATHS`` deaths is
left out. No rows of a batch change with that but in the last digits.
"""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

import pyarrow as pa
import ray

from feature_store import StoreError
from pipelines.engine.counter import COUNTER
from pipelines.engine.failures import failure
from pipelines.errors import UserError

logger = logging.getLogger(__name__)

CAREFUL = 3
DEATHS = 2
MOST = 20
"""Attempts at one unit, of which a machine that cannot work at all needs no more."""

WHOLE = b"whole"
"""In the metadata of an input that is done by itself: the ids of its unit, as JSON."""


class Worker(Protocol):
    """Computes units in an actor; made there, once."""

    def process(self, unit: pa.Table) -> tuple[pa.Table, pa.Table]:
        """Rows of the set's schema and rows of failures; each input of ``unit`` is in exactly one of the two.

        ``unit`` has the listing's columns and ``tries``: how often each input has failed in earlier runs.
        """


class Attempt(NamedTuple):
    """At a unit.

    Attributes:
        ordinal: from 1.
        careful: whether the inputs are to be done one by one.
        died_at: what was under way when the last one died; "" if unknown.
        lost: inputs to leave out.
    """

    ordinal: int
    careful: bool
    died_at: str
    lost: list[str]


class Attempts:
    """An actor, apart from those that may die: what was begun, and what was under way at the deaths. Units go by their
    number."""

    def __init__(self) -> None:
        self.workers, self.computed = 0, False
        self.begun: Counter[int] = Counter()
        self.under_way: dict[int, str] = {}
        self.deaths: dict[int, Counter[str]] = {}
        self.within: dict[int, int] = {}

    def greet(self) -> None:
        """A worker has found room, and begins."""
        self.workers += 1

    def note(self, number: int, done: int) -> None:
        """``done`` inputs of a unit that is in work are done."""
        if number in self.begun:
            self.within[number] = done

    def describe(self, counted: Iterable[int] = ()) -> tuple[int, bool, dict[int, int]]:
        """Workers that have begun, whether any has a unit or has had one, and how many inputs are done of each unit.

        Args:
            counted: units that are finished and whose reports have arrived, which may be forgotten.
        """
        for number in counted:
            self.within.pop(number, None)
        return self.workers, self.computed, self.within

    def begin(self, number: int) -> Attempt:
        self.computed = True
        self.within.pop(number, None)
        self.begun[number] += 1
        count, died_at = self.begun[number], self.under_way.get(number, "")
        deaths = self.deaths.setdefault(number, Counter())
        if died_at:
            deaths[died_at] += 1
        careful = count >= CAREFUL or number in self.under_way  # once so, always so: what was kept has names of its own
        if careful:
            self.under_way[number] = ""
        return Attempt(count, careful, died_at, [id_ for id_, times in deaths.items() if times >= DEATHS])

    def turn_to(self, number: int, id_: str) -> None:
        self.under_way[number] = id_

    def end(self, number: int) -> None:
        """The unit is kept. What was done of it is remembered until its report has arrived."""
        for known in (self.begun, self.under_way, self.deaths):
            known.pop(number, None)


def compute(worker: Worker, attempts: Any, number: int, inputs: pa.Table) -> tuple[pa.Table | None, pa.Table]:
    """What ``worker`` makes of the unit ``number``; inputs that are to blame for deaths or an exception are failures.

    Args:
        attempts: handle of an actor of ``Attempts``.

    Raises:
        UserError, StoreError: the worker's; or no input can be done, which is no input's fault.
    """
    attempt: Attempt = ray.get(attempts.begin.remote(number))
    first = inputs[0][0].as_py()
    if attempt.ordinal > MOST:
        at = attempt.died_at or f"one of the {inputs.num_rows:,} inputs from {first} on"
        raise UserError(
            f"The process that does {at} has died {MOST} times, at one input after the other. Is there too little "
            "memory, or is a device broken? What was committed is kept; run the same command again to go on."
        )
    try:
        if not attempt.careful:
            return worker.process(inputs)
    except (StoreError, UserError):
        raise
    except Exception as error:
        die_with_device(error)
        logger.exception("%d inputs from %s on are done one by one.", inputs.num_rows, first)
    whole = json.dumps(inputs[0].to_pylist())
    return one_by_one(worker, attempts, number, inputs.replace_schema_metadata({WHOLE: whole}), attempt.lost)


def one_by_one(
    worker: Worker, attempts: Any, number: int, inputs: pa.Table, lost: list[str]
) -> tuple[pa.Table | None, pa.Table]:
    """``compute`` of each input by itself; ``lost`` are left out."""
    COUNTER.alone = True  # what is read ahead of the next unit may be what the process has died of
    rows, failures, reasons = [], [], []
    for start in range(inputs.num_rows):
        one = inputs.slice(start, 1)
        id_ = one[0][0].as_py()
        if id_ in lost:
            reasons.append(f"the process that worked on it died {DEATHS} times")
            failures.append(failure(one, "process", reasons[-1]))
            continue
        ray.get(attempts.turn_to.remote(number, id_))
        try:
            row, failed = worker.process(one)
            rows.append(row)
            failures.append(failed)
        except (StoreError, UserError):
            raise
        except Exception as error:
            die_with_device(error)
            reasons.append(f"{type(error).__name__}: {error}")
            failures.append(failure(one, "compute", reasons[-1]))
    if len(reasons) == inputs.num_rows > 1:
        raise UserError(
            f"None of {inputs.num_rows:,} inputs could be done, so it is no input's fault, and none is noted as "
            f"failed. The first, {inputs[0][0].as_py()}: {reasons[0]}. What was committed is kept; put this right, and "
            "run the same command again."
        )
    ray.get(attempts.turn_to.remote(number, ""))
    return pa.concat_tables(rows) if rows else None, pa.concat_tables(failures)


def die_with_device(error: Exception) -> None:
    """End this process where its GPU has failed: nothing works in it any more. Ray begins another."""
    from pipelines.engine.memory import is_device_lost  # loads torch, which not every worker needs

    if is_device_lost(error):
        logger.exception("The device has failed.")
        os._exit(1)
