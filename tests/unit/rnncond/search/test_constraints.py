"""What may follow a hypothesis, by hand."""

from __future__ import annotations

import torch

from rnncond.search import SearchOptions
from rnncond.search.constraints import apply_constraints, block_repeated_ngrams
from rnncond.text.special_tokens import EOS
from tests.worlds import search as world


def test_the_end_is_forced_at_the_greatest_length_and_never_before_the_least():
    options = SearchOptions(min_length=2, max_length=3)
    for length, ends in ((1, "never"), (2, "may"), (3, "must")):
        logits = torch.zeros(1, world.VOCAB)
        apply_constraints(logits, length, None, options)
        possible = set((logits[0] > -torch.inf).nonzero().flatten().tolist())
        assert possible == {"never": {4, 5, 6}, "may": {EOS, 4, 5, 6}, "must": {EOS}}[ends]


def test_a_word_that_would_end_a_repeated_bigram_is_blocked():
    """After "4 5 4" comes no 5, as "4 5" was there; after "4 4" no 4."""
    logits = torch.zeros(2, 7)
    block_repeated_ngrams(logits, torch.tensor([[4, 5, 4], [6, 4, 4]]), 2)
    assert (logits == -torch.inf)[:, 4:].tolist() == [[False, True, False], [True, False, False]]
