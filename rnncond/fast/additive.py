"""Additive attention as one node of autograd a step: forward, and the gradients of all steps added up in place.

The fraction of every pair of a query and a place is most of the work. ``rnncond.fast.kernels`` compiles it with its
sums; without a compiler the same fraction goes through torch's own kernels, in a scratch that all steps share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from rnncond.fast.kernels import Kernel

LARGEST = 43.0
"""The largest |U h| or |W s| that additive attention tells apart: beyond, exp(2x) leaves float32."""

Method = TypeVar("Method", bound=Callable[..., Any])

COMPILED = 2**16
"""Pairs times A from which a compiled loop is faster than torch's kernels, and worth compiling."""
SCRATCH = 2**23
"""Numbers (32 MB) that additive attention works on at a time: a beam of five over fifty pictures has 25 million."""


def additive_attention(
    keys: Tensor, values: Tensor, energy: Tensor, mask: Tensor | None
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Many steps over one memory: a function of W s (N, A) that gives context (N, D) and weights (N, L).

    As tanh(x) = 1 - 2 / (1 + exp(2x)), an exponential per key and one per query take the place of a tanh per pair:

        v . tanh(W s + U h_i) = sum(v) - 2 v . 1 / (1 + exp(2 U h_i) exp(2 W s)),

    of which the softmax needs the last term only. In the backward pass the steps add their gradients up in place.

    Args:
        keys: exp(2 U h_i) (B, L, A), made by ``exponential``.
        values: (B, L, D).
        energy: v (1, A).
        mask: (B, L) or None.
    """
    values, energy = values.to(keys.dtype), energy.to(keys.dtype)
    sums = _Sums(keys.detach(), values.detach(), energy.detach()[0], mask, values.requires_grad)
    tie: Tensor | None = None

    def look(queries: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal tie
        queries = queries.to(keys.dtype)
        if torch.is_grad_enabled():
            tie = _Memory.apply(keys, values, energy, sums) if tie is None else tie
            context, weights = _Additive.apply(queries, tie, sums)
        else:
            context, weights, _ = sums.look(queries)
        return context.flatten(0, 1), weights.flatten(0, 1)

    return look


def masked_softmax(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Softmax of ``scores`` (B, K, L) over the places that ``mask`` (B, L) has; over all without one. Of an example
    without any place it is uniform."""
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None], torch.finfo(scores.dtype).min)
    return scores.softmax(-1)


def exponential(projected: Tensor) -> Tensor:
    """exp(2x), in float32 at least: half precision has no room for it."""
    if projected.dtype in (torch.float16, torch.bfloat16):
        projected = projected.float()
    return (2 * projected).clamp(-2 * LARGEST, 2 * LARGEST).exp()


def without_autocast(function: Method) -> Method:
    """A Function's method that works in float32 under autocast too, where its tensors are float32."""

    @wraps(function)
    def run(ctx: Any, *arguments: Any) -> Any:
        device = next(argument.device.type for argument in arguments if isinstance(argument, Tensor))
        with torch.autocast(device, enabled=False):
            return function(ctx, *arguments)

    return cast(Method, run)


