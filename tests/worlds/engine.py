"""The verbs in this process: all that the engine of the batch verbs does but Ray Data, its actors and the queue, and
all of a training but Ray Train's own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import ray.data
import torch
from ray.exceptions import RayActorError
from ray.train.v2.api.exceptions import WorkerGroupError

from pipelines.cluster import connection, shared_storage
from pipelines.cluster.resources import Cluster, Node, Plan
from pipelines.engine import actor, counter, driver, feed, isolation, within, workers
from pipelines.training import driver as training_driver
from pipelines.training import dry_run, launch, monitor
from pipelines.training.run import writer

HERE = Cluster((Node(2, 0),))
DEAD = object()


class Reference:
    """What ``put`` gives: one of its own for each value, by which the feed tells its chunks apart."""

    def __init__(self, value: Any) -> None:
        self.value = value


def get(promise: Any, timeout: float | None = None) -> Any:
    """What a reference refers to; what a method of an ``Actor`` has given is there already."""
    return promise.value if isinstance(promise, Reference) else promise


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
    """The handle of an actor that is an object of this process: its methods are called at once, one at a time."""

    def __init__(self, made: Any) -> None:
        self.made, self.one_at_a_time = made, threading.Lock()

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            with self.one_at_a_time:
                return getattr(self.made, name)(*args, **kwargs)

        return SimpleNamespace(remote=call)


def remote(kind: type) -> Any:
    return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=lambda *args: Actor(kind(*args))))


def kill(handle: Queue | Actor) -> None:
    if isinstance(handle, Queue):
        handle.shutdown(True)


RAY = SimpleNamespace(
    remote=remote,
    kill=kill,
    put=Reference,
    get=get,
    data=ray.data,
    nodes=list,
    get_runtime_context=lambda: SimpleNamespace(get_node_id=lambda: "00" * 28),
)
"""What the modules know of Ray."""


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
        self.add = self.within = self.progress = self.epoch = lambda _: None


class Trainer:
    """Ray Train's trainer, with one worker. ``fit`` raises what that raises where the worker does."""

    def __init__(self, work: Callable[[dict[str, Any]], None], train_loop_config: dict[str, Any], **_: Any) -> None:
        self.work, self.config = work, train_loop_config

    def fit(self) -> None:
        threads = torch.get_num_threads()
        try:
            self.work(self.config)
        except Exception as error:
            raise WorkerGroupError("a worker failed", {0: error}) from error
        finally:
            torch.set_num_threads(threads)


@contextmanager
def without_ray() -> Iterator[None]:
    """Batch verbs and trainings work in this process while the block runs."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (actor, driver, feed, isolation, within, workers, shared_storage, launch, writer):
            patch.setattr(module, "ray", RAY)
        for module in (training_driver, dry_run):
            patch.setattr(module, "connect", lambda address=None, cpus=None: nullcontext(HERE))
        patch.setattr(launch, "TorchTrainer", Trainer)
        patch.setattr(launch, "get_device", lambda: torch.device("cpu"))
        patch.setattr(monitor, "TrainingMeter", NoMeter)
        patch.setattr(feed, "Queue", Queue)
        patch.setattr(driver, "stream_once", stream_once)
        patch.setattr(driver, "BatchMeter", NoMeter)
        patch.setattr(connection, "connect", lambda address=None, cpus=None: nullcontext(HERE))
        patch.setattr(counter.COUNTER, "attempts", None)
        yield
