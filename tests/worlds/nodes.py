"""A Ray cluster on this machine with raylets, each a process of its own, that can be killed."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from typing import TypeVar

import psutil
from ray._private.node import Node
from ray._private.ray_constants import PROCESS_TYPE_RAYLET
from ray._private.services import wait_for_node
from ray.cluster_utils import Cluster
from ray.experimental import internal_kv

DEADLINE = 300
"""Seconds after which what has not happened will not."""
ACTOR, TRAINER = "ray::MapWorker", "TrainWorker"
"""How processes are titled that compute units, and that train."""
# A node that is killed is given up in seconds. One that is only slow has as long as ever to answer.
SOON = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 500}
Found = TypeVar("Found")


class Nodes:
    """A head without CPUs, where the drivers connect, and ``count`` nodes with a CPU each. A context manager."""

    def __init__(self, count: int = 2) -> None:
        self.count = count

    def __enter__(self) -> Nodes:
        # A head makes its GCS that of this process's key-value store. Another Ray that the process has joined would
        # wait a minute at its next call, for a GCS that is gone by then, and end the process.
        self.store_before = internal_kv.global_gcs_client
        self.folder = tempfile.mkdtemp(prefix="nodes")
        before = os.environ.get("RAY_TMPDIR")
        os.environ["RAY_TMPDIR"] = self.folder  # where Ray also leaves the address, which nobody else is to find
        try:
            head = {"num_cpus": 0, "include_dashboard": False, "include_log_monitor": False, "_system_config": SOON}
            self.cluster = patiently(lambda: Cluster(initialize_head=True, head_node_args=head))
        finally:
            os.environ.pop("RAY_TMPDIR") if before is None else os.environ.update(RAY_TMPDIR=before)
        self.address = self.cluster.address
        self.fill()
        return self

    def __exit__(self, *_) -> None:
        # Not Cluster.shutdown, which makes a Ray forget its own head that this process may have beside this one.
        for node in [*self.cluster.worker_nodes, self.cluster.head_node]:
            self.cluster.remove_node(node, allow_graceful=False)
        internal_kv._internal_kv_reset()
        if self.store_before is not None:
            internal_kv._initialize_internal_kv(self.store_before)
        shutil.rmtree(self.folder, ignore_errors=True)

    def fill(self) -> None:
        """As many nodes as there were. In place of one that Ray took for dead, as it may on a busy machine, and whose
        raylet then ended itself, there is another."""
        for node in list(self.cluster.worker_nodes):
            if all(raylet.process.poll() is not None for raylet in node.all_processes[PROCESS_TYPE_RAYLET]):
                self.kill(node)
        while len(self.cluster.worker_nodes) < self.count:
            node = patiently(lambda: self.cluster.add_node(wait=False, num_cpus=1))
            wait_for_node(node.gcs_address, node.plasma_store_socket_name, DEADLINE)

    def resize(self, count: int) -> None:
        """Have ``count`` nodes: some come, or the last ones are killed."""
        self.count = count
        for node in list(self.cluster.worker_nodes)[count:]:
            self.kill(node)
        self.fill()

    def kill(self, node: Node) -> None:
        """SIGKILL to all of the node's processes; those that Ray Data or Train had there die with them."""
        self.cluster.remove_node(node, allow_graceful=False)

    def processes(self, title: str) -> list[tuple[psutil.Process, Node]]:
        """The workers of such a title, and where they are."""
        found = []
        for node in list(self.cluster.worker_nodes):
            for raylet in node.all_processes.get(PROCESS_TYPE_RAYLET, []):
                found += [(child, node) for child in children(raylet.process.pid) if title in title_of(child)]
        return found

    def await_process(self, title: str, still: Callable[[], bool]) -> tuple[psutil.Process, Node]:
        """One of them, as soon as one is there, while ``still`` is so."""
        return await_(lambda: self.processes(title), still)[0]

    def settle(self) -> None:
        """All nodes there, and nothing left of a driver that was killed."""
        await_(lambda: not (self.processes(ACTOR) or self.processes(TRAINER)))
        self.fill()


def patiently(start: Callable[[], Found]) -> Found:
    """``start`` a node; again where Ray, which fixes that at 30 seconds, gave a busy machine too little time."""
    for attempt in range(5):
        before = set(children(os.getpid()))
        try:
            return start()
        except Exception as error:  # Ray has no class for this
            if "timed out" not in str(error) or attempt == 4:
                raise
            for process in set(children(os.getpid())) - before:
                process.kill()
    raise AssertionError


def await_(condition: Callable[[], Found], still: Callable[[], bool] = lambda: True) -> Found:
    """What ``condition`` gives, once that is true."""
    deadline = time.monotonic() + DEADLINE
    while not (found := condition()):
        assert still()
        assert time.monotonic() < deadline, "nothing happens"
        time.sleep(0.02)
    return found


def children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def title_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it ended, or is about to
        return ""
