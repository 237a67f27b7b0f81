"""What the ranks of a run tell each other, alone and two together."""

from __future__ import annotations

import torch
from torch import nn

from pipelines.training import distributed


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
