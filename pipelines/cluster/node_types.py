"""Which nodes a cluster's autoscaler may start.

Ray keeps that from its drivers: its autoscaler alone reads it, from a file that ``ray up`` leaves on the head, or from
the RayCluster of KubeRay. A driver on the head can read both. Elsewhere, and where nodes are started by hand, nothing
is known, and a driver makes do with the nodes that come.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pipelines.cluster.resources import NodeType

logger = logging.getLogger(__name__)

CONFIG = Path("~/ray_bootstrap_config.yaml")
"""What ``ray up`` leaves on the head."""
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Of a pod that may talk to Kubernetes, as KubeRay's heads with an autoscaler may."""


def node_types() -> tuple[NodeType, ...]:
    """The types of nodes that may be started, but for the head; none where that is not known."""
    try:
        config = read_kuberay() if "RAY_CLUSTER_NAME" in os.environ else read_ray_up()
        return of_config(config) if config else ()
    except Exception as error:  # of a file, a server or Ray's own reader: the work is done without
        logger.warning("which nodes the cluster may start is not known: %s: %s", type(error).__name__, error)
        return ()


def of_config(config: Mapping[str, Any]) -> tuple[NodeType, ...]:
    """The types of an autoscaler's configuration, in the form of ``ray up``."""
    total = config.get("max_workers")
    types = []
    for name, about in config["available_node_types"].items():
        most = about.get("max_workers", total) or 0
        if name == config.get("head_node_type") or not most:
            continue
        has = about.get("resources") or {}
        most = most if total is None else min(most, total)
        types.append(NodeType(name, has.get("CPU", 0), has.get("GPU", 0), most))
    return tuple(types)


def read_ray_up() -> Mapping[str, Any] | None:
    path = CONFIG.expanduser()
    if not path.exists():
        return None
    config: Mapping[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return config


def read_kuberay() -> Mapping[str, Any] | None:
    """What the operator's RayCluster says, as Ray's own autoscaler reads it."""
    if not (ACCOUNT / "token").exists():
        return None
    from ray.autoscaler._private.kuberay import autoscaling_config, node_provider

    namespace = (ACCOUNT / "namespace").read_text(encoding="utf-8").strip()
    client = node_provider.KubernetesHttpApiClient(namespace=namespace)
    cluster = client.get(f"rayclusters/{os.environ['RAY_CLUSTER_NAME']}")
    return autoscaling_config._derive_autoscaling_config_from_ray_cr(cluster)
