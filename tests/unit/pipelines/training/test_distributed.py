"""What the ranks of a run tell each other, alone and two together."""

from __future__ import annotations

import torch
from torch import nn
from torch.multiprocessing import spawn

from pipelines.training import distributed


def told(rank: int) -> dict[str, object]:
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


def together(rank: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", f"file://{folder}/ranks", rank=rank, world_size=2)
    torch.save(told(rank), f"{folder}/{rank}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def test_alone_everything_is_ones_own():
    assert told(0) == {
        "place": (0, 1), "total": 1, "gather": ["of 0"], "share": "of 0", "gradients": (1, 11),
    }  # fmt: skip


def test_two_ranks_add_gather_share_and_average(tmp_path, monkeypatch):
    """The gradient of w x is x: 1 and 2, of mean 1.5; with another 10 and 20 before it, (11 + 22) / 2."""
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    spawn(together, (str(tmp_path),), nprocs=2)
    for rank in range(2):
        assert torch.load(tmp_path / f"{rank}.pt") == {
            "place": (rank, 2), "total": 3, "gather": ["of 0", "of 1"], "share": "of 0", "gradients": (1.5, 16.5),
        }  # fmt: skip
