"""What the ranks of a run tell each other, alone and two together."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pipelines.training import distributed
from tests.worlds.training import tiny_recipe


def told_by(rank: int) -> dict[str, object]:
    """What a rank hears, and the gradient that it steps by after one batch and after two."""
    weight = nn.Linear(1, 1, bias=False)
    module = distributed.wrap(weight, torch.device("cpu"))
    module(torch.tensor([[rank + 1.0]])).sum().backward()
    once = weight.weight.grad.item()
    weight.zero_grad()
    with distributed.no_sync(module):
        module(torch.tensor([[10.0 * (rank + 1)]])).sum().backward()
    module(torch.tensor([[rank + 1.0]])).sum().backward()
    return {
        "place": (distributed.rank(), distributed.count()),
        "total": distributed.total(torch.tensor([rank + 1.0])).item(),
        "gather": distributed.gather(f"of {rank}"),
        "share": distributed.share(f"of {rank}"),
        "gradients": (once, weight.weight.grad.item()),
    }


def test_alone_everything_is_ones_own():
    assert told_by(0) == {
        "place": (0, 1), "total": 1, "gather": ["of 0"], "share": "of 0", "gradients": (1, 11),
    }  # fmt: skip


@pytest.mark.parametrize(("here", "least", "expected"), [(4, 1, 3), (3, 1, 4), (2, 1, 6), (1, 1, 12), (1, "null", 3)])
def test_fewer_workers_of_an_elastic_run_take_more_batches_to_a_step(monkeypatch, tmp_path, here, least, expected):
    """Of 4 workers with 3 batches each."""
    world = ["data.store=store", "data.captions=captions.jsonl"]
    monkeypatch.setattr(distributed, "count", lambda: here)
    asked = ("cluster.workers=4", f"cluster.min_workers={least}", "training.accumulate=3")
    assert distributed.accumulated(tiny_recipe(world, tmp_path, *asked)) == expected
