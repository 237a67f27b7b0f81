"""Draws from the distributions of a system in training."""

from __future__ import annotations

from torch import Tensor


def draw(probabilities: Tensor) -> Tensor:
    """Draw an index (N,) from each row of ``probabilities`` (N, M), by torch's own generator.

    Where a system has diverged, its probabilities are not a number. ``torch.multinomial`` raises at those, and on CUDA
    ends the process; here such a row is drawn from evenly. The loss is not a number then, either, which tells whoever
    trains in one message, and needs no look at the device at every word.
    """
    return probabilities.nan_to_num(nan=1.0, posinf=1.0).multinomial(1)[:, 0]
