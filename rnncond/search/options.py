"""What a user can ask of a search."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from rnncond.text.special_tokens import EOS, UNK

LengthPenalty = Literal["none", "average", "gnmt"]


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """How to search. The defaults are greedy: a beam of one.

    Attributes:
        beam: hypotheses followed at once; a finished one keeps its place, so that a beam of K ends with K sentences.
        nbest: hypotheses returned of each example, best first; at most ``beam``. Samples are all returned.
        max_length: most words before EOS. A hypothesis that is still going then pays for EOS and ends.
        min_length: fewest words before EOS.
        length_penalty: what divides log P(Y) to give the score: nothing, the length |Y|, or ((5 + |Y|) / 6)^alpha
            (Wu et al. 2016, equation 14). |Y| counts EOS.
        alpha: the exponent of ``gnmt``.
        coverage_beta: weight of the coverage penalty sum_i log min(sum_j p_ij, 1) over the places i of the condition
            and the words j (the same equation); zero to leave it out. It ranks what is finished.
        no_repeat_ngram: no hypothesis has the same n-gram twice; zero to allow it.
        blocked: ids that are never chosen. PAD and BOS never are.
        samples: zero to search; otherwise sentences drawn from the model for each example.
        temperature: divides the logits before drawing.
        top_k: draw from the k most probable words only; zero for all.
        top_p: draw from the fewest most probable words that hold this much probability (Holtzman et al. 2020).
        seed: of the draws. They depend on it and on the example's place in the batch, not on the other examples.
        attention: keep the attention of every word.
    """

    beam: int = 1
    nbest: int = 1
    max_length: int = 20
    min_length: int = 0
    length_penalty: LengthPenalty = "none"
    alpha: float = 0.2
    coverage_beta: float = 0.0
    no_repeat_ngram: int = 0
    blocked: tuple[int, ...] = (UNK,)
    samples: int = 0
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    attention: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError naming the value found and what is allowed."""
        self._at_least(1, "beam", "nbest", "max_length")
        self._at_least(0, "min_length", "alpha", "coverage_beta", "no_repeat_ngram", "samples", "top_k")
        if self.nbest > self.beam and not self.samples:
            raise ValueError(f"nbest is {self.nbest}, more than beam {self.beam} can find; widen the beam")
        if self.min_length > self.max_length:
            raise ValueError(f"min_length is {self.min_length}, above max_length {self.max_length}")
        if self.length_penalty not in get_args(LengthPenalty):
            allowed = ", ".join(get_args(LengthPenalty))
            raise ValueError(f"length_penalty is {self.length_penalty!r}; it can be {allowed}")
        if EOS in self.blocked or any(word < 0 for word in self.blocked):
            raise ValueError(f"blocked has {self.blocked}; it cannot have EOS ({EOS}) or negative ids")
        if not 0 < self.temperature < math.inf or not 0 < self.top_p <= 1:
            raise ValueError(
                f"temperature is {self.temperature} and top_p {self.top_p}; "
                "temperature must be a number above 0, top_p above 0 and at most 1"
            )
        if not -(2**63) <= self.seed < 2**63:
            raise ValueError(f"seed is {self.seed}; it must fit into 64 bits")
        if self.samples and (self.beam > 1 or self.nbest > 1):
            given = " and ".join(f"{name} {value}" for name in ("beam", "nbest") if (value := getattr(self, name)) > 1)
            raise ValueError(f"samples go without {given}: each is drawn by itself; leave beam and nbest out")
        if not self.samples and (self.temperature != 1 or self.top_k or self.top_p != 1):
            raise ValueError("temperature, top_k and top_p mean nothing without samples; set samples to 1 or more")

    def _at_least(self, lowest: int, *names: str) -> None:
        for name in names:
            if not getattr(self, name) >= lowest:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {lowest}")

    @property
    def width(self) -> int:
        """K, rows per example."""
        return self.samples or self.beam

    @property
    def returned(self) -> int:
        """Hypotheses per example in the result."""
        return self.samples or self.nbest
