"""Features of pictures as networks like them: every channel around zero and of one size.

CNNs differ a hundredfold in the size of what they give, and after a ReLU all of it is positive. Fed as it is, the part
that pictures have in common drowns what tells them apart, and a captioner learns one caption for all of them first.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

FLOOR = 0.1
"""Smallest deviation of a channel, in parts of the mean one: channels that hardly move must not become noise."""


class Standardise(nn.Module):
    """(x - mean) / deviation by channel, (..., D) to (..., D). Changes nothing until ``fit``; not learnt by descent.

    Args:
        size: D.
        deviation: that every channel gets.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, size: int, deviation: float = 1.0) -> None:
        super().__init__()
        self.deviation = deviation
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))

    def fit(self, mean: Tensor, deviation: Tensor) -> None:
        """Take the channels' ``mean`` and ``deviation`` (D,) over the training pictures."""
        floor = (FLOOR * deviation.mean()).clamp_min(1e-6)
        self.mean.copy_(mean)
        self.scale.copy_(self.deviation / torch.maximum(deviation, floor))

    def forward(self, values: Tensor) -> Tensor:
        return (values.to(self.mean.dtype) - self.mean) * self.scale
