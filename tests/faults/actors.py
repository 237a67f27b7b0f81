"""The actors of a running verb, to be killed."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

import psutil

DEADLINE = 300
"""Seconds after which a run that has no actor has failed."""


def await_actors(driver: subprocess.Popen, family: Callable[[], list[psutil.Process]]) -> list[psutil.Process]:
    """Those among the driver's ``family``, as soon as one is there: a fast machine is done with the run soon after."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        assert driver.poll() is None, f"ended before an actor could be killed: {driver.communicate()}"
        actors = [process for process in family() if is_actor(process)]
        if actors:
            return actors
        time.sleep(0.02)
    raise AssertionError("no actor is started")


def is_actor(process: psutil.Process) -> bool:
    try:
        return "ray::MapWorker" in " ".join(process.cmdline())
    except psutil.Error:  # it ended, or is about to
        return False
