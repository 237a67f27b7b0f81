"""Scores of hypotheses: log P(Y) / lp(Y) + cp(X; Y) (Wu et al. 2016, equation 14)."""

from __future__ import annotations

import torch
from torch import Tensor

from rnncond.search.options import SearchOptions


def length_penalty(lengths: Tensor, options: SearchOptions) -> Tensor:
    """lp for ``lengths`` (EOS included), in their shape."""
    if options.length_penalty == "average":
        return lengths.float()
    if options.length_penalty == "gnmt":
        return ((5 + lengths) / 6) ** options.alpha
    return torch.ones_like(lengths, dtype=torch.float)


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
    longest = torch.tensor(options.max_length + 1, device=log_probs.device)
    return log_probs.amax(-1) / length_penalty(longest, options)
