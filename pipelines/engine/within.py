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

    def look(self) -> None:
        begun, computing, done = ray.get(self.attempts.describe.remote(), timeout=ANSWER_SECONDS)
        if not begun:
            return
        self.progress.phase("first units" if computing else "loading weights")
        self.progress.within(done)
        self.meter.within(done)
