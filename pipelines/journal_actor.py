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

from pipelines.console import Fault, UserError
from pipelines.journal import Journal


class Shared(Journal):
    """A ``Journal`` that listens to the newest writer alone: one that was given up may come back to life."""

    turns = 0

    def begin(self) -> int:
        """A new writer: the turn to give with its calls."""
        self.turns += 1
        return self.turns

    def call(self, turn: int, method: str, *args: Any, **kwargs: Any) -> Any:
        """A method, for the writer of that turn."""
        if turn != self.turns:
            raise RuntimeError("Another process trains this run by now.")
        return getattr(self, method)(*args, **kwargs)


class Remote:
    """A ``Shared`` journal that lives in an actor, with the journal's own methods."""

    def __init__(self, actor: ActorHandle) -> None:
        self.actor = actor

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *args, **kwargs: answer(getattr(self.actor, name).remote(*args, **kwargs))

    def writer(self) -> Writer:
        """For the process that trains from now on: whoever did before is no longer listened to."""
        return Writer(self.actor, self.begin())


class Writer:
    """The journal's methods, until the next writer begins."""

    def __init__(self, actor: ActorHandle, turn: int) -> None:
        self.actor, self.turn = actor, turn

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *args, **kwargs: answer(self.actor.call.remote(self.turn, name, *args, **kwargs))


def answer(promise: ray.ObjectRef) -> Any:
    """What an actor that writes folders returns.

    Raises:
        UserError: the one that it raised.
        Fault: it has died.
    """
    try:
        return ray.get(promise)
    except RayTaskError as error:
        raise error.cause if isinstance(error.cause, UserError) else error from None
    except ActorDiedError:
        raise Fault("The process that writes the run's folder has died. Run the same command again to go on.") from None


@contextmanager
def journal_of(folder: Path) -> Iterator[Remote]:
    """On this machine, where the folder is, wherever the workers are. It has the folder until the block ends."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor = ray.remote(Shared).options(num_cpus=0, scheduling_strategy=here).remote(folder)
    try:
        yield Remote(actor)
    finally:
        ray.kill(actor)
