"""What an autoscaler may start, from the places where its configuration lies."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ray.autoscaler._private.kuberay import node_provider

from pipelines.cluster import node_types as module
from pipelines.cluster.node_types import node_types
from pipelines.cluster.resources import NodeType

ROOT = Path(__file__).parents[4]


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_CLUSTER_NAME", raising=False)
    return tmp_path


def test_nothing_is_known_off_the_head(nowhere, monkeypatch):
    assert node_types() == ()
    monkeypatch.setenv("RAY_CLUSTER_NAME", "rnncond-cluster")
    monkeypatch.setattr(module, "ACCOUNT", nowhere / "none")
    assert node_types() == ()


def test_the_file_of_ray_up(nowhere):
    config = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    config["available_node_types"]["cpu"]["resources"] = {"CPU": 16}
    config["available_node_types"]["gpu"]["max_workers"] = 10**6  # more than the cluster's own limit
    (nowhere / "ray_bootstrap_config.yaml").write_text(yaml.safe_dump(config))
    by_name = {kind.name: kind for kind in node_types()}
    assert set(by_name) == {"cpu", "gpu"}
    assert (by_name["cpu"].cpus, by_name["cpu"].gpus) == (16, 0)
    assert by_name["gpu"].gpus >= 1 and by_name["gpu"].most == config["max_workers"]


def test_a_damaged_file_is_none(nowhere):
    (nowhere / "ray_bootstrap_config.yaml").write_text("available_node_types: 3")
    assert node_types() == ()


def test_the_cluster_of_kuberay(nowhere, monkeypatch):
    """As Ray's own reader has it of the manifest that is in deploy/."""
    (cluster,) = yaml.safe_load_all((ROOT / "deploy/kuberay/raycluster.yaml").read_text())
    cluster["metadata"]["namespace"] = "pictures"
    asked = []

    def get(client, path):
        asked.append((client._namespace, path))
        return cluster

    monkeypatch.setattr(node_provider.KubernetesHttpApiClient, "get", get)
    monkeypatch.setattr(module, "ACCOUNT", nowhere)
    (nowhere / "token").write_text("secret")
    (nowhere / "namespace").write_text("pictures\n")
    monkeypatch.setenv("RAY_CLUSTER_NAME", "rnncond-cluster")
    assert node_types() == (NodeType("cpu", 16, 0, 10), NodeType("gpu", 16, 1, 10))
    assert asked == [("pictures", "rayclusters/rnncond-cluster")]
