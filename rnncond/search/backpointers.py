"""What a search leaves behind step by step, and how sentences are read from it at the end."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rnncond.text.special_tokens import PAD


class Hypotheses(NamedTuple):
    """The results of a search, best first.

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


class Backpointers:
    """Per step: a word and a back-pointer for each place of each beam; nothing is copied when beams re-order."""

    def __init__(self, examples: int, width: int, device: torch.device) -> None:
        self.shape = examples, width
        self.nothing = torch.full(self.shape, -torch.inf, device=device)
        self.words: list[Tensor] = []
        self.parents: list[Tensor] = []
        self.scores: list[Tensor] = []
        self.log_probs: list[Tensor] = []
        self.attention: list[Tensor] = []

    def record(self, examples: Tensor, words: Tensor, parents: Tensor) -> None:
        """Begin the next step, of ``examples`` (A,); the rest (A, K)."""
        self.words.append(self._scatter(PAD, examples, words))
        self.parents.append(self._scatter(0, examples, parents))
        self.scores.append(self.nothing)
        self.log_probs.append(self.nothing)

    def record_ends(self, examples: Tensor, scores: Tensor, log_probs: Tensor) -> None:
        """What ended at this step: (A, K), minus infinity where nothing did."""
        self.scores[-1] = self._scatter(-torch.inf, examples, scores)
        self.log_probs[-1] = self._scatter(-torch.inf, examples, log_probs)

    def record_attention(self, examples: Tensor, attention: Tensor) -> None:
        """(A, K, L) attention with which the words of this step were chosen."""
        self.attention.append(self._scatter(0, examples, attention))

    def _scatter(self, nothing: float, examples: Tensor, values: Tensor) -> Tensor:
        """``values`` (A, K, ...) of ``examples`` (A,) as (B, K, ...), with ``nothing`` for the others."""
        if len(examples) == self.shape[0]:
            return values
        spread = values.new_full((*self.shape, *values.shape[2:]), nothing)
        spread[examples] = values
        return spread

    def hypotheses(self, count: int) -> Hypotheses:
        """The ``count`` best of each example, the earlier first among equals."""
        by_example = torch.cat(self.scores, dim=1)
        scores, order = by_example.sort(dim=1, descending=True, stable=True)
        scores, order = scores[:, :count], order[:, :count]
        log_probs = torch.cat(self.log_probs, dim=1).gather(1, order)
        width = self.shape[1]
        lengths = (order // width + 1).where(scores > -torch.inf, 0)
        tokens, attention = self._backtrace(lengths, order % width)
        return Hypotheses(tokens, lengths, scores, log_probs, attention)

    def _backtrace(self, lengths: Tensor, places: Tensor) -> tuple[Tensor, Tensor | None]:
        """Tokens (B, n, T) and attention (B, n, T, L) of sentences of ``lengths`` (B, n) that end at ``places``."""
        longest = int(lengths.max())
        tokens = torch.full((*lengths.shape, longest), PAD, device=lengths.device)
        attention = None
        if self.attention:
            first = self.attention[0]
            attention = first.new_zeros(*lengths.shape, longest, first.shape[-1])
        for t in reversed(range(longest)):
            inside = t < lengths
            tokens[..., t] = self.words[t].gather(1, places).where(inside, PAD)
            if attention is not None:
                index = places[..., None].expand(-1, -1, attention.shape[-1])
                attention[:, :, t] = self.attention[t].gather(1, index) * inside[..., None]
            places = self.parents[t].gather(1, places).where(inside, places)
        return tokens, attention
