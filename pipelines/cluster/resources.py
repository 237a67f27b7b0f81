"""What a cluster has, and what each worker of it gets."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from pipelines.console import plural
from pipelines.errors import UserError

if TYPE_CHECKING:  # every process of a batch verb comes by here, and recipes load torch
    from pipelines.config.recipe import Recipe
    from pipelines.config.search_space import Search


class NoRoom(UserError):
    """The cluster holds fewer workers than are asked for, or smaller ones."""


@dataclass(frozen=True)
class Node:
    cpus: float
    gpus: float


def processors(cpus: float, gpus: float) -> str:
    return f"{cpus:g} {plural('CPU', cpus)} and {gpus:g} {plural('GPU', gpus)}"


def describe_size(cpus: float, gpus: float) -> str:
    """What one worker, trial or node has, in words."""
    return f"{cpus:g} CPU" + (f" and {gpus:g} GPU" if gpus else "")


class OnDevice:
    """What each worker gets, of which ``gpus`` tell the device that it computes on."""

    gpus: float

    @property
    def device(self) -> str:
        return "cuda" if self.gpus else "cpu"


@dataclass(frozen=True)
class NodeType:
    """Nodes of one kind that an autoscaler may start, ``most`` at a time."""

    name: str
    cpus: float
    gpus: float
    most: int

    def describe(self) -> str:
        return f"up to {self.most} {self.name} with {describe_size(self.cpus, self.gpus)}"


@dataclass(frozen=True)
class Cluster:
    """What there is, busy or not, and what may come.

    Attributes:
        types: that its autoscaler may start; none where there is no autoscaler, or nobody says what it may do.
        joined: whether it is another's, to which nodes may come by themselves; not a Ray that was started here.
    """

    nodes: tuple[Node, ...]
    types: tuple[NodeType, ...] = ()
    joined: bool = False

    @property
    def cpus(self) -> float:
        return sum(node.cpus for node in self.nodes)

    @property
    def gpus(self) -> float:
        return sum(node.gpus for node in self.nodes)

    @property
    def limit(self) -> Cluster:
        """The cluster with all nodes that it may have."""
        if not self.types:
            return Cluster(self.nodes)
        known = {(kind.cpus, kind.gpus) for kind in self.types}
        fixed = tuple(node for node in self.nodes if (node.cpus, node.gpus) not in known)
        return Cluster(fixed + tuple(Node(kind.cpus, kind.gpus) for kind in self.types for _ in range(kind.most)))

    def describe(self) -> str:
        nodes = f" on {len(self.nodes)} nodes" if len(self.nodes) > 1 else ""
        types = f", and may start {', '.join(kind.describe() for kind in self.types)}" if self.types else ""
        return f"{processors(self.cpus, self.gpus)}{nodes}{types}"


WorkerCount = int | tuple[int, int] | None
"""Workers that are asked for: a fixed number, the fewest and the most, or as many as the cluster may hold."""

WORTH = {0: 1024, 1: 16384}
"""Inputs that a worker more should find to do, without and with a GPU: a node takes minutes to come up."""


@dataclass(frozen=True)
class Plan(OnDevice):
    """``workers`` actors with ``cpus`` and ``gpus`` each, to begin with.

    Attributes:
        fewest, most: of them, as nodes come and go; None where they stay as many. ``most`` may be ``NO_LIMIT``.
        bounded: whether the user said how many.
    """

    workers: int
    cpus: int
    gpus: int
    fewest: int | None = None
    most: int | None = None
    bounded: bool = True

    def worth(self, inputs: int) -> int:
        """Workers at most for so many inputs, as far as more would be worth waiting for."""
        most = self.most or self.workers
        return most if self.bounded else min(most, max(self.workers, math.ceil(inputs / WORTH[self.gpus])))

    def describe_worker(self) -> str:
        return describe_size(self.cpus, self.gpus)

    def describe(self) -> str:
        workers = f"{self.workers}"
        if self.most == NO_LIMIT:
            workers = f"{self.fewest} or more"
        elif self.most is not None:
            workers = f"{self.fewest} to {self.most}"
        return f"{workers} with {self.describe_worker()} each"


NO_LIMIT = 1 << 20
"""Workers of a cluster that nobody knows the limit of."""


def plan(cluster: Cluster, workers: WorkerCount = None, gpus: int | None = None) -> Plan:
    """Share the cluster out among workers.

    With GPUs: one worker for each, with its share of its node's CPUs to decode with. Without: one worker for each CPU,
    because decoding and a CNN in one thread a core leave no core idle; fewer ``workers`` get several CPUs each. A
    cluster that may grow begins with what is there.

    Raises:
        UserError: the cluster will never hold what is asked for, however it grows.
    """
    limit = cluster.limit
    fewest, most = workers if isinstance(workers, tuple) else (workers, workers)
    if fewest and most and fewest > most:
        raise UserError(f"workers: found {fewest}:{most}; expected MIN:MAX with MIN not above MAX.")
    counted, gpus = gpus, int(limit.gpus) if gpus is None else gpus
    if not cluster.types and cluster.joined and not places(limit, 1, bool(gpus)):
        # Nobody knows what will come, so the smallest worker is waited for.
        return Plan(fewest or 1, 1, min(gpus, 1), fewest or 1, most or NO_LIMIT, bool(workers))
    if gpus > limit.gpus:
        raise UserError(f"gpus: {gpus} asked for, but the cluster has {cluster.describe()}")
    nodes = [node for node in limit.nodes if node.gpus] if gpus else limit.nodes
    room = sum(int(node.cpus) for node in nodes)
    each = 1
    if gpus:
        each = max(int(min(node.cpus // node.gpus for node in nodes)), 1)
        room = min(places(limit, each, 1), gpus)
    elif most and room >= most:
        each = next(each for each in range(room // most, 0, -1) if places(limit, each, 0) >= most)
    if not room or (fewest or 0) > room:
        what = f"with a CPU and one of {gpus} GPUs each" if gpus else "with a CPU each"
        raise UserError(
            f"workers: {fewest or 1} asked for, {what}, but the cluster has room for {room}: {cluster.describe()}"
        )
    gpu = min(gpus, 1)
    grows = cluster.joined or bool(cluster.types)
    ceiling = room if cluster.types or not grows else NO_LIMIT
    if counted:
        ceiling = room
    most = min(most or ceiling, ceiling)
    now = min(places(cluster, each, gpu), room, most)
    fewest = fewest or 1
    if not grows or fewest == most:
        return Plan(most, each, gpu)
    return Plan(max(now, fewest), each, gpu, fewest, most, bool(workers))


AUTOMATIC = (8, 7, 6, 5, 4, 3, 2, 1, 0.5, 0.25)
"""CPUs per worker to try where the recipe does not say."""


def places(cluster: Cluster, cpus: float, gpus: float) -> int:
    """Workers of that size that the cluster's nodes hold."""

    def on(node: Node) -> float:
        # Ray counts in ten-thousandths: 0.1 goes ten times into 1.
        return min(node.cpus / cpus, node.gpus / gpus if gpus else math.inf) + 1e-6

    return sum(int(on(node)) for node in cluster.nodes)


