"""Workers on their way from the driver to the actors."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import ray

from pipelines.cluster.resources import Plan
from pipelines.engine.isolation import Worker

MakeWorker = Callable[[Plan], Callable[[], Worker]]
"""Called once by the driver with the plan; what it returns is pickled, and called in each actor."""


def shipped(make: Callable[..., Worker], *shared: Any) -> MakeWorker:
    """``make(plan, *shared)`` in each actor. What is shared, weights of networks above all, travels once, through the
    object store, so that workers on other nodes need no file."""
    return partial(_ship, make, shared)


def _ship(make: Callable[..., Worker], shared: tuple, plan: Plan) -> Callable[[], Worker]:
    return partial(_start, make, ray.put(shared), plan)


def _start(make: Callable[..., Worker], shared: ray.ObjectRef, plan: Plan) -> Worker:
    import torch  # here, because the drivers of some verbs need none

    torch.set_num_threads(plan.cpus)
    return make(plan, *ray.get(shared))
