"""Inputs are taken out whole, in a term of their own, and nothing else is."""

from __future__ import annotations

import pytest

from feature_store import Store, StoreError, verify
from feature_store.prune import prune
from tests.worlds.feature_rows import commit, dataset, ids, rows


@pytest.fixture
def made(tmp_path):
    """Rows 0 to 29 in parts whose ids interleave; x0 to x2 failed, and x0 has a row since."""
    made = dataset(Store(tmp_path / "store"))
    with made.begin() as term:
        for offset in range(3):
            commit(term, ids(offset, 30)[::3], [f"x{offset}"])
    with made.begin() as term:
        commit(term, ["x0"])
    return made


def inputs(made) -> tuple[list[str], list[str]]:
    snapshot = made.snapshot()
    return sorted(snapshot.ids(include_failures=False).to_pylist()), snapshot.failures()["image_id"].to_pylist()


def test_rows_and_failures_go_and_the_others_are_as_they_were(made):
    before = made.snapshot()
    pruned = prune(made, [*ids(3, 7), "x1", "nowhere"])
    assert (pruned.rows, pruned.failures, pruned.parts) == (4, 1, 3)
    kept = [*ids(0, 3), *ids(7, 30), "x0"]
    assert inputs(made) == (kept, ["x2"]) and verify(made).problems == []
    assert made.snapshot().take(kept).equals(rows(kept))
    assert sum(batch.num_rows for batch in before.scan()) == 31  # a reader that began before


def test_what_had_failed_before_it_succeeded_does_not_fail_again(made):
    pruned = prune(made, ["x0"])
    assert (pruned.rows, pruned.failures) == (1, 0)
    assert inputs(made) == (ids(0, 30), ["x1", "x2"]) and verify(made).problems == []


def test_all_of_a_set_and_nothing_of_it(made):
    parts = made.snapshot().parts
    assert prune(made, ["nowhere"]).parts == 0 and made.snapshot().parts == parts
    prune(made, [*ids(0, 30), "x0", "x1", "x2"])
    assert inputs(made) == ([], []) and verify(made).problems == []


def test_another_writer_is_refused(made):
    with made.begin(), pytest.raises(StoreError, match="another writer is at work"):
        prune(made, ids(0, 3))
    assert made.snapshot().rows == 31
