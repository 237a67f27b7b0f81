"""A verb that finds no room on a cluster waits for it, says so, and gives up when told to."""

from __future__ import annotations

import pytest

from pipelines.cluster import waiting
from pipelines.cluster.resources import Cluster, Node, Plan
from pipelines.cluster.waiting import wait_for_room
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
    assert "has 2 CPUs and 0 GPUs; 0.5 CPUs and 1 GPUs of it are free" in told
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
