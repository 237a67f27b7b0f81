"""Attention of N decoder rows over B memories. Keys are projected once per example, by ``encode``; the K = N / B
rows of an example share its keys and values without copies.

Shapes: query (N, Q), keys (B, L, A), values (B, L, D), mask (B, L) bool or None; context (N, D), weights (N, L).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from rnncond.fast.additive import additive_attention, exponential, masked_softmax


def attend(scores: Tensor, values: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Softmax of ``scores`` (B, K, L) over unmasked places, and the mean of ``values`` (B, L, D) that it weighs."""
    weights = masked_softmax(scores, mask)
    return torch.bmm(weights, values).flatten(0, 1), weights.flatten(0, 1)


def mix(weights: Tensor, values: Tensor) -> Tensor:
    """The mean of ``values`` (B, L, D) under ``weights`` (N, L) or (N, T, L): (N, D) or (N, T, D)."""
    shared = weights.reshape(values.shape[0], -1, values.shape[1])
    return torch.bmm(shared, values).view(*weights.shape[:-1], -1)


def mean_place(values: Tensor, mask: Tensor | None) -> Tensor:
    """The mean over the unmasked places of ``values`` (B, L, D), as (B, D)."""
    if mask is None:
        return values.mean(1)
    share = mask.to(values.dtype)
    share = share / share.sum(1, keepdim=True).clamp(min=1)
    return torch.bmm(share[:, None], values)[:, 0]


def cheaper_projected(places: int, size: int, width: int, words: int) -> bool:
    """Whether ``words`` means of ``places`` vectors of one example, each times one matrix (size, width), take fewer
    multiplications as means of the products: then the matrix meets every place once, not every mean."""
    return places * size * width + words * places * width < words * size * width + words * places * size


class DotAttention(nn.Module):
    """e_i = s . h_i (Luong, Pham and Manning 2015, equation 8). A query is as wide as a key."""

    def keys(self, values: Tensor) -> Tensor:
        """The places themselves, (B, L, D)."""
        return values

    def forward(self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """One step: context (N, D) and weights (N, L) of ``query`` (N, Q), over ``keys`` (B, L, Q)."""
        return attend(torch.bmm(query.reshape(keys.shape[0], -1, keys.shape[-1]), keys.mT), values, mask)

    def over(self, keys: Tensor, values: Tensor, mask: Tensor | None) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        """Many steps over one memory: a function of the query (N, Q)."""
        return lambda query: self(query, keys, values, mask)


class GeneralAttention(DotAttention):
    """e_i = s . W h_i (Luong, Pham and Manning 2015, equation 8); W h_i is the key."""

    def __init__(self, query_size: int, value_size: int) -> None:
        super().__init__()
        self.key = nn.Linear(value_size, query_size, bias=False)

    def keys(self, values: Tensor) -> Tensor:
        """W h_i for every place: (B, L, D) to (B, L, Q)."""
        keys: Tensor = self.key(values)
        return keys


class AdditiveAttention(nn.Module):
    """e_i = v . tanh(W s + U h_i) (Bahdanau, Cho and Bengio 2015, appendix A.1.2).

    As tanh(x) = 1 - 2 / (1 + exp(2x)), an exponential per key and one per query take the place of a tanh per pair:

        e_i = sum(v) - 2 v . 1 / (1 + exp(2 U h_i) exp(2 W s)),  of which the softmax needs the last term only.
    """

    def __init__(self, query_size: int, value_size: int, size: int, bias: bool = False) -> None:
        super().__init__()
        self.query = nn.Linear(query_size, size, bias=False)
        self.key = nn.Linear(value_size, size, bias=bias)
        self.energy = nn.Linear(size, 1, bias=False)

    def keys(self, values: Tensor) -> Tensor:
        """exp(2 U h_i) for every place: (B, L, D) to (B, L, A)."""
        return exponential(self.key(values))

    def forward(self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """One step: context (N, D) and weights (N, L) of ``query`` (N, Q)."""
        return self.over(keys, values, mask)(self.query(query))

    def over(self, keys: Tensor, values: Tensor, mask: Tensor | None) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        """Many steps over one memory: a function of W s (N, A), whose calls add their gradients up in place."""
        return additive_attention(keys, values, self.energy.weight, mask)
