"""Which parts count."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from feature_store import Store, verify
from feature_store.ledger import Heartbeat
from tests.worlds.feature_rows import commit, dataset, ids


@pytest.fixture
def made(tmp_path):
    return dataset(Store(tmp_path / "store"))


def test_an_entry_added_to_an_older_term_is_seen_by_nobody(made):
    first = made.begin()
    ghost = commit(first, ids(0, 3))
    first.close()
    made.begin().close()
    made.ledger.add(first.handle.term, replace(ghost, name="ghost", file="ghost"))
    assert [part.name for part in made.snapshot().parts] == [ghost.name]
    with made.begin():
        assert [part.name for part in made.snapshot().parts] == [ghost.name]


def test_how_long_a_writer_elsewhere_is_watched():
    def watched(age: float) -> float:
        beat = replace(Heartbeat.first(10), host="other", system="another machine")
        return replace(beat, time=time.time() - age).watched

    assert watched(4) == pytest.approx(26, abs=1)  # until three intervals have passed since it was written
    assert watched(35) == watched(14 * 3600) == 20
    assert watched(-1e6) == 30
    assert watched(25 * 3600) == 0


def test_a_half_written_entry_does_not_count(made, tmp_path):
    """Possible only where a file system does not put whole objects; the part is then computed again."""
    with made.begin() as term:
        part = commit(term, ids(0, 3))
    entry = tmp_path / "store" / made.ledger.path(term.handle.term, f"{part.name}.json")
    entry.write_bytes(entry.read_bytes()[:40])
    assert made.snapshot().parts == [] and not term.handle.committed(part.name)
    assert "is no whole entry" in verify(made).problems[0]
