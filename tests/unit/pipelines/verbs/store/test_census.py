"""A set against a listing: every input that is missing, stale or extra is counted, and equal hashes mean none is."""

from __future__ import annotations

import pyarrow as pa
import pytest

from feature_store import Store, failure_schema
from pipelines.verbs.store.census import Census, Comparison, own_hash

SCHEMA = pa.schema([pa.field("image_id", pa.string(), nullable=False), pa.field("version", pa.string())])


@pytest.fixture
def snapshot(tmp_path):
    """Rows a to f of version 1 (f of none), in two parts; x and y failed."""
    made = Store(tmp_path / "s").dataset("lines", {"a": 1}, SCHEMA)
    with made.begin() as term:
        for ids in ("ace", "bdf"):
            versions = [None if id_ == "f" else "1" for id_ in ids]
            failed = {"image_id": "x" if "a" in ids else "y", "version": "1", "stage": "read", "reason": "r"}
            failures = pa.Table.from_pylist([failed | {"uri": "u", "tries": 1}], failure_schema())
            term.handle.commit(ids, pa.table([list(ids), versions], schema=SCHEMA), failures)
    return made.snapshot()


def census_of(snapshot, listed: dict[str, str | None]) -> Census:
    table = pa.table([list(listed), list(listed.values())], schema=pa.schema([("id", pa.string()), SCHEMA.field(1)]))
    return Comparison(snapshot).run([table[:2], table[2:]])


ALL = dict.fromkeys("abcdefxy", "1")


def test_all_is_there(snapshot):
    census = census_of(snapshot, ALL)
    assert census.complete and census.listing == census.content == census.own == own_hash(snapshot)
    assert (census.listed, census.rows, census.failures, census.unversioned) == (8, 6, 2, 1)
    assert census.stages == {"read": 2}


@pytest.mark.parametrize(
    ("change", "kind", "ids"),
    [
        ({"g": "1", "h": None}, "missing", ["g", "h"]),
        ({"b": "2"}, "stale", ["b"]),
        ({"x": "2"}, "stale", ["x"]),
        ({"c": ...}, "extra", ["c"]),
        ({"c": ..., "f": ..., "y": ...}, "extra", ["c", "f", "y"]),
        ({"a": ..., "aa": "1"}, "extra", ["a"]),
    ],
)
def test_what_differs_is_counted_and_named(snapshot, change, kind, ids):
    listed = {id_: version for id_, version in {**ALL, **change}.items() if version is not ...}
    census = census_of(snapshot, listed)
    assert not census.complete and census.listing != census.content
    assert (getattr(census, kind).count, sorted(getattr(census, kind).examples)) == (len(ids), ids)
    others = {"missing", "stale", "extra"} - {kind} - ({"missing"} if "aa" in change else set())
    assert [getattr(census, other).count for other in others] == [0] * len(others)


def test_a_listing_without_versions_is_compared_by_id(snapshot):
    census = census_of(snapshot, dict.fromkeys(ALL))
    assert census.complete and census.unversioned == 8 and census.content != census.own == own_hash(snapshot)
    assert not census_of(snapshot, dict.fromkeys("abcdefx")).complete


def test_what_is_not_listed_is_named_in_full(snapshot):
    comparison = Comparison(snapshot)
    comparison.run([pa.table({"id": ["a", "x"], "version": ["1", "1"]})])
    assert sorted(comparison.not_listed()) == ["b", "c", "d", "e", "f", "y"]


def test_an_id_that_is_there_twice_is_no_complete_set(tmp_path):
    made = Store(tmp_path / "s").dataset("lines", {"a": 1}, SCHEMA)
    with made.begin() as term:
        for name in ("one", "two"):
            term.handle.commit(name, pa.table([["a"], ["1"]], schema=SCHEMA))
    census = census_of(made.snapshot(), {"a": "1"})
    assert not census.complete and census.missing.count == census.stale.count == 0
