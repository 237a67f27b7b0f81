"""Batches of sentence pairs by their number of tokens, in an order that is a function of seed, epoch and rank.

Sentences of like length share a batch, so that little of it is padding: pairs are sorted by their longer side, cut into
batches of so many tokens, and the batches are shuffled. Pairs of equal lengths change places at every epoch, so a batch
does not have the same members twice.

Tokens that fit in memory are read once. Others stream: runs of row groups that fit are read one after the other, in an
order that changes with the epoch, and batches are made within each. The ranks take turns at the batches of that one
order, so all take the same number of steps. The batches of a step, and so the loss curve but for dropout and rounding,
are the same on two ranks and on one with ``training.accumulate=2``; not on one with twice the tokens, which cuts the
sorted pairs elsewhere.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from math import ceil

import numpy as np
import pyarrow as pa
import torch

from feature_store import Snapshot
from pipelines.threads import ahead
from pipelines.training.data.feature_batches import AHEAD, Batch
from rnncond.contract import Source
from rnncond.text.special_tokens import BOS, EOS, PAD


@dataclass(frozen=True)
class Pairs:
    """The pairs of a set, without their tokens.

    Attributes:
        group, row: (P,) the row group of each pair in the snapshot, and its row there.
        source_length, target_length: (P,) int32 words; EOS is counted with the source only.
        left_out: pairs that are longer, or have an empty side.
    """

    group: np.ndarray
    row: np.ndarray
    source_length: np.ndarray
    target_length: np.ndarray
    left_out: int = 0


def pairs_of(snapshot: Snapshot, max_length: int | None = None, first: int | None = None) -> Pairs:
    """Those of a set; with ``max_length`` only what can be learnt from: at most so many words a side, and no empty one.

    Args:
        first: only so many.
    """
    sizes = [group.rows for group in snapshot.row_groups()]
    group = np.repeat(np.arange(len(sizes)), sizes)
    row = np.arange(len(group)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    table = pa.Table.from_batches(snapshot.scan(["source_length", "target_length"]))
    source, target = (table[name].to_numpy() for name in ("source_length", "target_length"))
    kept = np.arange(len(group))
    if max_length is not None:
        longer = np.maximum(source - 1, target)
        kept = np.flatnonzero((longer <= max_length) & (source > 1) & (target > 0))
    left_out = len(group) - len(kept)
    kept = kept[:first]
    return Pairs(group[kept], row[kept], source[kept], target[kept], left_out)


class TokenBatches:
    """One rank's batches of a set of tokens.

    Args:
        tokens: a batch has at most so many on its longer side, padding and EOS included; a longer pair stands alone.
        seed: of the order; None for that of the lengths.
        memory: bytes of tokens to keep at most.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        pairs: Pairs,
        tokens: int,
        seed: int | None = None,
        rank: int = 0,
        ranks: int = 1,
        memory: float = np.inf,
    ) -> None:
        self.snapshot, self.pairs, self.seed = snapshot, pairs, seed
        self.rank, self.ranks = rank, ranks
        self.groups = snapshot.row_groups()
        size = 4 * (pairs.source_length + pairs.target_length)
        before = np.cumsum(size) - size
        window = before // max(memory, 1) if np.isfinite(memory) else np.zeros(len(size))
        # A row group lies in one window only, so that it is read once an epoch.
        starts = np.flatnonzero(np.diff(pairs.group, prepend=-1))
        window = np.repeat(window[starts], np.diff(np.append(starts, len(size))))
        self.windows = np.split(np.arange(len(size)), np.flatnonzero(np.diff(window)) + 1)
        self.cuts = [cut(*self.sorted_lengths(members), tokens) for members in self.windows]
        self.steps = ceil(sum(map(len, self.cuts)) / ranks)
        self.kept: tuple[int, Tokens] | None = None

    def sorted_lengths(self, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        source, target = self.pairs.source_length[members], self.pairs.target_length[members]
        order = by_length(source, target, np.arange(len(members)))
        return source[order], target[order]

    def epoch(self, number: int = 0, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from step ``start`` on, made ahead by a thread."""
        return ahead(self.make(number, start), AHEAD)

    def make(self, number: int, start: int = 0) -> Generator[Batch, None, None]:
        """As ``epoch``, when asked for."""
        step = 0
        for turn, (window, members) in enumerate(self.order(number)):
            if turn % self.ranks != self.rank:
                continue
            if step >= start:
                yield self.batch(members, self.tokens(window))
            step += 1
        for _ in range(max(step, start), self.steps):
            yield self.batch(np.array([], dtype=np.int64), None)

    def order(self, number: int) -> Iterator[tuple[int, np.ndarray]]:
        """The batches of an epoch, all ranks' together: the window, and the positions of the pairs (B,)."""
        chance = None if self.seed is None else np.random.default_rng([self.seed, number])
        count = len(self.windows)
        for window in range(count) if chance is None else chance.permutation(count):
            members = self.windows[window]
            ties = np.arange(len(members)) if chance is None else chance.permutation(len(members))
            sorting = by_length(self.pairs.source_length[members], self.pairs.target_length[members], ties)
            batches = np.split(members[sorting], self.cuts[window][1:])
            for place in range(len(batches)) if chance is None else chance.permutation(len(batches)):
                yield window, batches[place]

    def tokens(self, window: int) -> Tokens:
        """Of a window; the last one asked for stays in memory."""
        if self.kept is None or self.kept[0] != window:
            self.kept = None  # before the next is read: one window at a time
            self.kept = window, self.read(window)
        return self.kept[1]

    def read(self, window: int) -> Tokens:
        members = self.windows[window]
        parts = []
        for group in np.unique(self.pairs.group[members]):
            part, row_group, _ = self.groups[group]
            batch = self.snapshot.read_row_group(part, row_group, columns=["source", "target"])
            rows = self.pairs.row[members][self.pairs.group[members] == group]
            parts.append(batch.take(pa.array(rows)))
        table = pa.Table.from_batches(parts).combine_chunks()
        return Tokens(members[0], *(Ragged.of(table[name]) for name in ("source", "target")))

    def batch(self, members: np.ndarray, tokens: Tokens | None) -> Batch:
        """The pairs at ``members`` together. A rank without pairs has one of PAD alone, to keep step."""
        if tokens is None:
            empty = torch.full((1, 2), PAD)
            return Batch(members, Source(torch.full((1, 1), EOS)), empty, 0)
        source, lengths = tokens.source.padded(members - tokens.first, 0)
        target, words = tokens.target.padded(members - tokens.first, 1)
        target[:, 0] = BOS
        target[np.arange(len(members)), words + 1] = EOS
        mask = np.arange(source.shape[1]) < lengths[:, None]
        return Batch(
            members,
            Source(torch.from_numpy(source), None if mask.all() else torch.from_numpy(mask)),
            torch.from_numpy(target),
            int(words.sum() + len(words)),
        )


def by_length(source: np.ndarray, target: np.ndarray, ties: np.ndarray) -> np.ndarray:
    """The order of pairs by the longer side, and of equals by the shorter one.

    Up and down in turns, so that the last of one length are like the first of the next: on Multi30k at 4,000 tokens
    3.0% of a batch is padding, against 3.8% where it always goes up.
    """
    width = np.maximum(source, target + 1)
    difference = source.astype(np.int64) - target
    return np.lexsort((ties, np.where(width % 2, difference, -difference), width))


def cut(source: np.ndarray, target: np.ndarray, tokens: int) -> np.ndarray:
    """Where batches of sorted pairs begin: as many pairs as have room in ``tokens`` on the longer side."""
    starts: list[int] = []
    widest = 0
    for place, width in enumerate(np.maximum(source, target + 1).tolist()):
        widest = max(widest, width)
        if not starts or (place - starts[-1] + 1) * widest > tokens:
            starts.append(place)
            widest = width
    return np.array(starts, dtype=np.int64)


@dataclass(frozen=True)
class Ragged:
    """Sentences of different length: ``values[first[i]:first[i + 1]]`` is the i-th."""

    first: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> Ragged:
        (chunk,) = column.chunks
        first = chunk.offsets.to_numpy().astype(np.int64)
        return cls(first - first[0], chunk.flatten().to_numpy())

    def padded(self, members: np.ndarray, margin: int) -> tuple[np.ndarray, np.ndarray]:
        """(B, longest + 2 * margin) int64 with PAD behind, after ``margin`` free places; and the lengths (B,)."""
        lengths = self.first[members + 1] - self.first[members]
        width = int(lengths.max(initial=0))
        inside = np.arange(width) < lengths[:, None]
        sentences = np.full((len(members), width + 2 * margin), PAD, dtype=np.int64)
        places = (self.first[members][:, None] + np.arange(width))[inside]
        sentences[:, margin : margin + width][inside] = self.values[places]
        return sentences, lengths


@dataclass(frozen=True)
class Tokens:
    """Of a window whose first pair is ``first``."""

    first: int
    source: Ragged
    target: Ragged
