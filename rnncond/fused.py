"""Parts of an unrolled recurrence, made so that T steps cost what their arithmetic costs.

Autograd alone pays for every step a weight gradient of its own (a thin product, and a sum into a matrix the size of
the weight) and a dozen nodes for the gates of an LSTM. Here the weight gradients of all steps are one product, and the
gates are one node. The numbers are those of the plain formulas; nothing here can be differentiated twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

LARGEST = 43.0
"""The largest |U h| or |W s| that additive attention tells apart: beyond, exp(2x) leaves float32."""

Method = TypeVar("Method", bound=Callable[..., Any])

SCRATCH = 2**23
"""Numbers (32 MB) that additive attention works on at a time: a beam of five over fifty pictures has 25 million."""


class StepProducts:
    """The product x_t W^T + o_t of every step t, with o_t known for all steps before the first.

        products = StepProducts(weight, offsets)
        for t in range(T):
            ... products(x_t)

    Under autocast the weight is cast once, not at every step: autocast itself keeps the casts of parameters alone, and
    of what is joined from them or cut out of them each step would make, and keep, a copy of its own.

    Args:
        weight: W (G, Q).
        offsets: (N, T, G); a bias may be expanded to that.
    """

    def __init__(self, weight: Tensor, offsets: Tensor) -> None:
        self.inputs: list[Tensor] = []
        self.offsets = _CollectedProducts.apply(offsets, weight, self.inputs).unbind(1)
        self.weight = as_autocast(weight.detach())

    def __call__(self, x: Tensor) -> Tensor:
        """The next step's product: x (N, Q) to (N, G)."""
        offset = self.offsets[len(self.inputs)]
        x = x.to(self.weight.dtype)
        self.inputs.append(x.detach())
        product: Tensor = functional.linear(x, self.weight) + offset
        return product


def as_autocast(x: Tensor) -> Tensor:
    """``x`` as a product under autocast reads it: in half precision where float32 is cast to that, else as it is."""
    device = x.device.type
    if x.dtype is torch.float32 and torch.is_autocast_enabled(device):
        return x.to(torch.get_autocast_dtype(device))
    return x


class _CollectedProducts(Function):
    """Passes the offsets on. Their gradient is that of every step's product, hence the weight's in one product."""

    @staticmethod
    def forward(ctx: Any, offsets: Tensor, weight: Tensor, inputs: list[Tensor]) -> Tensor:
        ctx.inputs = inputs
        return offsets.view_as(offsets)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        inputs = torch.stack(ctx.inputs, 1).flatten(0, 1).to(grad.dtype)
        return grad, functional.linear(grad.flatten(0, 1).t(), inputs.t()), None


