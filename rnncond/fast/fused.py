"""Parts of an unrolled recurrence, made so that T steps cost what their arithmetic costs.

Autograd alone pays for every step a weight gradient of its own (a thin product, and a sum into a matrix the size of
the weight) and a dozen nodes for the gates of an LSTM. Here the weight gradients of all steps are one product, and the
gates are one node. The numbers are those of the plain formulas; nothing here can be differentiated twice.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from rnncond.fast.kernels import Kernel
from rnncond.fast.onednn import RepeatedProduct, product

COMPILED = 2**16
"""Sums of gates of a step from which one compiled loop is faster than torch's kernels, and worth compiling."""


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
        self.multiply = RepeatedProduct(self.weight)

    def __call__(self, x: Tensor) -> Tensor:
        """The next step's product: x (N, Q) to (N, G)."""
        offset = self.offsets[len(self.inputs)]
        x = x.to(self.weight.dtype)
        self.inputs.append(x.detach())
        product: Tensor = self.multiply(x) + offset
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
        return grad, product(grad.flatten(0, 1).t(), inputs.t()), None


def lstm_gates(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """The next h and c (N, H) from the sums of an LSTM's products (N, 4H), in torch's order: in, forget, new, out."""
    gates = gates.to(c.dtype)
    if torch.is_grad_enabled():
        h, c = _LstmGates.apply(gates, c)
        return h, c
    return lstm_next.if_worth(gates.numel() >= COMPILED, _lstm_next, gates, c)


def lstm_cell(x: Tensor, h: Tensor, c: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
    """One step of an LSTM: x (N, I), h and c (N, H) to the next h and c; weights and biases as torch lists them."""
    weight_ih, weight_hh, bias_ih, bias_hh = weights
    return lstm_gates(functional.linear(x, weight_ih, bias_ih) + functional.linear(h, weight_hh, bias_hh), c)


class _LstmGates(Function):
    @staticmethod
    def forward(ctx: Any, gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        h, c_next, opened, squashed = lstm_forward.if_worth(gates.numel() >= COMPILED, _lstm_forward, gates, c)
        ctx.save_for_backward(opened, c, squashed)
        return h, c_next

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_h: Tensor, grad_c: Tensor) -> tuple[Tensor, Tensor]:
        tensors = (*ctx.saved_tensors, grad_h, grad_c)
        return lstm_backward.if_worth(tensors[0].numel() >= COMPILED, _lstm_backward, *tensors)


def _lstm_forward(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The next h and c, and what the gradient needs: the open gates (N, 4H), and tanh of the next c."""
    size = c.shape[1]
    opened = gates.sigmoid()
    write, forget, _, read = opened.split(size, 1)
    new = opened[:, 2 * size : 3 * size]
    torch.tanh(gates[:, 2 * size : 3 * size], out=new)
    c_next = torch.addcmul(forget * c, write, new)
    squashed = c_next.tanh()
    return read * squashed, c_next, opened, squashed


def _lstm_next(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """The next h and c, and nothing for a gradient."""
    h, c, _, _ = _lstm_forward(gates, c)
    return h, c


def _lstm_backward(
    opened: Tensor, c: Tensor, squashed: Tensor, grad_h: Tensor, grad_c: Tensor
) -> tuple[Tensor, Tensor]:
    """The gradients of the gates (N, 4H) and of c."""
    write, forget, new, read = opened.split(c.shape[1], 1)
    grad_c = grad_c + grad_h * read * (1 - squashed * squashed)
    grad_gates = torch.cat([grad_c * new, grad_c * c, grad_c * write, grad_h * squashed], 1)
    slope = opened - opened * opened
    slope[:, 2 * c.shape[1] : 3 * c.shape[1]] = 1 - new * new
    return grad_gates.mul_(slope), grad_c * forget


def _tanh(x: Tensor) -> Tensor:
    """The hyperbolic tangent for compiled loops, which are faster at an exponential than at their own tanh."""
    return 2 * (2 * x).sigmoid() - 1


@Kernel
def lstm_forward(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``_lstm_forward`` in one loop."""
    write, forget, new, read = gates.chunk(4, 1)
    write, forget, new, read = write.sigmoid(), forget.sigmoid(), _tanh(new), read.sigmoid()
    c_next = forget * c + write * new
    squashed = _tanh(c_next)
    return read * squashed, c_next, torch.cat([write, forget, new, read], 1), squashed


@Kernel
def lstm_next(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """``_lstm_next`` in one loop."""
    h, c, _, _ = lstm_forward.function(gates, c)
    return h, c


@Kernel
def lstm_backward(opened: Tensor, c: Tensor, squashed: Tensor, grad_h: Tensor, grad_c: Tensor) -> tuple[Tensor, Tensor]:
    """``_lstm_backward`` in one loop."""
    write, forget, new, read = opened.chunk(4, 1)
    grad_c = grad_c + grad_h * read * (1 - squashed * squashed)
    parts = [
        grad_c * new * write * (1 - write),
        grad_c * c * forget * (1 - forget),
        grad_c * write * (1 - new * new),
        grad_h * squashed * read * (1 - read),
    ]
    return torch.cat(parts, 1), grad_c * forget


def gru_gates(gates: Tensor, recurrent: Tensor, h: Tensor) -> Tensor:
    """The next h (N, H) from W x + b and U h + b (N, 3H), in torch's order: reset, update, new."""
    h = _GruGates.apply(gates.to(h.dtype), recurrent.to(h.dtype), h)
    return h


class _GruGates(Function):
    @staticmethod
    def forward(ctx: Any, gates: Tensor, recurrent: Tensor, h: Tensor) -> Tensor:
        h_next, opened, new = gru_forward.if_worth(gates.numel() >= COMPILED, _gru_forward, gates, recurrent, h)
        ctx.save_for_backward(opened, recurrent, new, h)
        return h_next

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        tensors = (*ctx.saved_tensors, grad)
        return gru_backward.if_worth(tensors[0].numel() >= COMPILED, _gru_backward, *tensors)


def _gru_forward(gates: Tensor, recurrent: Tensor, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The next h, and what the gradient needs: the open gates (N, 2H), and what is new (N, H)."""
    size = h.shape[1]
    opened = (gates[:, : 2 * size] + recurrent[:, : 2 * size]).sigmoid_()
    reset, update = opened.split(size, 1)
    new = torch.addcmul(gates[:, 2 * size :], reset, recurrent[:, 2 * size :]).tanh_()
    return torch.lerp(new, h, update), opened, new


def _gru_backward(
    opened: Tensor, recurrent: Tensor, new: Tensor, h: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of the words' and the recurrence's sums (N, 3H), and of h."""
    size = h.shape[1]
    reset, update = opened.split(size, 1)
    kept = grad * update
    grad_new = (grad - kept) * (1 - new * new)
    slopes = torch.cat([grad_new * recurrent[:, 2 * size :], grad * (h - new)], 1) * (opened - opened * opened)
    return torch.cat([slopes, grad_new], 1), torch.cat([slopes, grad_new * reset], 1), kept


@Kernel
def gru_forward(gates: Tensor, recurrent: Tensor, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``_gru_forward`` in one loop."""
    read, keep, new = gates.chunk(3, 1)
    reset, update, proposed = recurrent.chunk(3, 1)
    reset, update = (read + reset).sigmoid(), (keep + update).sigmoid()
    new = _tanh(new + reset * proposed)
    return new + update * (h - new), torch.cat([reset, update], 1), new


@Kernel
def gru_backward(
    opened: Tensor, recurrent: Tensor, new: Tensor, h: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """``_gru_backward`` in one loop."""
    (reset, update), proposed = opened.chunk(2, 1), recurrent.chunk(3, 1)[2]
    grad_new = grad * (1 - update) * (1 - new * new)
    slopes = [grad_new * proposed * reset * (1 - reset), grad * (h - new) * update * (1 - update)]
    return torch.cat([*slopes, grad_new], 1), torch.cat([*slopes, grad_new * reset], 1), grad * update
