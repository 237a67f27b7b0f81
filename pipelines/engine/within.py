"""Progress within units: of a unit of 4,096 pictures the user hears long before it is committed.

A worker counts what it has done of its unit (``counter``), and tells the actor of ``Attempts``. The driver asks that
actor, as it asks whether a worker has begun, and shows both.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

import ray

from pipelines.cluster.prometheus import BatchMeter
from pipelines.console import Progress, plural

logger = logging.getLogger(__name__)

POLL_SECONDS = 2
ANSWER_SECONDS = 5


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
        self.finished: set[int] = set()
        self.untold: list[int] = []
        self.lock = threading.Lock()

    def __enter__(self) -> UnitWatch:
        self.progress.phase(f"starting {self.workers} {plural('worker', self.workers)}")
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

    def finish(self, number: int, count: int, failed: int, took: float) -> None:
        """The report of a unit has arrived: it counts as finished, and no longer as in work."""
        with self.lock:
            self.finished.add(number)
            self.untold.append(number)
            self.progress.advance(count, failed=failed, took=took)

    def look(self) -> None:
        told = list(self.untold)
        begun, computing, done = ray.get(self.attempts.describe.remote(told), timeout=ANSWER_SECONDS)
        del self.untold[: len(told)]
        if not begun:
            return
        self.progress.phase("first units" if computing else "workers are loading")
        with self.lock:
            inside = sum(count for number, count in done.items() if number not in self.finished)
            self.progress.within(inside)
        self.meter.within(inside)