def lstm_gates(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """The next h and c (N, H) from the sums of an LSTM's products (N, 4H), in torch's order: in, forget, new, out."""
    h, c = _LstmGates.apply(gates.to(c.dtype), c)
    return h, c


def lstm_cell(x: Tensor, h: Tensor, c: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
    """One step of an LSTM: x (N, I), h and c (N, H) to the next h and c; weights and biases as torch lists them."""
    weight_ih, weight_hh, bias_ih, bias_hh = weights
    return lstm_gates(functional.linear(x, weight_ih, bias_ih) + functional.linear(h, weight_hh, bias_hh), c)


class _LstmGates(Function):
    @staticmethod
    def forward(ctx: Any, gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        size = c.shape[1]
        opened = gates.sigmoid()
        write, forget, _, read = opened.split(size, 1)
        new = opened[:, 2 * size : 3 * size]
        torch.tanh(gates[:, 2 * size : 3 * size], out=new)
        c_next = torch.addcmul(forget * c, write, new)
        squashed = c_next.tanh()
        ctx.save_for_backward(opened, c, squashed)
        return read * squashed, c_next

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_h: Tensor, grad_c: Tensor) -> tuple[Tensor, Tensor]:
        opened, c, squashed = ctx.saved_tensors
        write, forget, new, read = opened.split(c.shape[1], 1)
        grad_c = grad_c + grad_h * read * (1 - squashed * squashed)
        grad_gates = torch.cat([grad_c * new, grad_c * c, grad_c * write, grad_h * squashed], 1)
        slope = opened - opened * opened
        slope[:, 2 * c.shape[1] : 3 * c.shape[1]] = 1 - new * new
        return grad_gates.mul_(slope), grad_c * forget


def gru_gates(gates: Tensor, recurrent: Tensor, h: Tensor) -> Tensor:
    """The next h (N, H) from W x + b and U h + b (N, 3H), in torch's order: reset, update, new."""
    h = _GruGates.apply(gates.to(h.dtype), recurrent.to(h.dtype), h)
    return h


class _GruGates(Function):
    @staticmethod
    def forward(ctx: Any, gates: Tensor, recurrent: Tensor, h: Tensor) -> Tensor:
        size = h.shape[1]
        opened = (gates[:, : 2 * size] + recurrent[:, : 2 * size]).sigmoid_()
        reset, update = opened.split(size, 1)
        proposed = recurrent[:, 2 * size :]
        new = torch.addcmul(gates[:, 2 * size :], reset, proposed).tanh_()
        ctx.save_for_backward(opened, proposed, new, h)
        return torch.lerp(new, h, update)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        opened, proposed, new, h = ctx.saved_tensors
        reset, update = opened.split(h.shape[1], 1)
        kept = grad * update
        grad_new = (grad - kept) * (1 - new * new)
        slopes = torch.cat([grad_new * proposed, grad * (h - new)], 1) * (opened - opened * opened)
        return torch.cat([slopes, grad_new], 1), torch.cat([slopes, grad_new * reset], 1), kept


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
    tie = _Memory.apply(keys, values, energy, sums)
    return lambda queries: _Additive.apply(queries.to(keys.dtype), tie, sums)


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
    """One step: W s (N, A) to context (N, D) and weights (N, L)."""

    @staticmethod
    @without_autocast
    def forward(ctx: Any, queries: Tensor, tie: Tensor, sums: _Sums) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        examples, places, size = sums.keys.shape
        exponentials = exponential(queries).view(examples, -1, size)
        scores = sums.keys.new_empty(examples, exponentials.shape[1], places)
        for rows, pairs in sums.pairs(exponentials):
            torch.matmul(pairs, sums.energy, out=scores[rows])
        weights = masked_softmax(scores.mul_(-2), sums.mask)
        ctx.sums = sums
        ctx.save_for_backward(exponentials, weights)
        return torch.bmm(weights, sums.values).flatten(0, 1), weights.flatten(0, 1)

    @staticmethod
    @once_differentiable
    @without_autocast
    def backward(ctx: Any, grad_context: Tensor | None, grad_weights: Tensor | None) -> Any:
        exponentials, weights = ctx.saved_tensors
        sums = ctx.sums
        grad = torch.zeros_like(weights) if grad_weights is None else grad_weights.view_as(weights)
        if grad_context is not None:
            grad_context = grad_context.view(*weights.shape[:2], -1)
            grad = torch.baddbmm(grad, grad_context, sums.values.mT)
            if sums.values_wanted:
                sums.read.append((weights, grad_context))
        grad_scores = weights * (grad - (weights * grad).sum(-1, keepdim=True))
        if sums.grad_keys is None:
            sums.grad_keys, sums.grad_energy = torch.zeros_like(sums.keys), torch.zeros_like(sums.energy)
        slopes = torch.empty_like(exponentials)
        for rows, pairs in sums.pairs(exponentials):
            part = grad_scores[rows]
            sums.grad_energy.addmv_(pairs.flatten(0, 2).t(), part.flatten(), alpha=-2)
            pairs.addcmul_(pairs, pairs, value=-1)
            torch.matmul(part[:, :, None], pairs, out=slopes[rows, :, None])
            for k in range(part.shape[1]):
                sums.grad_keys[rows].addcmul_(pairs[:, k], part[:, k, :, None])
        return slopes.mul_(4 * sums.energy).flatten(0, 1), torch.zeros_like(sums.energy[0]), None