class _Sums:
    """What the steps over one memory share: the memory, room to work in, and in the backward pass their sums."""

    def __init__(self, keys: Tensor, values: Tensor, energy: Tensor, mask: Tensor | None, values_wanted: bool) -> None:
        self.keys, self.values, self.energy, self.mask = keys, values, energy, mask
        self.values_wanted = values_wanted
        self.scratch = keys.new_empty(0)
        self.reset()

    def reset(self) -> None:
        self.grad_keys: Tensor | None = None
        self.grad_energy: Tensor | None = None
        self.read: list[tuple[Tensor, Tensor]] = []

    @without_autocast
    def look(self, queries: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One step's context (B, K, D), weights (B, K, L) and exponentials (B, K, A), for W s (N, A)."""
        examples, _, size = self.keys.shape
        exponentials = exponential(queries).view(examples, -1, size)
        weights = masked_softmax(self.scores(exponentials), self.mask)
        return torch.bmm(weights, self.values), weights, exponentials

    def scores(self, queries: Tensor) -> Tensor:
        """-2 v . 1 / (1 + exp(2 U h_i) exp(2 W s)) for exponentials of ``queries`` (B, K, A): (B, K, L)."""
        if self.compile(queries) and (compiled := pair_scores(self.keys, queries, self.energy)) is not None:
            return compiled
        scores = self.keys.new_empty(*queries.shape[:2], self.keys.shape[1])
        for rows, pairs in self.pairs(queries):
            torch.matmul(pairs, self.energy, out=scores[rows])
        return scores.mul_(-2)

    def add_gradients(self, queries: Tensor, grad_scores: Tensor) -> Tensor:
        """Add a step's to those of keys and v, from that of its scores (B, K, L); (B, K, A) for its queries, as far
        as the pairs go: the caller has the factors that all pairs share."""
        if self.grad_keys is None or self.grad_energy is None:
            self.grad_keys, self.grad_energy = torch.zeros_like(self.keys), torch.zeros_like(self.energy)
        if self.compile(queries) and (compiled := pair_slopes(self.keys, queries, grad_scores, self.grad_keys)):
            slopes, sums = compiled
            self.grad_energy.sub_(sums.sum((0, 1)), alpha=2)
            return slopes
        slopes = torch.empty_like(queries)
        for rows, pairs in self.pairs(queries):
            part = grad_scores[rows]
            self.grad_energy.addmv_(pairs.flatten(0, 2).t(), part.flatten(), alpha=-2)
            pairs.addcmul_(pairs, pairs, value=-1)
            torch.matmul(part[:, :, None], pairs, out=slopes[rows, :, None])
            for k in range(part.shape[1]):
                self.grad_keys[rows].addcmul_(pairs[:, k], part[:, k, :, None])
        return slopes

    def compile(self, queries: Tensor) -> bool:
        """Whether the work is enough; not for a single example or place, for which a loop would have to be compiled."""
        examples, places, _ = self.keys.shape
        return examples > 1 and places > 1 and places * queries.numel() >= COMPILED

    def pairs(self, queries: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """1 / (1 + exp(2 U h_i) exp(2 W s)) for ``queries`` (B, K, A): some examples at a time, (b, K, L, A)."""
        shared, (_, places, size) = queries.shape[1], self.keys.shape
        at_once = max(1, SCRATCH // (shared * places * size))
        if self.scratch.numel() == 0:
            self.scratch = self.keys.new_empty(min(at_once, len(queries)), shared, places, size)
        one = self.keys.new_ones(())
        for start in range(0, len(queries), at_once):
            rows = slice(start, min(start + at_once, len(queries)))
            part = self.scratch[: rows.stop - start]
            torch.addcmul(one, self.keys[rows, None], queries[rows, :, None], out=part)
            yield rows, part.reciprocal_()


class _Memory(Function):
    """Stands for keys, values and v in every step: runs backward once, after the steps, with their sums."""

    @staticmethod
    def forward(ctx: Any, keys: Tensor, values: Tensor, energy: Tensor, sums: _Sums) -> Tensor:
        ctx.sums = sums
        return keys.new_zeros(())

    @staticmethod
    @once_differentiable
    @without_autocast
    def backward(ctx: Any, *_: Any) -> Any:
        sums = ctx.sums
        grad_keys = sums.grad_keys.mul_(2 * sums.energy).div_(sums.keys)
        grad_values = None
        if sums.read:  # else nobody wants it, or no step's context was used
            weights, grad_contexts = (torch.cat(parts, 1) for parts in zip(*sums.read, strict=True))
            grad_values = torch.bmm(weights.mT, grad_contexts)
        grad_energy = sums.grad_energy[None]
        sums.reset()
        return grad_keys, grad_values, grad_energy, None


class _Additive(Function):
    """One step: W s (N, A) to context (B, K, D) and weights (B, K, L)."""

    @staticmethod
    def forward(ctx: Any, queries: Tensor, tie: Tensor, sums: _Sums) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        context, weights, exponentials = sums.look(queries)
        ctx.sums = sums
        ctx.save_for_backward(exponentials, weights)
        return context, weights

    @staticmethod
    @once_differentiable
    @without_autocast
    def backward(ctx: Any, grad_context: Tensor | None, grad_weights: Tensor | None) -> Any:
        exponentials, weights = ctx.saved_tensors
        sums = ctx.sums
        grad = torch.zeros_like(weights) if grad_weights is None else grad_weights
        if grad_context is not None:
            grad = torch.baddbmm(grad, grad_context, sums.values.mT)
            if sums.values_wanted:
                sums.read.append((weights, grad_context))
        grad_scores = weights * (grad - (weights * grad).sum(-1, keepdim=True))
        slopes = sums.add_gradients(exponentials, grad_scores)
        return slopes.mul_(4 * sums.energy).flatten(0, 1), torch.zeros_like(sums.energy[0]), None


@Kernel
def pair_scores(keys: Tensor, queries: Tensor, energy: Tensor) -> Tensor:
    """``_Sums.scores`` of keys (B, L, A), queries (B, K, A) and v (A,)."""
    return (energy / (1 + keys[:, None] * queries[:, :, None])).sum(-1).mul(-2)


@Kernel
def pair_slopes(keys: Tensor, queries: Tensor, grad: Tensor, grad_keys: Tensor) -> tuple[Tensor, Tensor]:
    """Add to ``grad_keys`` (B, L, A); the sums over places of p (1 - p) g and of p g, (B, K, A), for the fraction p and
    the gradient g (B, K, L) of each pair."""
    pairs = 1 / (1 + keys[:, None] * queries[:, :, None])
    slopes = (pairs - pairs * pairs) * grad[..., None]
    grad_keys.add_(slopes.sum(1))
    return slopes.sum(2), (pairs * grad[..., None]).sum(2)
