"""Which inputs are done, in a few bytes each: what a resume asks of every input that is listed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import pyarrow as pa

from feature_store.snapshot import Snapshot

NO_VERSION = 0
"""In place of the hash of a version: the set has none, or it is null."""


@dataclass(frozen=True)
class Index:
    """The ids of all rows of a snapshot by their hash: 28 bytes a row, whatever the ids' length; 44 while it is built.

    Two ids count as one if 128 bits of their hashes are equal: of 10^9 ids against 10^9 this happens once in 10^20
    runs. ``first`` ascends; all have the same length.

    Attributes:
        first, second: halves of the hash of an id.
        version: hash of the version that was read, ``NO_VERSION`` if unknown.
        part: where it is in ``Snapshot.parts``.
    """

    first: np.ndarray
    second: np.ndarray
    version: np.ndarray
    part: np.ndarray

    @classmethod
    def of(cls, snapshot: Snapshot) -> Index:
        versioned = "version" in snapshot.schema.names
        numbers = [number for number, part in enumerate(snapshot.parts) if part.rows]
        kept = [np.zeros(snapshot.rows, kind) for kind in (np.uint64, np.uint64, np.uint64, np.uint32)]
        end = 0
        columns = [snapshot.id_column, *(["version"] if versioned else [])]
        for number, table in zip(numbers, snapshot.iter_columns(columns), strict=True):
            start, end = end, end + table.num_rows
            kept[0][start:end], kept[1][start:end] = hash_texts(table[0]).T
            if versioned:
                kept[2][start:end] = hash_texts(table[1])[:, 0]
            kept[3][start:end] = number
        order = np.argsort(kept[0])
        for column in range(len(kept)):  # one after the other: no two of them are there twice
            kept[column] = kept[column][order]
        return cls(*kept)

    def find(self, ids: pa.ChunkedArray) -> np.ndarray:
        """Where each id is in this index, -1 where it is not."""
        asked = hash_texts(ids)
        at = np.searchsorted(self.first, asked[:, 0])
        found = np.full(len(asked), -1)
        open_ = np.arange(len(asked))
        while len(open_):  # more than once only where half a hash is that of another id
            open_ = open_[at[open_] < len(self.first)]
            open_ = open_[self.first[at[open_]] == asked[open_, 0]]
            hit = self.second[at[open_]] == asked[open_, 1]
            found[open_[hit]] = at[open_[hit]]
            open_ = open_[~hit]
            at[open_] += 1
        return found

    def changed(self, at: np.ndarray, versions: pa.ChunkedArray) -> np.ndarray:
        """Which of the inputs that ``find`` found at ``at`` have another version now; False where either is unknown."""
        now, before = hash_texts(versions)[:, 0], np.zeros(len(at), np.uint64)
        before[at >= 0] = self.version[at[at >= 0]]
        changed: np.ndarray = (now != before) & (now != NO_VERSION) & (before != NO_VERSION)
        return changed


def hash_texts(texts: pa.ChunkedArray | Iterable[str | None]) -> np.ndarray:
    """(N, 2) uint64; zeros for None."""
    values = texts.to_pylist() if isinstance(texts, pa.ChunkedArray | pa.Array) else texts
    digests = [bytes(16) if text is None else blake2b(text.encode(), digest_size=16).digest() for text in values]
    return np.frombuffer(b"".join(digests), "<u8").reshape(-1, 2)