@dataclass(frozen=True)
class Share(OnDevice):
    """``workers``, or for a time as few as ``at_least``, with ``cpus``, ``gpus`` and ``threads`` each."""

    workers: int
    at_least: int
    cpus: float
    gpus: float
    threads: int

    def describe(self) -> str:
        gpus = f", {self.gpus:g} GPU" if self.gpus else ""
        workers = f"{self.workers} {plural('worker', self.workers)}"
        if self.at_least < self.workers:
            workers = f"{self.at_least} to {workers}"
        return f"{workers} with {self.cpus:g} CPU{gpus}, {self.threads} {plural('thread', self.threads)} each"


def place(recipe: Recipe, cluster: Cluster) -> Share:
    """What each worker gets. Where the recipe leaves it open: a GPU if all can have one, and up to 8 CPUs.

    Raises:
        UserError: the cluster will never hold what is asked for, or several workers are to share a GPU.
    """
    cluster, asked = cluster.limit, recipe.cluster
    at_least = asked.min_workers or asked.workers
    gpus = asked.gpus_per_worker
    if asked.workers > 1 and gpus and gpus < 1:
        # Their gradients are added up by NCCL, which refuses two ranks on one device.
        raise UserError(
            f"cluster.gpus_per_worker is {gpus:g} and cluster.workers {asked.workers}, but the workers of a training "
            "cannot share a GPU. Give each a whole one (cluster.gpus_per_worker=1), or train with one worker and, for "
            "the same step, training.accumulate; trials of a search may share one."
        )
    if gpus is None:
        gpus = 1 if places(cluster, 0.5, 1) >= at_least else 0
    choices = AUTOMATIC if asked.cpus_per_worker is None else (asked.cpus_per_worker,)
    wanted = product((asked.workers, at_least), choices)  # fewer workers only where not even small ones find room
    cpus = next((cpus for workers, cpus in wanted if places(cluster, cpus, gpus) >= workers), None)
    if cpus is None:
        workers = f"cluster.min_workers is {at_least}" if asked.min_workers else f"cluster.workers is {at_least}"
        each = describe_size(choices[-1], gpus)
        raise NoRoom(
            f"{workers}, with {each} each, but the cluster has {cluster.describe()}, room for "
            f"{places(cluster, choices[-1], gpus)}. Ask for fewer workers, or for less in cluster.cpus_per_worker, "
            "of which fractions are allowed, or cluster.gpus_per_worker."
        )
    return Share(asked.workers, at_least, cpus, gpus, asked.threads or max(1, int(cpus)))


