"""A verb that finds no room on a cluster waits for it, says so, and gives up when told to."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pipelines.cluster import waiting
from pipelines.cluster.resources import Cluster, Node, NodeType, NoRoom, Plan
from pipelines.cluster.waiting import share_out_when_there, wait_for_room
from pipelines.config.sections import ClusterSection
from pipelines.errors import Fault, UserError

CLUSTER = Cluster((Node(2, 0),))


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(waiting, "POLL_SECONDS", 0.1)


@pytest.mark.ray
def test_room_that_is_there_is_not_waited_for(ray_cluster, capsys):
    assert not wait_for_room(CLUSTER, Plan(1, 1, 0), 0)
    assert capsys.readouterr().err == ""


@pytest.mark.ray
def test_a_full_cluster_is_told_and_waited_for(ray_cluster, impatient, monkeypatch, capsys):
    free = [{"CPU": 0.5, "GPU": 1.0}]
    monkeypatch.setattr(waiting, "has_room", lambda plan: False)
    monkeypatch.setattr(waiting.ray, "available_resources", lambda: free[0])
    ready = iter([False, False, True])
    monkeypatch.setattr(waiting.ray, "wait", lambda promises, timeout: (promises if next(ready) else [], []))
    assert wait_for_room(CLUSTER, Plan(2, 1, 0), 60)
    told = " ".join(capsys.readouterr().err.split())
    assert told.count("Waiting for room since") == 1 and "2 with 1 CPU each" in told
    assert "has 2 CPUs and 0 GPUs; 0.5 CPUs and 1 GPU of it are free" in told
    assert "There is room now, after" in told


@pytest.mark.ray
def test_it_is_given_up_after_the_time_of_the_user(ray_cluster, impatient, monkeypatch):
    monkeypatch.setattr(waiting, "is_infeasible", lambda plan: False)
    with pytest.raises(Fault, match=r"No worker found room for 0.3 seconds \(--wait\): 1 with 3 CPU each.*has 2 CPUs"):
        wait_for_room(CLUSTER, Plan(1, 3, 0), 0.3)


@pytest.mark.ray
def test_a_worker_that_no_node_will_hold_is_told_as_the_autoscaler_reports_it(ray_cluster, impatient, monkeypatch):
    status = waiting.GetClusterStatusReply()
    request = status.autoscaling_state.infeasible_resource_requests.add()
    request.resources_bundle.update({"CPU": 3.0, "GPU": 1.0})

    class Gcs:
        def __init__(self, address):
            assert ":" in address

        def get_cluster_status(self, timeout_s):
            return status.SerializeToString()

    monkeypatch.setattr(waiting, "GcsClient", Gcs)
    with pytest.raises(UserError, match="holds a worker with 3 CPU and 1 GPU") as told:
        wait_for_room(CLUSTER, Plan(1, 3, 1), 60)
    assert told.value.code == 2
    assert not waiting.is_infeasible(Plan(1, 3, 0))


EMPTY = Cluster((Node(0, 0),), joined=True)
"""Of another's, whose head does no work."""


@pytest.fixture
def nodes_come(monkeypatch, impatient):
    """A function by which nodes come when they have been asked for so many times; what was asked for, and ended."""
    asked: list = []

    def come(after: float) -> list:
        waits = iter(range(99))
        group = SimpleNamespace(wait=lambda seconds: next(waits) >= after)
        monkeypatch.setattr(waiting, "placement_group", lambda bundles: asked.append(bundles) or group)
        monkeypatch.setattr(waiting, "remove_placement_group", lambda group: asked.append("removed"))
        full = Cluster((Node(0, 0), Node(2, 0)), joined=True)
        monkeypatch.setattr(waiting.connection, "running", lambda: full)
        return asked

    return come


def two_workers(cluster: Cluster) -> float:
    if cluster.cpus < 2:
        raise NoRoom("no room")
    return cluster.cpus


def test_a_training_waits_for_workers_that_nobody_knows_of(nodes_come, capsys):
    asked = nodes_come(after=3)
    assert share_out_when_there(two_workers, EMPTY, ClusterSection(workers=2, gpus_per_worker=0), 60) == 2
    assert asked == [[{"CPU": 1}, {"CPU": 1}], "removed"]
    told = " ".join(capsys.readouterr().err.split())
    assert told.count("Waiting for nodes, for 60 seconds at most (--wait)") == 1 and "2 workers with 1 CPU" in told


def test_a_training_gives_up_when_nobody_came(nodes_come):
    asked = nodes_come(after=float("inf"))
    with pytest.raises(Fault, match=r"No worker came for 0 seconds \(--wait\): 1 with 0.5 CPU and 1 GPU"):
        share_out_when_there(two_workers, EMPTY, ClusterSection(cpus_per_worker=0.5, gpus_per_worker=1), 0)
    assert asked == [[{"CPU": 0.5, "GPU": 1}], "removed"]


@pytest.mark.parametrize(
    "cluster",
    [
        Cluster((Node(1, 0),)),  # Ray on this machine: no more will come
        Cluster((Node(1, 0),), joined=True),  # there are workers, and fewer than asked for
        Cluster((Node(0, 0),), (NodeType("small", 1, 0, 1),), joined=True),  # what may come is too little
    ],
)
def test_what_will_not_come_is_not_waited_for(nodes_come, cluster):
    asked = nodes_come(after=0)
    with pytest.raises(NoRoom):
        share_out_when_there(two_workers, cluster, ClusterSection(workers=2), 60)
    assert asked == []
