"""Two layers of torch that need help on a CPU: the output layer, for its speed, and the LSTM, in bfloat16."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence

from rnncond.fast.onednn import always_faster, product

LINE = 16
"""Numbers of float32 in a line of the cache."""


class OutputLayer(nn.Linear):
    """``nn.Linear`` by ``output_product``."""

    def forward(self, x: Tensor) -> Tensor:
        return output_product(x, self.weight, self.bias)


def output_product(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x W^T + b for ``x`` (..., R), ``weight`` (V, R) and ``bias`` (V,): (..., V).

    On a CPU it is oneDNN's product where that is the faster one. With MKL's each row of the result begins at a line of
    the cache, with free places between the rows: where V is no multiple of a line MKL takes a third longer to write
    rows without them (``benchmarks/products.py``).
    """
    if type(weight) not in (Tensor, nn.Parameter):
        lean = getattr(weight, "logits", None)  # of a LeanWeight, which knows better
        return lean(x, bias) if lean and x.ndim == 2 else functional.linear(x, weight, bias)
    plain = x.device.type != "cpu" or x.dtype is not torch.float32 or torch.is_autocast_enabled("cpu")
    if plain or (weight.shape[0] % LINE == 0 and not always_faster(x)):
        return functional.linear(x, weight, bias)
    logits: Tensor = _OutputProduct.apply(x, weight, bias)
    return logits


class _OutputProduct(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        rows, words = x.reshape(-1, x.shape[-1]), weight.shape[0]
        if always_faster(x):
            return product(rows, weight, bias).view(*x.shape[:-1], words)
        logits = x.new_empty(len(rows), -(-words // LINE) * LINE)[:, :words]
        return torch.addmm(bias, rows, weight.t(), out=logits).view(*x.shape[:-1], words)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad
        rows = grad.flatten(0, -2)
        return (
            product(rows, weight.t()).view(x.shape) if wants_x else None,
            product(x.flatten(0, -2).t(), rows.t()).t() if wants_weight else None,
            rows.sum(0) if wants_bias else None,
        )


def as_float32(x: Tensor | PackedSequence) -> Tensor | PackedSequence:
    return x.float() if isinstance(x, Tensor) else x._replace(data=x.data.float())


class LSTM(nn.LSTM):
    """``nn.LSTM`` that runs under autocast on any CPU: in float32 where oneDNN, which torch asks whatever the
    processor, has no LSTM of that precision (bfloat16 needs AVX-512, float16 more)."""

    def forward(self, x: Tensor | PackedSequence, start: tuple[Tensor, Tensor] | None = None) -> Any:
        if getattr(self.weight_ih_l0, "in_bfloat16", False):  # a LeanWeight, of a model that decodes
            with torch.autocast("cpu", torch.bfloat16):
                outputs, (h, c) = super().forward(x, start)
            return as_float32(outputs), (h.float(), c.float())
        device = x.data.device.type
        if not (device == "cpu" and torch.is_autocast_enabled(device) and torch.backends.mkldnn.is_available()):
            return super().forward(x, start)
        known = torch.ops.mkldnn
        half = torch.get_autocast_dtype(device) is torch.float16
        if known._is_mkldnn_fp16_supported() if half else known._is_mkldnn_bf16_supported():
            return super().forward(x, start)
        with torch.autocast(device, enabled=False):
            return super().forward(x.float(), start and (start[0].float(), start[1].float()))
