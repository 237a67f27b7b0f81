"""What training minimises: the cross-entropy of real words, as sums and counts.

Sums and counts, not means: the words of a batch that is split over ranks, or of sentences of different lengths, then
weigh the same wherever they are counted.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from rnncond.contract import PAD, Source, System


class Sums(NamedTuple):
    """Scalars over the real words of a batch.

    Attributes:
        objective: what to minimise once divided by ``words``: smoothed cross-entropy and the system's regulariser.
        loss: -log p of the words, in nats, neither smoothed nor regularised, without gradient.
        words: how many there are, EOS included.
    """

    objective: Tensor
    loss: Tensor
    words: Tensor


def cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
    """The summed cross-entropy of ``labels`` (M,) under ``logits`` (M, V), and each label's log-probability (M,).

    Label smoothing: (1 - smoothing) of the target is the label and the rest is uniform over all V words, the label
    included (Szegedy et al. 2016, section 7).
    """
    logits = logits.float()
    normaliser = logits.logsumexp(-1)
    log_probs = logits.gather(-1, labels[:, None]).squeeze(-1) - normaliser
    total = -log_probs.sum()
    if smoothing:
        uniform = (normaliser - logits.mean(-1)).sum()
        total = (1 - smoothing) * total + smoothing * uniform
    return total, log_probs


class TeacherForcing(nn.Module):
    """A system and its loss as one module, so that DistributedDataParallel sees one forward pass."""

    def __init__(self, system: System, smoothing: float = 0.0) -> None:
        super().__init__()
        self.system, self.smoothing = system, smoothing

    def forward(self, source: Source, tokens: Tensor) -> Sums:
        """Score the sentences ``tokens`` (N, T + 1): BOS, words, EOS, PAD. A row of PAD alone counts nothing.

        The output layer and the softmax see real positions only.
        """
        inputs, labels = tokens[:, :-1], tokens[:, 1:]
        mask = labels != PAD
        real = mask.flatten().nonzero().squeeze(-1)
        unrolled = self.system.unroll(self.system.encode(source), inputs)
        logits = self.system.project(unrolled.readout.flatten(0, 1).index_select(0, real))
        smoothing = self.smoothing if self.training else 0.0
        total, log_probs = cross_entropy(logits, labels.flatten().index_select(0, real), smoothing)
        grid = log_probs.new_zeros(mask.numel()).index_copy(0, real, log_probs).view_as(mask)
        objective = total + self.system.regulariser(unrolled, grid, mask)
        return Sums(objective, -log_probs.detach().sum(), torch.tensor(len(real), device=mask.device))
