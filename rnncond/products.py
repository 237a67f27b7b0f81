"""Matrix products of layers, by the faster of the libraries that torch comes with.

For float32 on a CPU torch multiplies with MKL. oneDNN, which torch has too, is as fast or faster: on an AMD EPYC by a
tenth to a quarter, and by two thirds for an output layer whose vocabulary is no multiple of a cache line
(``benchmarks/products.py``). Everything else goes to ``torch.nn.functional.linear``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence


class Linear(nn.Linear):
    """``nn.Linear`` by ``linear``."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


class LSTM(nn.LSTM):
    """``nn.LSTM`` that runs under bfloat16 autocast on any CPU: in float32 where oneDNN, which torch asks whatever the
    processor, has no such LSTM (it needs AVX-512)."""

    def forward(self, x: Tensor | PackedSequence, start: tuple[Tensor, Tensor] | None = None):
        device = x.data.device.type
        lacking = torch.backends.mkldnn.is_available() and not torch.ops.mkldnn._is_mkldnn_bf16_supported()
        if not (device == "cpu" and torch.is_autocast_enabled(device) and lacking):
            return super().forward(x, start)
        with torch.autocast(device, enabled=False):
            return super().forward(x.float(), start and (start[0].float(), start[1].float()))


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b for ``x`` (..., I), ``weight`` (O, I) and ``bias`` (O,): (..., O)."""
    if not (_onednn_takes(x) and _onednn_takes(weight)):
        return functional.linear(x, weight, bias)
    return _Linear.apply(x, weight, bias)


def _onednn_takes(x: Tensor) -> bool:
    return (
        x.dtype is torch.float32
        and x.device.type == "cpu"
        and x.numel() > 0
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and not torch.is_autocast_enabled("cpu")
    )


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if not (weight.is_contiguous() or weight.t().is_contiguous()):
        # Columns of a wider matrix: oneDNN has only its reference code for them, some 700 times slower than a copy.
        weight = weight.contiguous()
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


class _Linear(Function):
    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad
        rows = grad.flatten(0, -2)
        return (
            _product(grad, weight.t()) if wants_x else None,
            _product(rows.t(), x.flatten(0, -2).t()) if wants_weight else None,
            rows.sum(0) if wants_bias else None,
        )
