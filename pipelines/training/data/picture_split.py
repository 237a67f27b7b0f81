"""A split of pictures: where the store has each, and its captions as tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from feature_store import Snapshot
from pipelines.inputs.caption_formats import Captioned
from rnncond.text import Vocabulary
from rnncond.text.special_tokens import BOS, EOS, PAD


@dataclass(frozen=True)
class Split:
    """The pictures of a split, where the store has them, and their captions as tokens. Small: no features.

    Attributes:
        image_ids: (I,), in the store's order.
        group, row: (I,) the row group of each picture in the snapshot, and its row there.
        first: (I + 1,) its captions are ``tokens[first[i]:first[i + 1]]``.
        tokens: (C, T + 1) BOS, words, EOS, PAD.
        references: the captions as text, for scores.
        cut: captions longer than T - 1 tokens, which lost their ends.
    """

    image_ids: list[str]
    group: np.ndarray
    row: np.ndarray
    first: np.ndarray
    tokens: np.ndarray
    references: list[list[str]]
    cut: int


@dataclass(frozen=True)
class Positions:
    """Where the store has its pictures: ``image_ids``, and the row group and the row there of each."""

    image_ids: list[str]
    group: np.ndarray
    row: np.ndarray


def positions_of(snapshot: Snapshot) -> Positions:
    """Read the ids, and nothing else, of every row."""
    image_ids = [image_id for ids in snapshot.iter_ids() for image_id in ids.to_pylist()]
    sizes = [group.rows for group in snapshot.row_groups()]
    group = np.repeat(np.arange(len(sizes)), sizes)
    return Positions(image_ids, group, np.arange(len(group)) - np.repeat(np.cumsum(sizes) - sizes, sizes))


def split_of(there: Positions, examples: list[Captioned], vocabulary: Vocabulary, max_length: int) -> Split:
    """The pictures of ``examples``, whose ids are the store's, with their captions tokenised all at once."""
    wanted = {example.image_id: example for example in examples}
    at = np.array([n for n, image_id in enumerate(there.image_ids) if image_id in wanted], dtype=np.int64)
    chosen = [wanted[there.image_ids[n]] for n in at]
    encoded = vocabulary.encode_batch([caption for example in chosen for caption in example.captions])
    return Split(
        image_ids=[example.image_id for example in chosen],
        group=there.group[at],
        row=there.row[at],
        first=np.cumsum([0] + [len(example.captions) for example in chosen]),
        tokens=padded(encoded, max_length),
        references=[list(example.captions) for example in chosen],
        cut=sum(len(words) > max_length for words in encoded),
    )


def padded(sentences: list[list[int]], max_length: int) -> np.ndarray:
    """BOS, at most ``max_length`` words, EOS, and PAD to the longest: (C, T + 1) int32."""
    longest = min(max(map(len, sentences), default=0), max_length)
    tokens = np.full((len(sentences), longest + 2), PAD, dtype=np.int32)
    tokens[:, 0] = BOS
    for line, words in zip(tokens, sentences, strict=True):
        words = words[:max_length]
        line[1 : len(words) + 1] = words
        line[len(words) + 1] = EOS
    return tokens
