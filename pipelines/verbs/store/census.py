"""A set against a listing: what is missing, extra or stale, and whether their hashes are equal.

Two passes, one over the listing and one over the ids and versions of the set. What is held is an index of the rows, 28
bytes each, a few flags, and all failures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from feature_store import Index, Snapshot
from feature_store.index import NO_VERSION
from pipelines.verbs.store.multiset_hash import MultisetHash

EXAMPLES = 20


@dataclass
class Ids:
    """How many ids there are of a kind, and some of them."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, ids: list[str]) -> None:
        self.count += len(ids)
        self.examples += ids[: EXAMPLES - len(self.examples)]


@dataclass
class Census:
    """A set against a listing.

    Attributes:
        listed: inputs of the listing. ``unversioned`` of them, or their rows, have no version to compare.
        rows, failures: of the set; ``stages`` counts the failures by stage.
        missing: listed inputs that are neither a row nor a failure.
        stale: those whose row or failure is of another version.
        extra: rows and failures of what is not listed: it left the source, or is of another one.
        listing, content: hashes of the pairs of id and version, of the listing and of the set, the latter as compared:
            without the versions that the listing does not know.
        own: hash of the set with all of its versions.
        failures_listed: of the failures, those of listed inputs.
    """

    listed: int = 0
    unversioned: int = 0
    rows: int = 0
    failures: int = 0
    stages: dict[str, int] = field(default_factory=dict)
    missing: Ids = field(default_factory=Ids)
    stale: Ids = field(default_factory=Ids)
    extra: Ids = field(default_factory=Ids)
    listing: str = ""
    content: str = ""
    own: str = ""
    failures_listed: int = 0

    @property
    def complete(self) -> bool:
        return self.listing == self.content and not (self.missing.count or self.stale.count or self.extra.count)


class Comparison:
    """Compares a snapshot with a listing, chunk by chunk."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot, self.index = snapshot, Index.of(snapshot)
        failed = snapshot.failures()
        self.failed: dict[str, str | None] = dict(
            zip(failed[snapshot.id_column].to_pylist(), failed["version"].to_pylist(), strict=True)
        )
        self.listed = np.zeros(len(self.index.first), bool)
        self.compared = np.zeros(len(self.index.first), bool)
        self.failed_listed: dict[str, bool] = {}
        self.census = Census(rows=snapshot.rows, failures=len(self.failed))
        self.census.stages = dict(Counter(failed["stage"].to_pylist()))

    def run(self, chunks: Iterable[pa.Table]) -> Census:
        """
        Args:
            chunks: tables of inputs, the first column the id, with a column ``version``.
        """
        of_listing = MultisetHash()
        for chunk in chunks:
            of_listing.add(self._compare(chunk))
        self.census.listing = of_listing.hexdigest()
        self._count_set()
        return self.census

    def _compare(self, chunk: pa.Table) -> Iterator[tuple[str, str | None]]:
        """The pairs of a chunk of the listing, as they are hashed."""
        census, at = self.census, self.index.find(chunk[0])
        ids, versions = chunk[0].to_pylist(), chunk["version"].to_pylist()
        has_row = at >= 0
        known = np.array([version is not None for version in versions], bool)
        of_row = np.zeros(len(at), bool)
        of_row[has_row] = self.index.version[at[has_row]] != NO_VERSION
        comparable = known & of_row
        changed = self.index.changed(at, chunk["version"])
        self.listed[at[has_row]] = True
        self.compared[at[has_row & comparable]] = True
        census.listed += len(ids)
        census.stale.add([ids[row] for row in np.flatnonzero(changed)])
        missing = []
        for row, (id_, version) in enumerate(zip(ids, versions, strict=True)):
            compare = bool(comparable[row])
            if not has_row[row]:
                if id_ not in self.failed:
                    missing.append(id_)
                    yield id_, version
                    continue
                before = self.failed[id_]
                compare = version is not None and before is not None
                self.failed_listed[id_] = compare
                if compare and version != before:
                    census.stale.add([id_])
            census.unversioned += not compare
            yield id_, version if compare else None
        census.missing.add(missing)

    def _count_set(self) -> None:
        """The hash of the set, and what of it is not listed."""
        content = MultisetHash()
        for pairs in self._compared_pairs():
            content.add(pairs)
        self.census.extra.count = int((~self.listed).sum()) + len(self.failed) - len(self.failed_listed)
        self.census.failures_listed = len(self.failed_listed)
        self.census.content = content.hexdigest()
        self.census.own = own_hash(self.snapshot) if self.census.unversioned else self.census.content

    def _compared_pairs(self) -> Iterator[list[tuple[str, str | None]]]:
        """Ids and versions of rows and failures, without versions that could not be compared; notes some that are not
        listed."""
        extra = self.census.extra
        for ids, versions in rows_of(self.snapshot):
            at = self.index.find(pa.chunked_array([pa.array(ids, pa.string())]))
            listed, compared = self.listed[at], self.compared[at]
            if len(extra.examples) < EXAMPLES:
                extra.examples += [ids[row] for row in np.flatnonzero(~listed)][: EXAMPLES - len(extra.examples)]
            unknown = listed & ~compared
            yield [
                (id_, None if left_out else version)
                for id_, version, left_out in zip(ids, versions, unknown, strict=True)
            ]
        left = [id_ for id_ in self.failed if id_ not in self.failed_listed]
        extra.examples += left[: EXAMPLES - len(extra.examples)]
        yield [(id_, version if self.failed_listed.get(id_, True) else None) for id_, version in self.failed.items()]

    def not_listed(self) -> Iterator[str]:
        """Ids of rows and failures that the listing does not have; after ``run``."""
        for ids in self.snapshot.iter_ids():
            for row in np.flatnonzero(~self.listed[self.index.find(ids)]):
                yield ids[int(row)].as_py()
        yield from (id_ for id_ in self.failed if id_ not in self.failed_listed)


def rows_of(snapshot: Snapshot) -> Iterator[tuple[list[str], list[str | None]]]:
    """Ids and versions of the rows, part by part."""
    versioned = "version" in snapshot.schema.names
    for table in snapshot.iter_columns([snapshot.id_column, *(["version"] if versioned else [])]):
        versions = table["version"].to_pylist() if versioned else [None] * table.num_rows
        yield table[0].to_pylist(), versions


def own_hash(snapshot: Snapshot) -> str:
    """The hash of a set with all of its versions, as ``Census.own``."""
    own = MultisetHash()
    for ids, versions in rows_of(snapshot):
        own.add(zip(ids, versions, strict=True))
    failed = snapshot.failures()
    own.add(zip(failed[snapshot.id_column].to_pylist(), failed["version"].to_pylist(), strict=True))
    return own.hexdigest()
