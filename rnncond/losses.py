"""What training minimises: the cross-entropy of real words, as sums and counts.

Sums and counts, not means: the words of a batch that is split over ranks, or of sentences of different lengths, then
weigh the same wherever they are counted.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from rnncond.contract import Memory, Source, System, Unrolled
from rnncond.fast.kernels import Kernel
from rnncond.text.special_tokens import PAD, UNK

COMPILED = 2**19
"""Logits of a batch from which their sums and slopes are worth compiling."""


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
    log_probs, means = _LogProbs.apply(logits, labels)
    total = -log_probs.sum()
    if smoothing:
        total = (1 - smoothing) * total - smoothing * means.sum()
    return total, log_probs


class _LogProbs(Function):
    """Logits (M, V) to each label's log p and the mean of log p over all words, (M,) both.

    The softmax is not kept but made again in the backward pass, in the gradient's own memory. Without a compiler the
    CPU takes some rows at a time, which stay in the cache from pass to pass.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        normalisers, means = row_sums.if_worth(logits.numel() >= COMPILED, _row_sums, logits)
        ctx.save_for_backward(logits, labels, normalisers)
        return logits.gather(1, labels[:, None])[:, 0].to(means.dtype) - normalisers, means - normalisers

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, label_grad: Tensor | None, mean_grad: Tensor | None) -> tuple[Tensor, None]:
        logits, labels, normalisers = ctx.saved_tensors
        zero = torch.zeros_like(normalisers)
        label_grad = zero if label_grad is None else label_grad
        parts = (logits, normalisers, labels, label_grad, zero if mean_grad is None else mean_grad)
        return row_slopes.if_worth(logits.numel() >= COMPILED, _row_slopes, *parts), None


def _row_sums(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The log-sum-exp and the mean of each row of ``logits`` (M, V), in float32 at least: (M,) both."""
    kept = torch.promote_types(logits.dtype, torch.float32)
    normalisers, means = logits.new_empty(len(logits), dtype=kept), logits.new_empty(len(logits), dtype=kept)
    for rows in _parts(logits):
        part = logits[rows].to(kept)
        normalisers[rows] = part.logsumexp(1)
        means[rows] = part.mean(1)
    return normalisers, means


def _row_slopes(logits: Tensor, normalisers: Tensor, labels: Tensor, label_grad: Tensor, mean_grad: Tensor) -> Tensor:
    """The gradient of the logits (M, V): that of a label's log p goes to the label, that of the mean evenly to all
    words, and both sums are taken from the words by their probability."""
    grad = torch.empty_like(logits)
    for rows in _parts(logits):
        part = (logits[rows] - normalisers[rows, None]).exp_()
        part.mul_(-(label_grad + mean_grad)[rows, None]).add_(mean_grad[rows, None], alpha=1 / logits.shape[1])
        grad[rows] = part.scatter_add_(1, labels[rows, None], label_grad[rows, None])
    return grad


@Kernel
def row_sums(logits: Tensor) -> tuple[Tensor, Tensor]:
    """``_row_sums`` in one loop."""
    values = logits.to(torch.promote_types(logits.dtype, torch.float32))
    highest = values.amax(1)
    return (values - highest[:, None]).exp().sum(1).log() + highest, values.mean(1)


@Kernel
def row_slopes(logits: Tensor, normalisers: Tensor, labels: Tensor, label_grad: Tensor, mean_grad: Tensor) -> Tensor:
    """``_row_slopes`` in one loop."""
    probabilities = (logits.to(normalisers.dtype) - normalisers[:, None]).exp()
    grad = mean_grad[:, None] / logits.shape[1] - (label_grad + mean_grad)[:, None] * probabilities
    chosen = torch.arange(logits.shape[1], device=logits.device) == labels[:, None]
    return torch.where(chosen, grad + label_grad[:, None], grad).to(logits.dtype)


def _parts(logits: Tensor) -> list[slice]:
    """Slices of about a megabyte on the CPU; all rows at once elsewhere."""
    size = max(1, 2**18 // logits.shape[1]) if logits.device.type == "cpu" else max(1, len(logits))
    return [slice(start, start + size) for start in range(0, len(logits), size)]


class ForcedScores(NamedTuple):
    """A system's scores of given sentences, over the M real words of N rows of T.

    Attributes:
        unrolled: all N rows.
        logits, labels: (M, V) and (M,), the real positions only.
        mask: (N, T) bool, True on those.
    """

    unrolled: Unrolled
    logits: Tensor
    labels: Tensor
    mask: Tensor

    def spread(self, values: Tensor) -> Tensor:
        """Values of the real words (M,) where they stand, zero elsewhere: (N, T)."""
        return values.new_zeros(self.mask.shape).masked_scatter(self.mask, values)


def teacher_force(system: System, memory: Memory, inputs: Tensor, labels: Tensor) -> ForcedScores:
    """Score ``labels`` (N, T) after the words ``inputs`` (N, T), which begin with BOS. A label of PAD is none.

    The output layer sees real positions only.
    """
    mask = labels != PAD
    real = mask.flatten().nonzero().squeeze(-1)
    unrolled = system.unroll(memory, inputs)
    logits = system.project(unrolled.readout.flatten(0, 1).index_select(0, real))
    return ForcedScores(unrolled, logits, labels.flatten().index_select(0, real), mask)


def drop_words(tokens: Tensor, share: float) -> Tensor:
    """``tokens`` of any shape, whose words are UNK with the probability ``share``; BOS, EOS and PAD stay."""
    dropped = torch.rand(tokens.shape, device=tokens.device) < share
    return tokens.masked_fill(dropped & (tokens > UNK), UNK)


class TeacherForcing(nn.Module):
    """A system and its loss as one module, so that DistributedDataParallel sees one forward pass.

    Args:
        smoothing: see ``cross_entropy``.
        word_dropout: probability that a word which the system reads, of a sentence or of a source text, is UNK (Bowman
            et al. 2016, section 3.1; of translators Sennrich and Zhang 2019). It has to say the word all the same.

    Both act in training alone.
    """

    def __init__(self, system: System, smoothing: float = 0.0, word_dropout: float = 0.0) -> None:
        super().__init__()
        self.system, self.smoothing, self.word_dropout = system, smoothing, word_dropout

    def forward(self, source: Source, tokens: Tensor) -> Sums:
        """Score the sentences ``tokens`` (N, T + 1): BOS, words, EOS, PAD. A row of PAD alone counts nothing."""
        return self.sums(self.encode(source), tokens[:, :-1], tokens[:, 1:])

    def encode(self, source: Source) -> Memory:
        """What the system makes of the source, words of which may be dropped."""
        if self.training and self.word_dropout and not source.values.is_floating_point():
            source = replace(source, values=drop_words(source.values, self.word_dropout))
        return self.system.encode(source)

    def sums(self, memory: Memory, inputs: Tensor, labels: Tensor) -> Sums:
        """The sums over ``labels`` (N, T) after ``inputs`` (N, T), which begin with BOS."""
        if self.training and self.word_dropout:
            inputs = drop_words(inputs, self.word_dropout)
        forced = teacher_force(self.system, memory, inputs, labels)
        smoothing = self.smoothing if self.training else 0.0
        total, log_probs = cross_entropy(forced.logits, forced.labels, smoothing)
        objective = total + self.system.regulariser(forced.unrolled, forced.spread(log_probs), forced.mask)
        return Sums(objective, -log_probs.detach().sum(), torch.tensor(len(log_probs), device=labels.device))
