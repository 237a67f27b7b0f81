"""float32 products by oneDNN, where its are faster than MKL's, which torch takes for them.

MKL has AVX-512 for Intel's processors alone. On others that have it oneDNN takes half of MKL's time, or less, for any
number of rows; where there is only AVX2, four fifths for few rows and a packed matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

Product = Callable[[Tensor], Tensor]

ROWS = 8
"""Rows of products by a packed matrix are a multiple of this: oneDNN keeps half a megabyte for every number of rows it
has met."""


def packed_rows(device: torch.device) -> float:
    """Up to how many rows oneDNN multiplies float32 by a packed matrix faster than MKL does: always, with AVX-512; for
    few rows with AVX2; never on a GPU or another processor."""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return 0
    capability = torch.backends.cpu.get_cpu_capability()
    return float("inf") if capability.startswith("AVX512") else 64 if capability == "AVX2" else 0


def always_faster(x: Tensor) -> bool:
    """Whether oneDNN is the faster one for products like those of ``x`` in training, by matrices that change."""
    return x.dtype is torch.float32 and packed_rows(x.device) == float("inf")


def packed(weight: Tensor, bias: Tensor | None) -> Product:
    """x W^T + b for ``x`` (N, I), without gradient, by ``weight`` (O, I) packed for it."""
    form = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), 64)

    def multiply(x: Tensor) -> Tensor:
        more = -len(x) % ROWS
        x = functional.pad(x, (0, 0, 0, more)) if more else x
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, form, bias, "none", [], "")
        return y[: len(y) - more] if more else y

    return multiply


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b for ``x`` (N, I) and ``weight`` (O, I), without gradient, by the faster one of the two."""
    if not always_faster(x) or x.numel() == 0:
        return functional.linear(x, weight, bias)
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return y


class RepeatedProduct:
    """x W^T at many steps, by a W (O, I) that stands still meanwhile; with the gradient of x, and none of W."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight
        self.forth = packed(weight, None) if always_faster(weight) else None

    @cached_property
    def back(self) -> Product:
        """The product of the gradient; packed at the first backward pass, which scoring has not."""
        return packed(self.weight.t(), None)

    def __call__(self, x: Tensor) -> Tensor:
        """x (N, I) to (N, O)."""
        if self.forth is None or len(x) == 0:
            return functional.linear(x, self.weight)
        y: Tensor = _Repeated.apply(x, self.forth, self)
        return y


class _Repeated(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, forth: Product, repeated: RepeatedProduct) -> Tensor:
        ctx.repeated = repeated
        return forth(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return ctx.repeated.back(grad.contiguous()), None, None
