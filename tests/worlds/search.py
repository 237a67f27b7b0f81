"""A tiny model whose every number is a formula, and searches over it written without tensors.

The next word's distribution depends on the example, on the last word and on all words before, so that nothing of a
hypothesis may get lost. ``enumerate_all`` lists every sentence; ``beam_search`` is the definition, without early end.
"""

from __future__ import annotations

import math
from itertools import product
from typing import NamedTuple

import torch
from hypothesis import assume

from rnncond.contract import Step
from rnncond.search import Hypotheses, SearchOptions, search
from rnncond.text.special_tokens import BOS, EOS, PAD

VOCAB, PLACES = 7, 3
EXAMPLES = [0.3, 1.9, 2.6, 4.4]
MARGIN = 3e-4
"""Scores nearer than this may be ordered otherwise in float32."""

ONE = ({"memory": torch.zeros(1, 1)}, {"state": torch.zeros(1, 1)})

# From BOS: word 4 (0.6) looks best, but word 5 (0.4) goes on with certainty and ends better.
TRAP = [
    [0.2] * 6,
    [0, 0, 0, 0, 0.6, 0.4],
    [0.2] * 6,
    [0.2] * 6,
    [0, 0, 0.5, 0, 0.25, 0.25],
    [0, 0, 1.0, 0, 0, 0],
]  # fmt: skip


class Scored(NamedTuple):
    score: float
    log_prob: float
    words: tuple[int, ...]


def logit(example: float, digest: float, last: int, word: int) -> float:
    return 1.5 * math.sin(example + 2.3 * digest + 1.7 * last * word + word) + 0.4 * math.cos(5 * word + example)


def focus(example: float, digest: float, place: int) -> float:
    return 2 * math.sin(3 * example + digest * (place + 1) + place)


def extend(digest: float, word: int) -> float:
    return 0.6 * digest + 0.37 * word


def step(tokens, state, memory):
    """The same formulas, in tensors."""
    repeat = len(tokens) // len(memory["example"])
    example = memory["example"].repeat_interleave(repeat)[:, None]
    digest = 0.6 * state["digest"] + 0.37 * tokens[:, None]
    words, places = torch.arange(VOCAB), torch.arange(PLACES)
    inner = example + 2.3 * digest + 1.7 * tokens[:, None] * words + words
    logits = 1.5 * inner.sin() + 0.4 * (5 * words + example).cos()
    attention = (2 * (3 * example + digest * (places + 1) + places).sin()).softmax(-1)
    return Step(logits, {"digest": digest}, attention)


def condition(examples) -> tuple[dict, dict]:
    """Memory and state of ``examples``, one float each."""
    example = torch.tensor(examples, dtype=torch.float)
    return {"example": example}, {"digest": torch.zeros(len(example), 1)}


def run(options: SearchOptions, examples=EXAMPLES, **more) -> Hypotheses:
    """A search of this world."""
    memory, state = condition(examples)
    return search(step, memory, state, options, **more)


def table_step(table):
    """A model that knows the last word only; ``table`` (V, V) has probabilities."""
    logits = torch.tensor(table).log()

    def step(tokens, state, memory):
        return Step(logits[tokens], state, None)

    return step


def log_softmax(values: list[float]) -> list[float]:
    total = math.log(sum(math.exp(value) for value in values))
    return [value - total for value in values]


def allowed(words: tuple[int, ...], options: SearchOptions) -> list[int]:
    """What may follow ``words`` under the rules."""
    if len(words) >= options.max_length:
        return [EOS]
    words_allowed = [] if len(words) < options.min_length else [EOS]
    for word in range(VOCAB):
        if word in (PAD, BOS, EOS, *options.blocked):
            continue
        n = options.no_repeat_ngram
        line = (*words, word)
        ngrams = [line[i : i + n] for i in range(len(line) - n + 1)] if n else []
        if len(set(ngrams)) == len(ngrams):
            words_allowed.append(word)
    return words_allowed


def log_probs_after(example: float, words: tuple[int, ...]) -> tuple[list[float], list[float]]:
    """Log-probability of each next word after ``words``, and the attention."""
    digest, last = 0.0, BOS
    for last in (BOS, *words):
        digest = extend(digest, last)
    weights = [math.exp(value) for value in log_softmax([focus(example, digest, place) for place in range(PLACES)])]
    return log_softmax([logit(example, digest, last, word) for word in range(VOCAB)]), weights


def finish(example: float, words: tuple[int, ...], options: SearchOptions) -> Scored:
    """The log-probability and the score of ``words``, which end with EOS."""
    log_prob, coverage = 0.0, [0.0] * PLACES
    for position, word in enumerate(words):
        following, attention = log_probs_after(example, words[:position])
        log_prob += following[word]
        coverage = [seen + weight for seen, weight in zip(coverage, attention, strict=True)]
    divisor = {"none": 1.0, "average": len(words), "gnmt": ((5 + len(words)) / 6) ** options.alpha}
    cover = options.coverage_beta * sum(math.log(min(seen, 1)) for seen in coverage)
    return Scored(log_prob / divisor[options.length_penalty] + cover, log_prob, words)


def enumerate_all(example: float, options: SearchOptions) -> list[Scored]:
    """Every sentence that the rules allow, best first."""
    scored = []
    for length in range(options.max_length + 1):
        for body in product([word for word in range(VOCAB) if word != EOS], repeat=length):
            words = (*body, EOS)
            if all(words[i] in allowed(words[:i], options) for i in range(len(words))):
                scored.append(finish(example, words, options))
    return sorted(scored, reverse=True)


def beam_search(example: float, options: SearchOptions) -> list[Scored]:
    """All that a beam of ``options.beam`` ends with, best first: no early end, one example, plain lists.

    Only for tests by ``hypothesis``, which leave out the cases that float32 may decide otherwise.
    """
    live, ended = [(0.0, ())], []
    while live:
        candidates = []
        for log_prob, words in live:
            following, _ = log_probs_after(example, words)
            candidates += [(log_prob + following[word], (*words, word)) for word in allowed(words, options)]
        candidates.sort(reverse=True)
        open_slots = options.beam - len(ended)
        chosen, left_out = candidates[:open_slots], candidates[open_slots:]
        assume(not left_out or chosen[-1][0] - left_out[0][0] > MARGIN)
        ended += [finish(example, words, options) for _, words in chosen if words[-1] == EOS]
        live = [candidate for candidate in chosen if candidate[1][-1] != EOS]
    return sorted(ended, reverse=True)


def sentences(hypotheses, example: int) -> list[tuple[int, ...]]:
    """The words of one example's hypotheses, without padding."""
    lines = zip(hypotheses.tokens[example].tolist(), hypotheses.lengths[example].tolist(), strict=True)
    return [tuple(line[:length]) for line, length in lines]
