"""Scores of hypotheses: log P(Y) / lp(Y) + cp(X; Y) (Wu et al. 2016, equation 14)."""

from __future__ import annotations

import torch
from torch import Tensor

from rnncond.fast.kernels import Kernel
from rnncond.search.options import SearchOptions

COMPILED = 2**19
"""Logits of a step from which their log-sum-exp is worth compiling."""


def normaliser(logits: Tensor) -> Tensor:
    """The log-sum-exp over the words of ``logits`` (N, V) in float32, all of them finite: (N, 1)."""
    worth = logits.numel() >= COMPILED and len(logits) > 1
    return log_sum_exp.if_worth(worth, lambda rows: rows.logsumexp(-1, keepdim=True), logits)


@Kernel
def log_sum_exp(logits: Tensor) -> Tensor:
    """``normaliser`` in two passes over the logits and no copy of them; torch's own takes twice as long."""
    highest = logits.amax(-1, keepdim=True)
    return (logits - highest).exp().sum(-1, keepdim=True).log() + highest


def length_penalty(length: int, options: SearchOptions) -> float:
    """lp of a hypothesis of ``length`` words, EOS included."""
    if options.length_penalty == "average":
        return float(length)
    if options.length_penalty == "gnmt":
        return float(((5 + length) / 6) ** options.alpha)
    return 1.0


def coverage_penalty(coverage: Tensor, mask: Tensor | None, options: SearchOptions) -> Tensor:
    """cp of ``coverage`` (A, K, L), the attention that each place got in all; ``mask`` (A, L). Gives (A, K), <= 0."""
    seen = coverage.clamp(torch.finfo(coverage.dtype).tiny, 1).log()
    if mask is not None:
        seen = seen.masked_fill(~mask[:, None], 0)
    return options.coverage_beta * seen.sum(-1)


def score_upper_bound(log_probs: Tensor, options: SearchOptions) -> Tensor:
    """The highest score that hypotheses of ``log_probs`` (A, K) can still reach: (A,).

    A longer hypothesis has no higher log-probability, lp does not fall with length, and cp is at most zero.
    """
    return log_probs.amax(-1) / length_penalty(options.max_length + 1, options)
