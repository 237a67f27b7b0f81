"""Constraints on the next word of a hypothesis: they lower logits (N, V) to minus infinity in place, without copies."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from rnncond.search.options import SearchOptions
from rnncond.text.special_tokens import BOS, EOS, PAD


def apply_constraints(logits: Tensor, length: int, history: Tensor | None, options: SearchOptions) -> None:
    """Block the words that the options rule out for rows of ``length`` words.

    Args:
        logits: (N, V), changed in place.
        length: words of each row so far.
        history: (N, length) these words; needed with ``no_repeat_ngram`` alone.
    """
    # By ranges of ids, which are no tensor to be sent to a device at each step.
    for words in ranges(frozenset((PAD, BOS, *options.blocked))):
        logits[:, words].fill_(-torch.inf)
    if length < options.min_length:
        logits[:, EOS].fill_(-torch.inf)
    if history is not None and 0 < options.no_repeat_ngram <= length:
        block_repeated_ngrams(logits, history, options.no_repeat_ngram)
    if length >= options.max_length:
        logits.masked_fill_(torch.arange(logits.shape[1], device=logits.device) != EOS, -torch.inf)


@lru_cache(maxsize=64)
def ranges(words: frozenset[int]) -> list[slice]:
    """The ids as few ranges of neighbours."""
    found: list[slice] = []
    for word in sorted(words):
        if found and found[-1].stop == word:
            found[-1] = slice(found[-1].start, word + 1)
        else:
            found.append(slice(word, word + 1))
    return found


def block_repeated_ngrams(logits: Tensor, history: Tensor, n: int) -> None:
    """Block each word that would end an n-gram which the row's ``history`` (N, t) already has."""
    ngrams = history.unfold(1, n, 1)
    prefix = history[:, history.shape[1] - n + 1 :]
    repeated = (ngrams[..., :-1] == prefix[:, None]).all(-1)
    logits.scatter_(1, ngrams[..., -1].where(repeated, PAD), -torch.inf)
