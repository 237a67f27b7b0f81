"""Attention of N decoder rows over B memories. Keys are projected once per example, by ``encode``; the K = N / B
rows of an example share its keys and values without copies.

Shapes: query (N, Q), keys (B, L, A), values (B, L, D), mask (B, L) bool or None; context (N, D), weights (N, L).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def attend(scores: Tensor, values: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Softmax of ``scores`` (B, K, L) over unmasked places, and the mean of ``values`` (B, L, D) that it weighs."""
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None], torch.finfo(scores.dtype).min)
    weights = scores.softmax(-1)
    return torch.bmm(weights, values).flatten(0, 1), weights.flatten(0, 1)


def mean_place(values: Tensor, mask: Tensor | None) -> Tensor:
    """The mean over the unmasked places of ``values`` (B, L, D), as (B, D)."""
    if mask is None:
        return values.mean(1)
    share = mask / mask.sum(1, keepdim=True).clamp(min=1)
    return torch.bmm(share[:, None].to(values.dtype), values)[:, 0]


class AdditiveAttention(nn.Module):
    """e_i = v . tanh(W s + U h_i) (Bahdanau, Cho and Bengio 2015, appendix A.1.2)."""

    def __init__(self, query_size: int, value_size: int, size: int, bias: bool = False) -> None:
        super().__init__()
        self.query = nn.Linear(query_size, size, bias=False)
        self.key = nn.Linear(value_size, size, bias=bias)
        self.energy = nn.Linear(size, 1, bias=False)

    def keys(self, values: Tensor) -> Tensor:
        """U h_i for every place: (B, L, D) to (B, L, A)."""
        return self.key(values)

    def forward(self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        queries = self.query(query).view(keys.shape[0], -1, 1, keys.shape[-1])
        scores = self.energy(torch.tanh(keys[:, None] + queries)).squeeze(-1)
        return attend(scores, values, mask)
