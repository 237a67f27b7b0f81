"""What each worker, and each trial, gets of a cluster."""

from __future__ import annotations

import pytest

from pipelines.cluster import resources
from pipelines.cluster.resources import Cluster, Node, NodeType, Plan, Room, Share
from pipelines.config.search_space import read_search
from pipelines.config.sections import ClusterSection as Asked
from pipelines.errors import UserError

RATE = "training.learning_rate"
TWO_CPUS = Cluster((Node(2, 0),))


@pytest.mark.parametrize(
    ("asked", "cluster", "share"),
    [
        ({}, TWO_CPUS, (1, 2, 0, 2)),
        ({"workers": 2}, TWO_CPUS, (2, 1, 0, 1)),
        ({"workers": 4}, TWO_CPUS, (4, 0.5, 0, 1)),
        ({"workers": 2, "cpus_per_worker": 0.5}, TWO_CPUS, (2, 0.5, 0, 1)),
        ({"workers": 20, "cpus_per_worker": 0.1}, TWO_CPUS, (20, 0.1, 0, 1)),
        ({"threads": 3}, TWO_CPUS, (1, 2, 0, 3)),
        ({}, Cluster((Node(64, 0),)), (1, 8, 0, 8)),
        ({"workers": 2}, Cluster((Node(16, 0), Node(32, 4))), (2, 8, 1, 8)),
        ({"workers": 8}, Cluster((Node(16, 0), Node(32, 4))), (8, 5, 0, 5)),
        ({"workers": 4, "gpus_per_worker": 1}, Cluster((Node(32, 4),)), (4, 8, 1, 8)),
        ({"gpus_per_worker": 0.5}, Cluster((Node(32, 4),)), (1, 8, 0.5, 8)),
        ({"workers": 4, "gpus_per_worker": 0}, Cluster((Node(32, 4),)), (4, 8, 0, 8)),
        ({"workers": 4, "min_workers": 2}, TWO_CPUS, (4, 0.5, 0, 1)),
        ({"workers": 4, "min_workers": 2, "cpus_per_worker": 1}, TWO_CPUS, (4, 1, 0, 1)),
        ({"workers": 4, "min_workers": 2}, Cluster((Node(8, 2),)), (4, 4, 1, 4)),
    ],
)
def test_what_each_worker_gets(asked, cluster, share):
    found = place(asked, cluster)
    assert (found.workers, found.cpus, found.gpus, found.threads) == share


def place(asked, cluster):
    class Wanted:
        cluster = Asked(**asked)

    return resources.place(Wanted, cluster)


@pytest.mark.parametrize(
    ("asked", "room"),
    [
        ({"workers": 3, "cpus_per_worker": 1}, 2),
        ({"cpus_per_worker": 3}, 0),
        ({"gpus_per_worker": 1}, 0),
        ({"workers": 9}, 8),
        ({"workers": 9, "min_workers": 3, "cpus_per_worker": 1}, 2),
    ],
)
def test_a_request_that_cannot_be_placed(asked, room):
    with pytest.raises(UserError, match=f"room for {room}"):
        place(asked, TWO_CPUS)


@pytest.mark.parametrize("asked", [{"workers": 2}, {"workers": 2, "min_workers": 1}])
def test_workers_of_a_training_do_not_share_a_gpu(asked):
    told = r"gpus_per_worker is 0.5 and cluster.workers 2.*cluster.gpus_per_worker=1\).*training.accumulate"
    with pytest.raises(UserError, match=told):
        place({**asked, "gpus_per_worker": 0.5}, Cluster((Node(32, 4),)))


TYPES = (NodeType("cpu", 16, 0, 10), NodeType("gpu", 16, 2, 3))
EMPTY = Cluster((Node(0, 0),), TYPES, joined=True)  # a head without work
HEAD = Cluster((Node(0, 0),), joined=True)
FARM = Cluster((Node(0, 0), Node(16, 0)), (TYPES[0],), joined=True)


@pytest.mark.parametrize(
    ("cluster", "asked", "expected"),
    [
        (EMPTY, {}, Plan(1, 8, 1, 1, 6, False)),
        (EMPTY, {"gpus": 0}, Plan(1, 1, 0, 1, 208, False)),
        (EMPTY, {"gpus": 1}, Plan(1, 8, 1)),
        (EMPTY, {"gpus": 0, "workers": (2, 20)}, Plan(2, 8, 0, 2, 20)),
        (EMPTY, {"gpus": 0, "workers": 13}, Plan(13, 16, 0)),
        (FARM, {}, Plan(16, 1, 0, 1, 160, False)),
        (FARM, {"workers": (1, 20)}, Plan(2, 8, 0, 1, 20)),
        (HEAD, {}, Plan(1, 1, 0, 1, resources.NO_LIMIT, False)),
        (HEAD, {"gpus": 1, "workers": (3, 5)}, Plan(3, 1, 1, 3, 5)),
        (Cluster((Node(0, 0), Node(4, 0)), joined=True), {}, Plan(4, 1, 0, 1, resources.NO_LIMIT, False)),
        (TWO_CPUS, {"workers": (1, 8)}, Plan(2, 1, 0)),
    ],
)
def test_a_plan_of_a_cluster_that_may_grow(cluster, asked, expected):
    assert resources.plan(cluster, **asked) == expected