@dataclass(frozen=True)
class Room(OnDevice):
    """``concurrent`` trials at a time, with ``cpus``, ``gpus`` and ``threads`` each."""

    concurrent: int
    cpus: float
    gpus: float
    threads: int

    def describe(self) -> str:
        gpus = f", {self.gpus:g} GPU" if self.gpus else ""
        threads = f"{self.threads} {plural('thread', self.threads)} each"
        return f"{self.concurrent} at a time with {self.cpus:g} CPU{gpus}, {threads}"


def room(search: Search, cluster: Cluster) -> Room:
    """How many trials at a time, and what each gets. Where the recipe leaves it open: a GPU each, or a CPU each.

    Raises:
        UserError: the cluster will never hold what is asked for.
    """
    cluster, asked, settings = cluster.limit, search.recipe.cluster, search.settings
    if asked.workers > 1 or asked.min_workers:
        raise UserError(
            f"cluster.workers is {asked.workers}, but a trial is trained by one worker. Leave cluster.workers out; "
            "tune.concurrent is how many trials are trained at a time."
        )
    gpus = asked.gpus_per_worker
    if gpus is None:
        gpus = 1 if cluster.gpus >= 1 else 0
    wanted = settings.concurrent or min(search.count(), int(cluster.gpus / gpus if gpus else cluster.cpus) or 1)
    choices = AUTOMATIC if asked.cpus_per_worker is None else (asked.cpus_per_worker,)
    needed = wanted if settings.concurrent or asked.cpus_per_worker is None else 1
    cpus = next((cpus for cpus in choices if places(cluster, cpus, gpus) >= needed), None)
    if cpus is None:
        each = describe_size(choices[-1], gpus)
        raise NoRoom(
            f"{needed} {plural('trial', needed)} at a time (tune.concurrent), with {each} each, but the cluster has "
            f"{cluster.describe()}, room for {places(cluster, choices[-1], gpus)}. Lower tune.concurrent, "
            "cluster.cpus_per_worker or cluster.gpus_per_worker; fractions are allowed."
        )
    if settings.algorithm == "pbt" and len(cluster.nodes) > 1 and not settings.storage:
        raise UserError(
            f"The trials of a population (tune.algorithm=pbt) leave their weights for one another, and the cluster has "
            f"{len(cluster.nodes)} nodes. Name a place that all of them see: tune.storage=s3://... or a shared folder."
        )
    holds = places(cluster, cpus, gpus)
    concurrent = min(settings.concurrent or holds, holds, search.count())
    return Room(concurrent, cpus, gpus, asked.threads or max(1, int(cpus)))
