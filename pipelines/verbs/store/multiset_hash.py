"""A hash of many pairs in whatever order they come: that of a listing equals the sum of those of rows and failures.

LtHash16 of Bellare and Micciancio, A New Paradigm for Collision-Free Hashing (1997), as Lewi et al., Securing Update
Propagation with Homomorphic Hashing (2019) use it: each element is expanded to 1,024 numbers of 16 bits, here by
SHAKE128, and the numbers are added modulo 2^16. To find another multiset of the same sum is a hard problem on lattices.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

LANES = 1024
AT_ONCE = 512
"""Elements that are expanded before they are added, 1 MB."""


class MultisetHash:
    """The sum of the elements added so far; equal for equal multisets."""

    def __init__(self) -> None:
        self.lanes = np.zeros(LANES, np.uint16)

    def add(self, pairs: Iterable[tuple[str, str | None]]) -> None:
        """Add pairs of an id and a version; None is a version of its own."""
        expanded: list[bytes] = []
        for pair in pairs:
            expanded.append(hashlib.shake_128(encoded(*pair)).digest(2 * LANES))
            if len(expanded) == AT_ONCE:
                self._sum(expanded)
                expanded = []
        self._sum(expanded)

    def _sum(self, expanded: list[bytes]) -> None:
        values = np.frombuffer(b"".join(expanded), "<u2").reshape(-1, LANES)
        self.lanes += values.sum(0, dtype=np.uint16)

    def hexdigest(self) -> str:
        """SHA-256 of the sum."""
        return hashlib.sha256(self.lanes.astype("<u2").tobytes()).hexdigest()


def encoded(id_: str, version: str | None) -> bytes:
    """A pair as bytes that no other pair has."""
    name = id_.encode()
    tail = b"\x00" if version is None else b"\x01" + version.encode()
    return len(name).to_bytes(8, "little") + name + tail
