"""One case of the laws: a system at a tiny size, and how its sources are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rnncond.contract import Source, System
from rnncond.systems import build
from rnncond.text.special_tokens import BOS, EOS, PAD, UNK

VOCAB = 13
WIDTH = 6
LONGEST = 5


@dataclass(frozen=True)
class Case:
    """``sources(count, generator)`` makes a float64 batch whose padding, where the kind has any, holds rubbish."""

    id: str
    system: str
    sources: Callable[[int, torch.Generator], Source]
    config: dict = field(default_factory=dict)
    attends: bool = True

    def build(self, **overrides) -> System:
        torch.manual_seed(3)
        return build(self.system, {"vocab_size": VOCAB, "dropout": 0.0, **self.config, **overrides})


def pooled(count: int, generator: torch.Generator) -> Source:
    return Source(torch.randn(count, WIDTH, generator=generator, dtype=torch.float64))


def grid(count: int, generator: torch.Generator) -> Source:
    return Source(torch.randn(count, LONGEST, WIDTH, generator=generator, dtype=torch.float64))


def regions(count: int, generator: torch.Generator) -> Source:
    """Between one region and LONGEST; what lies behind the last is far larger than what is real."""
    values = torch.randn(count, LONGEST, WIDTH, generator=generator, dtype=torch.float64)
    mask = lengths_mask(count, LONGEST, generator)
    return Source(torch.where(mask[..., None], values, 100 * values), mask)


def sentences(count: int, generator: torch.Generator) -> Source:
    """Source sentences (B, S), PAD behind the last word."""
    mask = lengths_mask(count, LONGEST, generator)
    words = torch.randint(UNK + 1, VOCAB, (count, LONGEST), generator=generator)
    return Source(torch.where(mask, words, PAD), mask)


def targets(rows: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Inputs and labels (N, T) of random sentences of one to LONGEST words: BOS w w, and w w EOS."""
    mask = lengths_mask(rows, LONGEST, generator)
    words = torch.randint(UNK + 1, VOCAB, (rows, LONGEST), generator=generator) * mask
    inputs = torch.cat([torch.full((rows, 1), BOS), words], 1)
    labels = torch.cat([words, torch.zeros(rows, 1, dtype=torch.int64)], 1)
    labels[torch.arange(rows), mask.sum(1)] = EOS
    return inputs, labels


def lengths_mask(count: int, longest: int, generator: torch.Generator) -> Tensor:
    """The first row is full and the second has one place, so that the extremes are always there."""
    lengths = torch.randint(1, longest + 1, (count,), generator=generator)
    lengths[: min(2, count)] = torch.tensor([longest, 1])[:count]
    return torch.arange(longest) < lengths[:, None]
