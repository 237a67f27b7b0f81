"""A Ray cluster on this machine whose autoscaler starts and ends fake nodes: raylets, each a process of its own.

``ray.cluster_utils.AutoscalingCluster`` does this with the command line, ends every Ray of the machine first, and reads
a file that the wheel of Ray does not have.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from ray._private.ray_constants import PROCESS_TYPE_MONITOR
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID, FakeMultiNodeProvider
from ray.cluster_utils import Cluster

from tests.worlds.nodes import SOON, children, patiently, title_of

HEAD = "ray.head.default"


class AutoscalingNodes:
    """A head without CPUs, and an autoscaler (v2, as ``ray up`` and KubeRay start it) that may start ``most`` nodes of
    ``resources``. It begins with none. A context manager."""

    def __init__(self, resources: dict[str, float], most: int) -> None:
        self.types: dict[str, Any] = {
            "worker": {"resources": resources, "node_config": {}, "min_workers": 0, "max_workers": most},
            HEAD: {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        }

    def __enter__(self) -> AutoscalingNodes:
        self.folder = tempfile.mkdtemp(prefix="nodes")
        with socket.socket() as free:
            free.bind(("", 0))
            port = free.getsockname()[1]
        config = Path(self.folder) / "ray_bootstrap_config.yaml"  # as `ray up` leaves it in the home of the head
        config.write_text(json.dumps(self.config(port)))
        head: dict[str, Any] = {
            "num_cpus": 0, "gcs_server_port": port, "autoscaling_config": str(config), "include_dashboard": False,
            "include_log_monitor": False, "_system_config": {**SOON, "enable_autoscaler_v2": True},
            "env_vars": dict.fromkeys(("RAY_OVERRIDE_NODE_ID_FOR_TESTING", "RAY_CLOUD_INSTANCE_ID"), FAKE_HEAD_NODE_ID),
        }  # fmt: skip
        with environment(
            RAY_TMPDIR=self.folder, RAY_FAKE_CLUSTER="1", AUTOSCALER_UPDATE_INTERVAL_S="1", RAY_enable_autoscaler_v2="1"
        ):
            self.cluster = patiently(lambda: Cluster(initialize_head=True, head_node_args=head))
        self.address = self.cluster.address
        (monitor,) = self.cluster.head_node.all_processes[PROCESS_TYPE_MONITOR]
        self.autoscaler = monitor.process.pid
        return self

    def __exit__(self, *_: object) -> None:
        for raylet in self.raylets():
            end(raylet)
        self.cluster.remove_node(self.cluster.head_node, allow_graceful=False)
        for process in psutil.process_iter():  # the nodes' readers of logs, which are no children of a raylet
            if self.folder in title_of(process):
                process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def config(self, port: int) -> dict[str, Any]:
        """What ``ray up`` would write; the autoscaler wants every key."""
        address = f"{socket.gethostbyname(socket.gethostname())}:{port}"
        provider = {
            "type": "external", "module": f"{FakeMultiNodeProvider.__module__}.FakeMultiNodeProvider",
            "gcs_address": address, "launch_multiple": True,
            "head_node_id": FAKE_HEAD_NODE_ID, "disable_node_updaters": True, "disable_launch_config_check": True,
        }  # fmt: skip
        empty = {
            key: []
            for key in (
                "initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands",
                "head_start_ray_commands", "worker_start_ray_commands", "cluster_synced_files",
            )
        }  # fmt: skip
        return {
            "cluster_name": "fake", "max_workers": 8, "provider": provider, "head_node_type": HEAD, "auth": {},
            "available_node_types": self.types, "upscaling_speed": 1.0, "idle_timeout_minutes": 60, "docker": {},
            "file_mounts": {}, "file_mounts_sync_continuously": False, "rsync_exclude": [], "rsync_filter": [],
            **empty,
        }  # fmt: skip

    def raylets(self) -> list[psutil.Process]:
        """Of the nodes that the autoscaler has started."""
        return [one for one in children(self.autoscaler) if "/raylet/raylet " in title_of(one)]


def end(raylet: psutil.Process) -> None:
    """SIGKILL to a node, as when its machine is taken away."""
    for process in [raylet, *children(raylet.pid)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


@contextlib.contextmanager
def environment(**variables: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
