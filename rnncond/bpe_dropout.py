"""BPE-dropout (Provilkov et al. 2020): words are cut in another way each time that they are learned.

The pieces of a word are joined from its characters as BPE joins them, but at each step every pair that could be joined
is left out with some probability. A rare word is then read, and written, in pieces that others are made of, too.
"""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np

from rnncond import marks
from rnncond.contract import UNK
from rnncond.text import Vocabulary

CUTS = 32
"""Cuts of each word, of which one is drawn each time. They are kept: to make one takes fifty times as long as to look
one up."""


class BpeDropout:
    """Cuts the words of token sequences anew.

    The cuts of a word are a function of ``seed`` and of the word alone, so that a training that is killed and goes on
    later reads what an unbroken one reads. The library that makes the vocabularies has BPE-dropout, too, but its draws
    have no seed.

    Args:
        vocabulary: at level ``bpe``.
        probability: that a pair is left out at a step, at least 0 and below 1; the paper takes 0.1, which makes
            sentences longer by about 30%.

    Raises:
        ValueError: the vocabulary is at another level, or the probability is out of its range.
    """

    def __init__(self, vocabulary: Vocabulary, probability: float, seed: int) -> None:
        if vocabulary.text.level != "bpe":
            raise ValueError(f"the vocabulary's level is {vocabulary.text.level}; BPE-dropout needs bpe")
        if not 0 <= probability < 1:
            raise ValueError(f"the probability is {probability}; it must be at least 0 and below 1")
        model = json.loads(vocabulary.tokenizer.to_str())["model"]
        self.ids: dict[str, int] = model["vocab"]
        self.pieces = {number: piece for piece, number in self.ids.items()}
        self.ranks = {(first, second): rank for rank, (first, second) in enumerate(model["merges"])}
        self.starts = np.zeros(len(self.ids), dtype=bool)
        for piece, number in self.ids.items():
            self.starts[number] = number <= UNK or piece.startswith(marks.SPACE)
        self.split = vocabulary.tokenizer.pre_tokenizer.pre_tokenize_str
        self.probability, self.seed = probability, seed
        self.cuts: dict[tuple[bytes, int], list[int]] = {}

    def __call__(self, tokens: np.ndarray, chance: np.random.Generator) -> list[int]:
        """The sentence ``tokens`` (T,) with each word in one of its cuts, drawn by ``chance``; PAD, BOS, EOS, and UNK
        with what follows it in its word, stay as they are."""
        words = np.split(tokens, np.flatnonzero(self.starts[tokens])[1:]) if len(tokens) else []
        draws = chance.integers(CUTS, size=len(words)).tolist()
        return [token for word, draw in zip(words, draws, strict=True) for token in self.cut(word, draw)]

    def cut(self, word: np.ndarray, draw: int) -> list[int]:
        """The cut of a word (W,) that has the number ``draw``."""
        key = word.tobytes(), draw
        if key not in self.cuts:
            tokens = word.tolist()
            chance = np.random.default_rng([self.seed, draw, *tokens])
            self.cuts[key] = tokens if tokens[0] <= UNK else self.cut_anew(tokens, chance)
        return self.cuts[key]

    def cut_anew(self, tokens: list[int], chance: np.random.Generator) -> list[int]:
        """A word cut anew. Marks that the vocabulary splits from their word stay apart from it."""
        text = "".join(self.pieces[token] for token in tokens)
        return [self.ids[piece] for part, _ in self.split(text) for piece in self.joined(list(part), chance)]

    def joined(self, pieces: list[str], chance: np.random.Generator) -> list[str]:
        """Characters to pieces: of the pairs that are not left out, the one that was learned first is joined, until
        there is none."""
        while True:
            kept = chance.random(max(len(pieces) - 1, 0)) >= self.probability
            pairs = enumerate(pairwise(pieces))
            places = [(self.ranks[pair], place) for place, pair in pairs if kept[place] and pair in self.ranks]
            if not places:
                return pieces
            _, place = min(places)
            pieces[place : place + 2] = [pieces[place] + pieces[place + 1]]
