import pytest
import torch

from pipelines.cluster.resources import Plan
from pipelines.engine.workers import shipped


class Noting:
    def __init__(self, plan, *shared):
        self.plan, self.shared, self.threads = plan, shared, torch.get_num_threads()


@pytest.mark.ray
def test_what_is_shared_arrives_once_and_the_threads_are_the_plans(ray_cluster, monkeypatch):
    threads = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    weights, plan = torch.arange(5.0), Plan(1, 3, 0)
    start = shipped(Noting, weights, "a name")(plan)
    worker = start()
    assert (worker.plan, worker.shared[1], threads) == (plan, "a name", [3])
    assert torch.equal(worker.shared[0], weights) and worker.shared[0] is not weights
