"""What every system promises, and all that search, training and the pipelines know of one.

A system encodes its condition once and then produces one word at a time. The condition is
a sentence or a picture; nothing outside ``rnncond/systems`` asks which.

Letters used for shapes throughout the project:

====  =====================================================================
B     examples in a batch (sentences to translate, pictures to describe)
K     rows per example: the width of a beam, or the captions of one picture
N     rows of a decoder, N = B * K; rows ``b*K .. b*K+K-1`` belong to example b
S     words of a source sentence
L     places in a picture (cells of a grid, or regions)
T     words of a target sentence
V     vocabulary; E embedding; H hidden; A attention; D feature; R readout
====  =====================================================================

Memory has B rows and state has N: what depends on the condition alone is computed and kept
once per example, however many rows share it. ``per_row`` and the modules of
``rnncond.attention`` do the sharing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

Memory = dict[str, Tensor]
"""What ``encode`` keeps of a batch: named tensors, examples (B) on axis 0. Never changed by decoding."""

State = dict[str, Tensor]
"""What a step hands to the next: named tensors, rows (N) on axis 0."""

SourceKind = Literal["tokens", "pooled", "grid", "regions"]


@dataclass(frozen=True)
class Source:
    """A batch of conditions.

    Attributes:
        values: ``tokens`` (B, S) int64, ``pooled`` (B, D), ``grid`` or ``regions`` (B, L, D) floating point.
        mask: (B, S) or (B, L) bool, True where ``values`` is real; None where nothing is padding.
    """

    values: Tensor
    mask: Tensor | None = None

    def to(self, device: torch.device | str) -> Source:
        return Source(to_device(self.values, device), None if self.mask is None else to_device(self.mask, device))


def to_device(values: Tensor, device: torch.device | str) -> Tensor:
    """``values`` on ``device``. The way to a GPU is by page-locked memory, whose copy nobody waits for."""
    if torch.device(device).type == "cuda" and values.device.type == "cpu":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)


class Step(NamedTuple):
    """One word for every row: ``logits`` (N, V), the next ``state``, and ``attention`` (N, S or L) or None."""

    logits: Tensor
    state: State
    attention: Tensor | None


Exact = Callable[[Tensor], Tensor]
"""M words of each row, (N, M) int64, to their logits in float32, (N, M)."""


def exact_of(logits: Tensor) -> Exact | None:
    """What computes some of ``logits`` exactly (``rnncond.fast.lean.screen``); None where they are exact, or have been
    changed since."""
    return getattr(logits, "exact", None)


class Unrolled(NamedTuple):
    """Teacher forcing over T words, before the output layer.

    Attributes:
        readout: (N, T, R), what ``project`` turns into logits. Training projects real positions only.
        attention: (N, T, S or L), or None for a system that does not attend.
        extras: whatever the system's own ``regulariser`` needs (hard attention keeps its sample here).
    """

    readout: Tensor
    attention: Tensor | None = None
    extras: dict[str, Tensor] | None = None


class System(nn.Module, ABC):
    """The contract. A module in ``rnncond/systems`` defines ``Config`` (a frozen dataclass) and ``Model(System)``.

    The laws in ``tests/contract`` hold for every system: ``forward`` equals the looped ``step``, padding and
    batch-mates change nothing, every parameter gets a gradient, eight pairs are memorised, a reloaded model
    gives identical logits, search leaves the memory as it was, and a step projects its own rows alone.
    """

    takes: ClassVar[tuple[SourceKind, ...]]
    """The kinds of source the system can be given; the recipe's ``data`` must supply one of them."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    @abstractmethod
    def encode(self, source: Source) -> Memory:
        """Everything that stays fixed while a sentence is produced, projected attention keys included."""

    @abstractmethod
    def init_state(self, memory: Memory) -> State:
        """The state before the first word, with one row per example (N = B)."""

    @abstractmethod
    def step(self, tokens: Tensor, state: State, memory: Memory) -> Step:
        """Read ``tokens`` (N,) int64, the words chosen last (BOS at first), and score the words that may follow."""

    @abstractmethod
    def unroll(self, memory: Memory, inputs: Tensor) -> Unrolled:
        """Teacher forcing: ``inputs`` (N, T) int64 begins with BOS; position t scores the word after inputs[:, t]."""

    @abstractmethod
    def project(self, readout: Tensor) -> Tensor:
        """The output layer: readout (..., R) to logits (..., V)."""

    def forward(self, source: Source, inputs: Tensor) -> Tensor:
        """Logits (N, T, V) for ``inputs`` (N, T); equal to looping ``step``."""
        return self.project(self.unroll(self.encode(source), inputs).readout)

    def regulariser(self, unrolled: Unrolled, log_probs: Tensor, mask: Tensor) -> Tensor:
        """What the system adds to the cross-entropy, summed over rows; zero unless overridden.

        Args:
            log_probs: (N, T) log-probability of each label, zero where ``mask`` is False.
            mask: (N, T) bool, True on real labels.
        """
        return log_probs.new_zeros(())

    def running_sums(self) -> Tensor | None:
        """What the training batches since the last call add to a moving average; None where the system has none.

        A step of training may have several batches on several ranks. The average moves once a step: the sums of all
        ranks, added up, go to ``update_running``. Until then every batch sees the same average.
        """
        return None

    def update_running(self, sums: Tensor) -> None:
        """Move the average by a step's sums; for systems whose ``running_sums`` are not None."""


def per_row(values: Tensor, rows: int) -> Tensor:
    """Give each of N ``rows`` its example's line of ``values`` (B, ...), as (N, ...); ``values`` itself if N = B."""
    examples = values.shape[0]
    if rows == examples:
        return values
    if rows % examples:
        raise ValueError(f"{rows} rows cannot be shared evenly by {examples} examples; rows must be a multiple")
    return values.repeat_interleave(rows // examples, dim=0)


def select(tensors: dict[str, Tensor], index: Tensor) -> dict[str, Tensor]:
    """Rows ``index`` of every tensor of a memory or a state: reorders a beam, drops what is finished."""
    return {name: tensor.index_select(0, index) for name, tensor in tensors.items()}


def draw(probabilities: Tensor) -> Tensor:
    """Draw an index (N,) from each row of ``probabilities`` (N, M), by torch's own generator.

    Where a system has diverged, its probabilities are not a number. ``torch.multinomial`` raises at those, and on CUDA
    ends the process; here such a row is drawn from evenly. The loss is not a number then, either, which tells whoever
    trains in one message, and needs no look at the device at every word.
    """
    return probabilities.nan_to_num(nan=1.0, posinf=1.0).multinomial(1)[:, 0]


def check_sizes(config: Any) -> None:
    """Refuse a system's Config with a size below 1 or a dropout outside [0, 1).

    Raises:
        ValueError: names the field, what it is and what it may be.
    """
    for field in fields(config):
        value = getattr(config, field.name)
        if isinstance(value, int) and not isinstance(value, bool) and value < 1:
            raise ValueError(f"{field.name} is {value}; it must be at least 1")
        if field.name == "dropout" and not 0 <= value < 1:
            raise ValueError(f"dropout is {value}; it must be at least 0 and below 1")
