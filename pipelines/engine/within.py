"""Progress within units: of a unit of 4,096 pictures the user hears long before it is committed.

A worker counts what it has done of its unit, and tells the actor of ``Attempts`` once a second. The driver asks that
actor, as it asks whether a worker has begun, and shows both.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

import ray

from pipelines.cluster.prometheus import BatchMeter
from pipelines.console import Progress

logger = logging.getLogger(__name__)

POLL_SECONDS = 2
TELL_SECONDS = 1
"""Between two messages of a worker."""
ANSWER_SECONDS = 5


class UnitCounter:
    """In a worker's process: how many inputs of the unit in work are done, and what else its report says.

    Attributes:
        cpu_elsewhere: processor seconds that other nodes spent on the unit.
        remarks: what the user should know, by topic; the driver tells the first that it gets of each.
    """

    def __init__(self) -> None:
        self.attempts: Any = None
        self.cpu_elsewhere = 0.0
        self.remarks: dict[str, str] = {}
        self.number, self.done, self.told = 0, 0, 0.0

    def begin(self, attempts: Any, number: int) -> None:
        """The unit ``number`` begins; ``attempts`` is a handle of an actor of ``Attempts``."""
        self.attempts, self.number, self.done, self.told = attempts, number, 0, time.monotonic()
        self.cpu_elsewhere, self.remarks = 0.0, {}

    def remark(self, topic: str, text: str) -> None:
        self.remarks[topic] = text

    def add(self, count: int) -> None:
        """``count`` more are done. Nothing outside the engine's actors."""
        self.done += count
        if self.attempts is not None and time.monotonic() - self.told >= TELL_SECONDS:
            self.told = time.monotonic()
            self.attempts.note.remote(self.number, self.done)


COUNTER = UnitCounter()
"""Of this process, in which one worker works."""


class UnitWatch:
    """While its block lasts, show what goes on before and within units.

    Args:
        attempts: handle of an actor of ``Attempts``.
        workers: how many are to begin.
        meter: for Prometheus.
    """

    def __init__(self, progress: Progress, attempts: Any, workers: int, meter: BatchMeter) -> None:
        self.progress, self.attempts, self.workers, self.meter = progress, attempts, workers, meter
        self.ended = threading.Event()

    def __enter__(self) -> UnitWatch:
        self.progress.phase(f"starting {self.workers} workers")
        self.thread = threading.Thread(target=self._watch, name="within", daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join(2 * ANSWER_SECONDS)

    def _watch(self) -> None:
        while not self.ended.wait(POLL_SECONDS):
            try:
                self.look()
            except Exception as error:  # Ray is busy, or has been shut down meanwhile; the next look may do
                logger.info("what is done within units is not known: %s", error)

    def look(self) -> None:
        begun, computing, done = ray.get(self.attempts.describe.remote(), timeout=ANSWER_SECONDS)
        if not begun:
            return
        self.progress.phase("first units" if computing else "loading weights")
        self.progress.within(done)
        self.meter.within(done)
