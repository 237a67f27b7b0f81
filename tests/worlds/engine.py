"""The engine of the batch verbs in this process: all that it does but Ray Data, its actors and the queue."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import ray.data
from ray.exceptions import RayActorError

from pipelines.cluster import connection, shared_storage
from pipelines.cluster.resources import Cluster, Node, Plan
from pipelines.engine import actor, counter, driver, feed, isolation, within, workers

HERE = Cluster((Node(2, 0),))
DEAD = object()


class Queue:
    """Ray's queue, as one of this process; ``ray.kill`` of its actor is seen by who waits for it."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.items: queue.Queue[Any] = queue.Queue()
        self.actor = self

    def put(self, item: Any, timeout: float | None = None) -> None:
        self.items.put(item)

    def get(self) -> Any:
        item = self.items.get()
        if item is DEAD:
            raise RayActorError
        return item

    def empty(self) -> bool:
        return self.items.empty()

    def shutdown(self, force: bool) -> None:
        self.items.put(DEAD)


class Actor:
    """The handle of an actor that is an object of this process: its methods are called at once."""

    def __init__(self, made: Any) -> None:
        self.made = made

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=getattr(self.made, name))


def remote(kind: type) -> Any:
    return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=lambda: Actor(kind())))


def kill(handle: Queue | Actor) -> None:
    if isinstance(handle, Queue):
        handle.shutdown(True)


RAY = SimpleNamespace(
    remote=remote,
    kill=kill,
    put=lambda value: value,
    get=lambda value, timeout=None: value,
    data=ray.data,
    nodes=list,
    get_runtime_context=lambda: SimpleNamespace(get_node_id=lambda: "here"),
)
"""What the engine's modules know of Ray."""


def stream_once(feed_: feed.Feed, parts: tuple[Any, ...], plan: Plan, workers: int) -> Iterator[dict[str, Any]]:
    """``driver.stream_once`` with one worker."""
    own = actor.Actor(*parts)
    for packed in feed.drain(feed_.queue, feed_.rows):
        (report,) = own(packed).to_pylist()
        if report["error"]:
            raise actor.ERRORS[report["of_store"], report["code"]](report["error"])
        yield report
        if feed_.error:
            return


class NoMeter:
    """Ray's metrics would look for Ray."""

    def __init__(self, *_: Any) -> None:
        self.add = self.within = lambda _: None


@contextmanager
def without_ray() -> Iterator[None]:
    """``driver.run`` works in this process while the block runs."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (actor, driver, feed, isolation, within, workers, shared_storage):
            patch.setattr(module, "ray", RAY)
        patch.setattr(feed, "Queue", Queue)
        patch.setattr(driver, "stream_once", stream_once)
        patch.setattr(driver, "BatchMeter", NoMeter)
        patch.setattr(connection, "connect", lambda address=None, cpus=None: nullcontext(HERE))
        patch.setattr(counter.COUNTER, "attempts", None)
        yield
