"""The ``Journal`` of a training as an actor on the driver's machine, to which the workers of any node send."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import ActorDiedError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipelines.console import UserError
from pipelines.journal import Journal


class Remote:
    """A ``Journal`` that lives in an actor, with the journal's own methods."""

    def __init__(self, actor: ActorHandle) -> None:
        self.actor = actor

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                return ray.get(getattr(self.actor, name).remote(*args, **kwargs))
            except RayTaskError as error:
                raise error.cause if isinstance(error.cause, UserError) else error from None
            except ActorDiedError:
                raise UserError(
                    "The process that writes the run's folder has died. Run the same command again to go on."
                ) from None

        return call


@contextmanager
def journal_of(folder: Path) -> Iterator[Remote]:
    """On this machine, where the folder is, wherever the workers are. It has the folder until the block ends."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor = ray.remote(Journal).options(num_cpus=0, scheduling_strategy=here).remote(folder)
    try:
        yield Remote(actor)
    finally:
        ray.kill(actor)
