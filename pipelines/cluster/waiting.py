"""Tell the user of a full cluster what a verb waits for, and since when."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import ray

from pipelines.cluster.resources import Cluster, Plan
from pipelines.console import tell

logger = logging.getLogger(__name__)

POLL_SECONDS = 10
AGAIN_SECONDS = 600
"""Between two such messages."""
STARTING_SECONDS = 60
"""For a worker to begin in where there is room: its process has to start, and to load its libraries."""


class RoomWatch:
    """While its block lasts, ask whether a worker has begun; where none has and there is no room, say so.

    Args:
        cluster: what there is, busy or not.
        plan: what the workers want of it.
        begun: whether a worker has begun.
    """

    def __init__(self, cluster: Cluster, plan: Plan, begun: Callable[[], bool]) -> None:
        self.cluster, self.plan, self.begun = cluster, plan, begun
        self.since, self.told = time.time(), 0.0
        self.ended = threading.Event()

    def __enter__(self) -> RoomWatch:
        self.thread = threading.Thread(target=self._watch, name="room", daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join(15)  # a call that is under way is let end before Ray is shut down

    def _watch(self) -> None:
        while not self.ended.wait(POLL_SECONDS):
            try:
                if self.look(ray.available_resources(), time.time()):
                    return
            except Exception as error:  # Ray is busy, or has been shut down meanwhile; a message is not worth an end
                logger.info("whether there is room is not known: %s", error)

    def look(self, free: dict[str, float], now: float) -> bool:
        """Tell what there is to tell, ``free`` being what nobody uses; True where a worker has begun."""
        if self.begun():
            if self.told:
                tell(f"There is room now, after {(now - self.since) / 60:.0f} min.")
            return True
        cpus, gpus = free.get("CPU", 0.0), free.get("GPU", 0.0)
        is_full = cpus < self.plan.cpus or gpus < self.plan.gpus
        if (is_full or now - self.since > STARTING_SECONDS) and now - self.told > AGAIN_SECONDS:
            self.told = now
            since = time.strftime("%H:%M:%S", time.localtime(self.since))
            tell(
                f"Waiting for room since {since}: workers are planned, {self.plan.describe()}, and none has begun. The "
                f"cluster has {self.cluster.describe()}; {cpus:g} CPUs and {gpus:g} GPUs of it are free. Work begins "
                "when others end theirs, or more nodes come up; Ctrl-C gives it up."
            )
        return False
