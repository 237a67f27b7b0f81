"""A verb that finds no room on a cluster says so, once in a while, and when there is room."""

from __future__ import annotations

import pytest

from pipelines.cluster.resources import Cluster, Node, Plan
from pipelines.cluster.waiting import AGAIN_SECONDS, STARTING_SECONDS, RoomWatch

CLUSTER = Cluster((Node(8, 1),))
FULL, FREE = {"CPU": 0.5, "GPU": 1.0}, {"CPU": 8.0, "GPU": 1.0}


@pytest.fixture
def begun():
    return []


@pytest.fixture
def watch(begun):
    return RoomWatch(CLUSTER, Plan(2, 4, 0), lambda: bool(begun))


def test_a_full_cluster_is_told_with_what_is_missing(watch, begun, capsys):
    assert not watch.look(FULL, watch.since + 11)
    told = " ".join(capsys.readouterr().err.split())
    assert "Waiting for room since" in told and "2 with 4 CPU each" in told
    assert "8 CPUs and 1 GPUs; 0.5 CPUs and 1 GPUs of it are free" in told
    assert not watch.look(FULL, watch.since + 21)
    assert capsys.readouterr().err == ""
    assert not watch.look(FULL, watch.since + 12 + AGAIN_SECONDS)
    assert "Waiting for room" in capsys.readouterr().err
    begun.append(True)
    assert watch.look(FULL, watch.since + 20 * 60)
    assert capsys.readouterr().err == "There is room now, after 20 min.\n"


def test_workers_that_find_room_have_time_to_start(watch, begun, capsys):
    assert not watch.look(FREE, watch.since + 11)
    begun.append(True)
    assert watch.look(FULL, watch.since + 21)  # full of these workers
    assert capsys.readouterr().err == ""


def test_room_that_is_split_over_nodes_is_told_after_a_while(watch, capsys):
    assert not watch.look(FREE, watch.since + STARTING_SECONDS + 1)
    assert "none has begun" in capsys.readouterr().err


def test_a_full_gpu_is_no_room(begun, capsys):
    watch = RoomWatch(CLUSTER, Plan(1, 1, 1), lambda: bool(begun))
    assert not watch.look({"CPU": 8.0}, watch.since + 11)
    assert "8 CPUs and 0 GPUs of it are free" in capsys.readouterr().err
