"""Asking storage again: with growing pauses of random length, so that many who were refused do not return together."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from feature_store.errors import ErrorClass, StorageFault, classify

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

SECONDS = 60.0
"""For which a request that fails for a passing reason is made again."""
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 10.0
"""Seconds. A pause is between 0 and a bound that doubles from the first to the longest ("full jitter", Brooker 2015,
Exponential Backoff And Jitter)."""


class Count:
    """Requests that this process has made again."""

    def __init__(self) -> None:
        self.total, self._lock = 0, threading.Lock()

    def add(self) -> None:
        with self._lock:
            self.total += 1


RETRIES = Count()


@contextmanager
def retrying_for(seconds: float) -> Iterator[None]:
    """Inside, ``SECONDS`` are these, for all threads of the process."""
    global SECONDS
    before, SECONDS = SECONDS, seconds
    try:
        yield
    finally:
        SECONDS = before


def is_passing(error: BaseException) -> bool:
    """Whether the same request may succeed later."""
    if isinstance(error, StorageFault):
        return True
    return isinstance(error, OSError) and classify(error) is ErrorClass.STORAGE


def retried(
    request: Callable[[], Result],
    seconds: float | None = None,
    passing: Callable[[BaseException], bool] = is_passing,
    sleep: Callable[[float], None] = time.sleep,
) -> Result:
    """What ``request`` returns, made again while it fails for a passing reason.

    Args:
        seconds: after which no other attempt begins; ``SECONDS`` if None.

    Raises:
        Exception: what ``request`` raised last.
    """
    deadline, bound = time.monotonic() + (SECONDS if seconds is None else seconds), FIRST_PAUSE
    while True:
        try:
            return request()
        except Exception as error:
            pause = random.uniform(0, bound)
            if not passing(error) or time.monotonic() + pause > deadline:
                raise
            logger.info("asked again in %.1f s: %s", pause, error)
        RETRIES.add()
        sleep(pause)
        bound = min(2 * bound, LONGEST_PAUSE)
