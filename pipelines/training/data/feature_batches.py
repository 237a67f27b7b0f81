"""Batches of features and captions from the store, in an order that is a function of seed, epoch and rank.

Letters as in ``rnncond.contract``: a batch has B pictures and N = B * K captions; a picture's features are read and
handed over once for all of its K captions. A picture with fewer captions fills its rows with PAD, which the loss does
not see; one with more comes again in the same epoch, so each caption is there exactly once an epoch.

Features that fit in memory are read once and shuffled as a whole. That one order is cut into steps, and each step among
the ranks: the pictures of a step, and so the loss curve but for dropout and rounding, are the same on one rank with B
pictures and on two with B / 2 each.

Others stream: an epoch shuffles the row groups, and then the pictures within windows of several row groups, so that
each row group is read once and little is held. Of that order each rank has a run of its own, so that the ranks share
the reading; which pictures meet in a step depends on the number of ranks. Either way all take the same number of steps.

Regions, of which each picture has its own number, are kept as a list of arrays, and padded in a batch to its longest.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from math import ceil, prod

import numpy as np
import torch

from feature_store import Snapshot, shape_of
from pipelines.features.columns import Values, of_column, pad_regions
from pipelines.threads import ahead
from pipelines.training.data.picture_split import Split
from rnncond.contract import Source
from rnncond.text.special_tokens import PAD

WINDOW_BYTES = 64 << 20
"""Features that are shuffled together when they stream: eight full row groups."""
SAMPLE = 2000
"""Pictures that the statistics of the features are taken from."""
AHEAD = 4
"""Batches made ahead of the training step."""

Kept = torch.Tensor | list[np.ndarray]


@dataclass(frozen=True)
class Batch:
    """Attributes:
    examples: (B,) positions in the split: pictures, or pairs of sentences.
    source: their features, or their words.
    tokens: (N, T + 1) int64, to the length of the longest.
    words: labels to be learnt, EOS included.
    """

    examples: np.ndarray
    source: Source
    tokens: torch.Tensor
    words: int


class Batches:
    """One rank's batches of a split.

    Args:
        output: the column of features.
        images: B at most; batches are of nearly equal size.
        captions: K; None for as many as any picture has, so that each comes once.
        seed: of the order; None for the store's own order.
        memory: bytes of features to keep at most; 0 always streams.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        split: Split,
        output: str,
        images: int,
        captions: int | None = None,
        seed: int | None = None,
        rank: int = 0,
        ranks: int = 1,
        memory: float = 0,
    ) -> None:
        self.snapshot, self.split, self.output, self.seed = snapshot, split, output, seed
        self.rank, self.ranks = rank, ranks
        self.groups = snapshot.row_groups()
        counts = np.diff(split.first)
        self.captions = captions or int(counts.max(initial=1))
        visits = np.ceil(counts / self.captions).astype(np.int64)
        self.item_image = np.repeat(np.arange(len(counts)), visits)
        nth = np.arange(visits.sum()) - np.repeat(np.cumsum(visits) - visits, visits)
        self.item_first = split.first[self.item_image] + nth * self.captions
        self.lengths = (split.tokens != PAD).sum(1)
        self.steps = ceil(ceil(len(self.item_image) / ranks) / images)
        shape = shape_of(snapshot.schema.field(output))
        self.places = self.mean_regions() if output == "regions" else prod(shape[:-1])
        self.feature_shape = shape if len(shape) == 1 else (self.places, shape[-1])
        self.image_bytes = round(2 * self.places * shape[-1])
        self.resident = len(counts) * self.image_bytes <= memory
        self.everything: Features | None = None

    def epoch(self, number: int = 0, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from step ``start`` on, made ahead by a thread."""
        return ahead(self.make(number, start), AHEAD)

    def make(self, number: int, start: int) -> Generator[Batch, None, None]:
        windows = self.order(number)
        items = np.concatenate(windows)
        window = np.repeat(np.arange(len(windows)), list(map(len, windows)))
        steps = self.share()[start:]
        left = np.concatenate(steps)
        with Windows(self, items[left], window[left]) as features:
            for step in steps:
                yield self.batch(items[step], features.of(items[step], window[step]))

    def share(self) -> list[np.ndarray]:
        """Of each step, which places of an epoch's order are this rank's."""
        places = np.arange(len(self.item_image))
        if self.resident:
            return [np.array_split(step, self.ranks)[self.rank] for step in np.array_split(places, self.steps)]
        return np.array_split(np.array_split(places, self.ranks)[self.rank], self.steps)

    def order(self, number: int) -> list[np.ndarray]:
        """The items of an epoch, all ranks' together, by window."""
        groups = np.unique(self.split.group)
        shuffle: Callable[[np.ndarray], np.ndarray] = lambda items: items  # noqa: E731
        if self.seed is not None:
            generator = np.random.default_rng([self.seed, number])
            groups, shuffle = generator.permutation(groups), generator.permutation
        sizes = np.bincount(self.split.group)[groups]
        window = (np.cumsum(sizes) - sizes) * (0 if self.resident else self.image_bytes) // WINDOW_BYTES
        place = np.zeros(len(self.groups), dtype=np.int64)
        place[groups] = np.arange(len(groups))
        of_item = place[self.split.group[self.item_image]]
        items = np.argsort(of_item, kind="stable")
        ends = np.flatnonzero(np.diff(window[of_item[items]])) + 1
        return [shuffle(part) for part in np.split(items, ends)]

    def mean_regions(self) -> float:
        """Regions of a picture, as the first row group has them."""
        part, row_group, _ = self.groups[0]
        scores = of_column(self.snapshot.read_row_group(part, row_group, columns=["scores"])["scores"])
        return sum(map(len, scores)) / len(scores)

    def batch(self, items: np.ndarray, values: Kept) -> Batch:
        """``items`` and their features together. A rank without items has one of PAD alone, to keep step."""
        rows = self.item_first[items][:, None] + np.arange(self.captions)
        rows = np.where(rows < self.split.first[self.item_image[items] + 1][:, None], rows, -1).reshape(-1)
        if not len(items):
            rows, nothing = np.full(self.captions, -1), torch.zeros(1, *self.feature_shape)
            values = [nothing.numpy()] if self.output == "regions" else nothing
        longest = max(2, self.lengths[rows[rows >= 0]].max(initial=0))
        tokens = np.where(rows[:, None] >= 0, self.split.tokens[rows, :longest], PAD).astype(np.int64)
        words = int((tokens[:, 1:] != PAD).sum())
        source = pad_regions(values) if isinstance(values, list) else Source(values)
        return Batch(self.item_image[items], source, torch.from_numpy(tokens), words)

    def features(self, images: np.ndarray) -> Features:
        """Of pictures by their positions in the split; each row group is read once."""
        images = np.unique(images)
        if self.output == "regions":
            return Features(images, [values[row].copy() for values, _, rows in self.read(images) for row in rows])
        values = torch.empty((len(images), *self.feature_shape), dtype=torch.float16)
        for read, place, rows in self.read(images):
            values[torch.from_numpy(place)] = torch.from_numpy(read[rows].reshape(len(place), *self.feature_shape))
        return Features(images, values)

    def read(self, images: np.ndarray) -> Iterator[tuple[Values, np.ndarray, np.ndarray]]:
        """Of each row group that has some of ``images``, which ascend: its features, the positions in ``images`` of
        those that it has, and their rows in it."""
        groups = self.split.group[images]
        for group in np.unique(groups):
            part, row_group, _ = self.groups[group]
            rows = self.snapshot.read_row_group(part, row_group, columns=[self.output])
            place = np.flatnonzero(groups == group)
            yield of_column(rows[self.output]), place, self.split.row[images[place]]

    def statistics(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and deviation (D,) of each channel, over some ``SAMPLE`` pictures of whole row groups."""
        chosen = np.random.default_rng(self.seed or 0).permutation(np.unique(self.split.group))
        sums, squares, count = torch.zeros(()), torch.zeros(()), 0
        for group in chosen:
            values = self.features(np.flatnonzero(self.split.group == group)).vectors().float()
            sums, squares = sums + values.sum(0).double(), squares + values.square().sum(0).double()
            count += len(values)
            if count >= SAMPLE * self.places:
                break
        mean = sums / count
        return mean.float(), (squares / count - mean.square()).clamp_min(0).sqrt().float()


@dataclass(frozen=True)
class Features:
    """Attributes:
    images: (M,) positions in the split, ascending.
    values: (M, D) or (M, L, D) float16; of regions a list of M arrays (L, D).
    """

    images: np.ndarray
    values: Kept

    def of(self, images: np.ndarray) -> Kept:
        at = np.searchsorted(self.images, images)
        if isinstance(self.values, list):
            return [self.values[place] for place in at]
        return self.values.index_select(0, torch.from_numpy(at))

    def vectors(self) -> torch.Tensor:
        """Every vector of every picture: (M * L, D)."""
        if isinstance(self.values, list):
            return torch.from_numpy(np.concatenate(self.values))
        return self.values.flatten(0, -2)


class Windows:
    """The features of an epoch's windows, asked for in order: the one in use, and the next, read meanwhile."""

    def __init__(self, batches: Batches, items: np.ndarray, window: np.ndarray) -> None:
        self.batches = batches
        self.images = {number: batches.item_image[items[window == number]] for number in np.unique(window)}
        self.reader = ThreadPoolExecutor(1)
        self.reading: dict[int, Future[Features]] = {}

    def __enter__(self) -> Windows:
        return self

    def __exit__(self, *_: object) -> None:
        self.reader.shutdown(cancel_futures=True)

    def of(self, items: np.ndarray, window: np.ndarray) -> Kept:
        """The features of ``items`` (B,), which lie in the windows ``window`` (B,), in their order."""
        images = self.batches.item_image[items]
        parts = [self.window(number).of(images[window == number]) for number in np.unique(window)]
        if len(parts) < 2:
            return parts[0] if parts else torch.empty(0)
        tensors = [part for part in parts if isinstance(part, torch.Tensor)]
        return torch.cat(tensors) if tensors else list(chain(*parts))

    def window(self, number: int) -> Features:
        batches = self.batches
        if batches.resident:
            if batches.everything is None:
                batches.everything = batches.features(np.arange(len(batches.split.image_ids)))
            return batches.everything
        for wanted in (number, number + 1):
            if wanted in self.images and wanted not in self.reading:
                self.reading[wanted] = self.reader.submit(batches.features, self.images[wanted])
        self.reading = {wanted: features for wanted, features in self.reading.items() if wanted >= number}
        return self.reading[number].result()