@pytest.mark.parametrize(
    ("cluster", "asked", "message"),
    [
        (FARM, {"gpus": 1}, "1 asked for.*16 CPUs and 0 GPUs on 2 nodes, and may start up to 10 cpu with 16 CPU$"),
        (EMPTY, {"gpus": 7}, "7 asked for.*up to 3 gpu with 16 CPU and 2 GPU"),
        (FARM, {"workers": (161, 200)}, "161 asked for, with a CPU each.*room for 160"),
        (TWO_CPUS, {"workers": (3, 8)}, "3 asked for.*room for 2"),
        (TWO_CPUS, {"workers": (2, 1)}, "2:1; expected MIN:MAX with MIN not above MAX"),
    ],
)
def test_a_worker_that_no_node_will_ever_hold_is_refused(cluster, asked, message):
    with pytest.raises(UserError, match=message):
        resources.plan(cluster, **asked)


def test_more_workers_than_the_work_is_worth_do_not_come():
    grows = resources.plan(FARM)
    assert [grows.worth(inputs) for inputs in (1, 20_000, 10**6)] == [16, 20, 160]
    assert resources.plan(FARM, (1, 20)).worth(1) == 20  # the user's own word
    assert resources.plan(TWO_CPUS).worth(1) == 2


def test_a_training_and_a_search_may_have_nodes_that_are_still_to_come():
    assert place({"gpus_per_worker": 1, "workers": 2}, EMPTY).cpus == 8
    assert resources.room(search_of(), EMPTY).gpus == 1


@pytest.mark.parametrize(
    ("nodes", "overrides", "expected"),
    [
        ([(2, 0)], (), (2, 1, 0)),
        ([(2, 0)], ("tune.concurrent=1",), (1, 2, 0)),
        ([(2, 0)], ("tune.concurrent=4",), (4, 0.5, 0)),
        ([(2, 0)], ("cluster.cpus_per_worker=0.5",), (4, 0.5, 0)),
        ([(16, 4), (16, 4)], (), (8, 4, 1)),
        ([(16, 1)], ("cluster.gpus_per_worker=0.25",), (4, 4, 0.25)),
        ([(64, 0)], (), (9, 7, 0)),
    ],
)
def test_trials_share_the_cluster_out(nodes, overrides, expected):
    share = resources.room(search_of(*overrides), Cluster(tuple(Node(*node) for node in nodes)))
    assert (share.concurrent, share.cpus, share.gpus) == expected


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("tune.concurrent=9",), r"9 trials at a time \(tune.concurrent\), with 0.25 CPU.*2 CPUs.*room for 8"),
        (("cluster.cpus_per_worker=3",), r"1 trial at a time .* with 3 CPU each.*2 CPUs and 0 GPUs, room for 0"),
        (("cluster.gpus_per_worker=1",), r"with 0.25 CPU and 1 GPU each.*0 GPUs, room for 0"),
        (("cluster.workers=2",), r"cluster.workers is 2, but a trial is trained by one worker"),
    ],
)
def test_more_than_there_is_is_refused(overrides, message):
    with pytest.raises(UserError, match=message):
        resources.room(search_of(*overrides), Cluster((Node(2, 0),)))


def test_a_population_on_several_nodes_needs_a_place_for_its_weights():
    population = ("tune.algorithm=pbt", f"tune.space={{{RATE}: [0.1, 0.2]}}")
    two = Cluster((Node(2, 0), Node(2, 0)))
    with pytest.raises(UserError, match="Name a place that all of them see"):
        resources.room(search_of(*population), two)
    assert resources.room(search_of(*population, "tune.storage=s3://bucket"), two).concurrent == 4


def search_of(*overrides):
    section = f"tune={{trials: 9, space: {{{RATE}: {{log: [1e-4, 1e-2]}}}}}}"
    return read_search("show_tell.small", ["data.store=s", "data.captions=c", section, *overrides])


@pytest.mark.parametrize(("threads", "shown"), [(1, "1 thread each"), (2, "2 threads each")])
def test_threads_have_their_plural(threads, shown):
    assert Share(1, 1, 1, 0, threads).describe() == f"1 worker with 1 CPU, {shown}"
    assert Room(3, 1, 0, threads).describe() == f"3 at a time with 1 CPU, {shown}"
