"""What the objectives of training may be given. Known without torch, which takes seconds to import."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

DecayKind = Literal["linear", "exponential", "inverse_sigmoid"]
Baseline = Literal["greedy", "others"]


@dataclass(frozen=True, kw_only=True)
class Decay:
    """The probability that a reference word is fed at training step i (Bengio et al. 2015, section 2.4).

    ``linear``: k - c i;  ``exponential``: k^i;  ``inverse_sigmoid``: k / (k + exp(i / k)); never below ``lowest``.

    Attributes:
        k: the probability at step 0 for ``linear``, in [0, 1]; below 1 for ``exponential``; at least 1 for
            ``inverse_sigmoid``, whose middle is at step k log k.
        c: what a step takes off, ``linear`` only.
        lowest: in [0, 1).
    """

    kind: DecayKind = "linear"
    k: float = 1.0
    c: float | None = None
    lowest: float = 0.0

    def __post_init__(self) -> None:
        """Raises ValueError naming the value found and what is allowed."""
        if self.kind not in get_args(DecayKind):
            raise ValueError(f"kind is {self.kind!r}; it can be {', '.join(get_args(DecayKind))}")
        fits, allowed = {
            "linear": (0 <= self.k <= 1, "from 0 to 1"),
            "exponential": (0 < self.k < 1, "above 0 and below 1"),
            "inverse_sigmoid": (self.k >= 1, "at least 1"),
        }[self.kind]
        if not fits:
            raise ValueError(f"k is {self.k}; for {self.kind} it must be {allowed}")
        if (self.c is not None) != (self.kind == "linear") or (self.c is not None and not self.c > 0):
            raise ValueError(f"c is {self.c} and kind {self.kind}; linear needs c above 0, the others have none")
        if not 0 <= self.lowest < 1:
            raise ValueError(f"lowest is {self.lowest}; it must be at least 0 and below 1")

    def __call__(self, step: int) -> float:
        if self.c is not None:
            probability = self.k - self.c * step
        elif self.kind == "exponential":
            probability = self.k**step
        else:
            probability = self.k / (self.k + math.exp(min(step / self.k, 700)))
        return max(self.lowest, probability)


def check_samples(samples: int, baseline: str) -> None:
    """Raises ValueError where there are too few samples for the baseline, or no such baseline."""
    if baseline not in get_args(Baseline):
        raise ValueError(f"baseline is {baseline!r}; it can be {', '.join(get_args(Baseline))}")
    lowest = 2 if baseline == "others" else 1
    if samples < lowest:
        raise ValueError(f"samples is {samples}; the baseline {baseline!r} needs at least {lowest}")
