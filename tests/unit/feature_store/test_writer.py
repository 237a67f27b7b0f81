"""One writer: what is committed is there once, whole, sorted; everything else is not there."""

from __future__ import annotations

import pickle
import random

import pyarrow as pa
import pytest

from feature_store import Store, StoreError, verify, writer
from tests.worlds.feature_rows import SCHEMA, commit, dataset, failures, ids, rows


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "store")


def test_a_commit_is_seen_by_snapshots_made_after_it(store):
    with dataset(store).begin() as term:
        before = dataset(store).snapshot()
        part = commit(term, ids(0, 7), ["x1"])
        after = dataset(store).snapshot()
    assert before.rows == 0 and before.parts == []
    assert after.parts == [part] and (after.rows, after.failed) == (7, 1)
    assert (part.first_id, part.last_id, part.row_groups) == ("00000", "00006", (7,))


def test_rows_come_in_any_order_and_are_stored_by_id(store):
    shuffled = ids(0, 50)
    random.Random(1).shuffle(shuffled)
    with dataset(store).begin() as term:
        commit(term, shuffled)
    (batch,) = dataset(store).snapshot().scan(["image_id", "grid"])
    assert batch["image_id"].to_pylist() == ids(0, 50)
    assert batch["grid"].equals(rows(ids(0, 50))["grid"].chunk(0))


def test_committing_again_does_nothing(store):
    made = dataset(store)
    with made.begin() as term:
        first = commit(term, ids(0, 5))
        assert term.handle.committed(first.name)
        assert term.handle.commit(first.name, rows(["other"])) == first
        assert not term.handle.committed(term.handle.part_name(ids(0, 6)))
    assert made.snapshot().parts == [first] and made.snapshot().ids().to_pylist() == ids(0, 5)


def test_the_name_of_a_part_depends_on_term_ids_and_nothing_else(store):
    with dataset(store).begin() as term:
        names = [term.handle.part_name(unit) for unit in (["a", "b"], ["ab"], ["a", "b", ""], ["b", "a"], ["é"])]
        assert len(set(names)) == 5
        assert pickle.loads(pickle.dumps(term.handle)).part_name(["a", "b"]) == names[0]
        assert len(pickle.dumps(term.handle)) < 5000
    with dataset(store).begin() as again:
        assert again.handle.part_name(["a", "b"]) != names[0]


def test_a_unit_may_give_only_failures_or_nothing_at_all(store):
    made = dataset(store)
    with made.begin() as term:
        only_failures = commit(term, [], ["x"])
        nothing = commit(term, [], [])
    assert made.snapshot().failures()["image_id"].to_pylist() == ["x"]
    assert only_failures.paths == [only_failures.failure_path] and nothing.paths == [] and verify(made).problems == []


def test_a_stream_of_batches_is_written_in_row_groups_of_their_size(store, monkeypatch):
    table = rows(ids(0, 100))
    monkeypatch.setattr(writer, "ROW_GROUP_BYTES", 30 * table.nbytes // 100)
    reader = pa.RecordBatchReader.from_batches(SCHEMA, table.to_batches(max_chunksize=7))
    with dataset(store).begin() as term:
        part = term.handle.commit("streamed", reader)
        empty = term.handle.commit("empty", pa.RecordBatchReader.from_batches(SCHEMA, []))
    assert sum(part.row_groups) == part.rows == 100
    assert all(28 <= count <= 35 for count in part.row_groups[:-1])
    assert empty.rows == 0 and dataset(store).begin().swept == {}
    assert dataset(store).snapshot().take(ids(0, 100)).equals(table)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (rows(["a", "b", "a"]), "'a' follows 'a'"),
        (rows(["a"]).drop(["grid"]), "column grid .* is missing"),
        (rows(["a"]).append_column("more", pa.array([1])), "column more .* is not of this set"),
        (rows(["a"]).set_column(3, "width", pa.array([1], pa.int64())), "column width is int64, expected int32"),
        (rows(["a"]).set_column(1, "uri", pa.array([None], pa.string())), "column uri has 1 nulls"),
    ],
)
def test_rows_that_do_not_fit_are_refused_and_leave_nothing(store, tmp_path, table, message):
    made = dataset(store)
    with made.begin() as term, pytest.raises(StoreError, match=message):
        term.handle.commit("unfit", table)
    assert made.snapshot().parts == [] and [*tmp_path.rglob("parts/*")] == []


def test_a_stream_out_of_order_is_refused(store, tmp_path):
    batches = [*rows(["a", "c"]).to_batches(), *rows(["b"]).to_batches()]
    with dataset(store).begin() as term, pytest.raises(StoreError, match="'b' follows 'c'"):
        term.handle.commit("unsorted", pa.RecordBatchReader.from_batches(SCHEMA, batches))
    assert [*tmp_path.rglob("parts/*")] == []


def test_a_retry_supersedes_the_failure(store):
    made = dataset(store)
    with made.begin() as term:
        commit(term, ids(0, 5), ["x1", "x2", "x3"], "first")
    with made.begin() as term:
        commit(term, ["x1"], ["x2"], "second")
    snapshot = made.snapshot()
    assert snapshot.failures()["image_id"].to_pylist() == ["x2", "x3"]
    assert snapshot.failures()["reason"].to_pylist() == ["second", "first"]
    assert snapshot.failed == 2 and sorted(snapshot.ids().to_pylist()) == [*ids(0, 5), "x1", "x2", "x3"]
    assert snapshot.ids(include_failures=False).to_pylist() == [*ids(0, 5), "x1"]
    assert verify(made).problems == []


def test_a_failed_commit_can_be_repeated(store):
    made = dataset(store)
    with made.begin() as term:
        with pytest.raises(StoreError, match="do not fit"):
            term.handle.commit("p", rows(["a"]), failures(["b"]).drop(["reason"]))
        term.handle.commit("p", rows(["a"]), failures(["b"]))
    assert made.snapshot().ids().to_pylist() == ["a", "b"] and verify(made).problems == []
