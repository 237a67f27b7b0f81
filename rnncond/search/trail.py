"""What a search leaves behind step by step, and how sentences are read from it at the end."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rnncond.contract import PAD


class Hypotheses(NamedTuple):
    """The sentences found, best first.

    Where an example has fewer than ``nbest`` (the rules left nothing to say), the missing have length 0.

    Attributes:
        tokens: (B, nbest, T) int64, each ending with EOS, PAD behind.
        lengths: (B, nbest) int64, EOS included.
        scores: (B, nbest) what ranks them: log P(Y) / lp(Y) + cp(X; Y).
        log_probs: (B, nbest) log P(Y), natural logarithm, EOS included; as the model has it, whatever the rules.
        attention: (B, nbest, T, S or L), zero behind the end; None unless asked for and the system attends.
    """

    tokens: Tensor
    lengths: Tensor
    scores: Tensor
    log_probs: Tensor
    attention: Tensor | None


class Trail:
    """Per step: a word and a back-pointer for each place of each beam; nothing is copied when beams re-order."""

    def __init__(self, steps: int, examples: int, width: int, device: torch.device) -> None:
        shape = (steps, examples, width)
        self.words = torch.full(shape, PAD, device=device)
        self.parents = torch.zeros(shape, dtype=torch.long, device=device)
        self.scores = torch.full(shape, -torch.inf, device=device)
        self.log_probs = torch.full(shape, -torch.inf, device=device)
        self.attention: Tensor | None = None

    def record(self, t: int, examples: Tensor, words: Tensor, parents: Tensor) -> None:
        """Step ``t`` of ``examples`` (A,); the rest (A, K)."""
        self.words[t, examples] = words
        self.parents[t, examples] = parents

    def record_ends(self, t: int, examples: Tensor, scores: Tensor, log_probs: Tensor) -> None:
        """What ended at step ``t``: (A, K), minus infinity where nothing did."""
        self.scores[t, examples] = scores
        self.log_probs[t, examples] = log_probs

    def record_attention(self, t: int, examples: Tensor, attention: Tensor) -> None:
        """(A, K, L) attention with which the words of step ``t`` were chosen."""
        if self.attention is None:
            self.attention = attention.new_zeros(*self.words.shape, attention.shape[-1])
        self.attention[t, examples] = attention

    def hypotheses(self, count: int) -> Hypotheses:
        """The ``count`` best of each example, the earlier first among equals."""
        width = self.words.shape[2]
        by_example = self.scores.transpose(0, 1).flatten(1)
        scores, order = by_example.sort(dim=1, descending=True, stable=True)
        scores, order = scores[:, :count], order[:, :count]
        log_probs = self.log_probs.transpose(0, 1).flatten(1).gather(1, order)
        lengths = (order // width + 1).where(scores > -torch.inf, 0)
        tokens, attention = self._read_back(lengths, order % width)
        return Hypotheses(tokens, lengths, scores, log_probs, attention)

    def _read_back(self, lengths: Tensor, places: Tensor) -> tuple[Tensor, Tensor | None]:
        """Tokens (B, n, T) and attention (B, n, T, L) of sentences of ``lengths`` (B, n) that end at ``places``."""
        longest = int(lengths.max())
        tokens = torch.full((*lengths.shape, longest), PAD, device=lengths.device)
        attention = None
        if self.attention is not None:
            attention = self.attention.new_zeros(*lengths.shape, longest, self.attention.shape[-1])
        for t in reversed(range(longest)):
            inside = t < lengths
            tokens[..., t] = self.words[t].gather(1, places).where(inside, PAD)
            if attention is not None:
                index = places[..., None].expand(-1, -1, attention.shape[-1])
                attention[:, :, t] = self.attention[t].gather(1, index) * inside[..., None]
            places = self.parents[t].gather(1, places).where(inside, places)
        return tokens, attention
