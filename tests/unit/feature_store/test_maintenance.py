"""Verify finds damage, compact and vacuum change nothing that a reader sees, and no order of events breaks a set."""

from __future__ import annotations

import random
import re
import time
from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from pyarrow import fs

from feature_store import Store, StoreError, compact, drop, maintenance, term, vacuum, verify
from feature_store.ledger import Ledger
from feature_store.maintenance import groups_to_merge
from tests.worlds.feature_rows import commit, dataset, ids, rows


@pytest.fixture
def made(tmp_path):
    made = dataset(Store(tmp_path / "store"))
    with made.begin() as term:
        for start in range(0, 40, 10):
            commit(term, ids(start, start + 10), [f"x{start}"])
    return made


def test_a_sound_set_has_no_problems(made):
    found = verify(made)
    assert (found.parts, found.rows, found.failures, found.problems, found.damaged) == (4, 40, 4, [], [])
    assert found.bytes == sum(size.size for size in made.files.infos(f"{made.folder}/parts")) + sum(
        size.size for size in made.files.infos(f"{made.folder}/failures")
    )


def file_of(made, tmp_path, number: int, failed: bool = False):
    part = made.snapshot().parts[number]
    return part, tmp_path / "store" / made.folder / (part.failure_path if failed else part.path)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "bytes, the ledger says"),
        (flip, r"has changed since it was committed \(checksum\)"),
        (lambda path: path.unlink(), "is missing"),
    ],
)
@pytest.mark.parametrize("failed", [False, True])
def test_damage_is_found_dropped_and_computed_again(made, tmp_path, damage, said, failed):
    part, path = file_of(made, tmp_path, 2, failed)
    damage(path)
    found = verify(made)
    assert found.damaged == [part.name] and len(found.problems) == 1
    assert part.name in found.problems[0] and path.name in found.problems[0]
    assert re.search(said, found.problems[0])
    drop(made, found.damaged)
    assert verify(made).problems == [] and "00025" not in made.snapshot().ids().to_pylist()
    with made.begin() as term:
        commit(term, ids(20, 30), ["x20"])
    assert sorted(made.snapshot().ids().to_pylist()) == [*ids(0, 40), "x0", "x10", "x20", "x30"]


def test_verify_counts_failures_that_a_damaged_part_may_have_overcome(made, tmp_path):
    with made.begin() as term:
        commit(term, ["x0", "x15"], ["x20"])
        overcame = made.snapshot().parts[-1]
    assert verify(made).failed_again == 0
    (tmp_path / "store" / made.folder / overcame.path).unlink()
    found = verify(made)
    # Nobody can read whether the row of x10, which lies between the part's ends, was there.
    assert (found.damaged, found.failures, found.failed_again) == ([overcame.name], 4, 2)


def test_every_problem_is_reported_by_name(made, tmp_path):
    (first, one), (second, two) = (file_of(made, tmp_path, number) for number in (0, 3))
    one.unlink()
    two.write_bytes(b"")
    with made.begin() as term:
        commit(term, ["00012", "00031", "new"], ["x10"])
        wrong = made.snapshot().parts[1]
        made.ledger.add(term.handle.term, replace(wrong, name="wrong", rows=11, first_id="a", row_groups=(11,)))
    problems = "\n".join(verify(made).problems)
    for part in (first, second):
        assert f"{part.name}: parts/{part.file}.parquet" in problems
    assert "id '00012' is there 2 times" in problems and "00031" not in problems  # its other part is damaged
    for said in ("rows 10, the ledger says 11", "first id 00010, the ledger says a", "row groups (10,)"):
        assert said in problems


@pytest.mark.parametrize("change", ["missing", "more", "type"])
def test_parts_of_another_schema_than_the_sets_are_damage(made, change):
    last = made.schema.names[-1]
    at = made.schema.get_field_index(last)
    schema, said = {
        "missing": (made.schema.remove(at), f"column {last} .* is not of this set"),
        "more": (made.schema.append(pa.field("more", pa.int64())), r"column more \(int64\) is missing"),
        "type": (made.schema.set(at, pa.field(last, pa.int64())), f"column {last} is .*, expected int64"),
    }[change]
    found = verify(replace(made, schema=schema))
    assert len(found.damaged) == 4
    assert all(re.search(said, problem) for problem in found.problems)


def test_compact_keeps_rows_failures_and_readers(made):
    with made.begin() as term:
        commit(term, ["x0"], ["x10"], "again")
    before = made.snapshot()
    expected = before.take(sorted(before.ids(False).to_pylist()))
    done = compact(made)
    after = made.snapshot()
    assert (done.parts_before, done.parts_after) == (5, 1) and len(after.parts) == 1
    assert pa.Table.from_batches(after.scan()).equals(expected)
    assert after.failures().equals(before.failures()) and after.failures()["reason"].to_pylist()[0] == "again"
    assert pa.Table.from_batches(before.scan()).num_rows == 41  # the old reader goes on
    assert compact(made).parts_before == 1 and verify(made).problems == []


def test_parts_are_merged_up_to_the_target():
    made = dataset(Store("s", fs._MockFileSystem()))
    with made.begin() as term:
        part = commit(term, ids(0, 3))
    sizes = [10, 60, 30, 40, 45, 200, 20, 20]
    parts = [replace(part, name=str(at), bytes=size, failure_bytes=0) for at, size in enumerate(sizes)]
    groups = [[part.bytes for part in group] for group in groups_to_merge(parts, 100)]
    assert groups == [[10, 30, 40, 45], [20, 20]]  # 60 and 200 are large enough
    assert list(groups_to_merge(parts[:1], 100)) == []


def test_vacuum_waits_for_the_grace_and_can_be_asked_first(made, tmp_path):
    old = made.snapshot()
    compact(made)
    assert vacuum(made, grace=3600).files == [] and len(list(old.scan())) == 4
    planned = vacuum(made, grace=0, dry_run=True)
    assert sorted(planned.files) == sorted(path for part in old.parts for path in part.paths)
    assert planned.bytes == sum(part.bytes + part.failure_bytes for part in old.parts)
    assert len(list(old.scan())) == 4
    done = vacuum(made, grace=0)
    assert done.files == planned.files and set(planned.terms) == set(done.terms)
    assert len(made.ledger.terms()) == 1 and verify(made).problems == []
    lying = {path.name for path in (tmp_path / "store" / made.folder).glob("parts/*")}
    assert lying == {f"{part.file}.parquet" for part in made.snapshot().parts}


@pytest.mark.parametrize("takeover", [True, False])
def test_vacuum_spares_what_is_committed_while_it_looks(made, monkeypatch, takeover):
    """By a writer that is taken over from, or by one that begins and ends in that moment."""
    living = made.begin() if takeover else None
    read, rows_then = Ledger.read, []

    def read_before_another_commits(ledger):
        monkeypatch.undo()
        found = read(ledger)
        try:
            with living or made.begin() as other:
                commit(other, ids(90, 95), ["x90"])
            rows_then.append(45)
        except StoreError:  # it is too late, and is told so
            rows_then.append(40)
        return found

    monkeypatch.setattr(Ledger, "read", read_before_another_commits)
    vacuum(made, grace=0, takeover=takeover)
    assert verify(made).problems == [] and [made.snapshot().rows] == rows_then


@pytest.mark.parametrize("module", [maintenance, term], ids=["vacuum", "any beginning"])
def test_a_writer_that_is_taken_over_before_it_removes_rubbish_removes_nothing(made, monkeypatch, module):
    """What it finds then may be the other's, whose entries it does not know."""
    compact(made)
    real = module.existing_files

    def list_after_another(*arguments):
        monkeypatch.undo()
        with made.begin(takeover=True) as other:
            commit(other, ids(90, 95), ["x90"])
        return real(*arguments)

    monkeypatch.setattr(module, "existing_files", list_after_another)
    with pytest.raises(StoreError, match="taken over"):
        vacuum(made, grace=0)
    assert verify(made).problems == [] and made.snapshot().rows == 45


def test_rubbish_is_counted_by_vacuum_although_its_beginning_sweeps_it(made, tmp_path):
    rubbish = tmp_path / "store" / made.folder / "parts/dead-1-ab.parquet"
    rubbish.write_bytes(b"12345")
    planned = vacuum(made, dry_run=True)
    assert (planned.files, planned.bytes) == (["parts/dead-1-ab.parquet"], 5)
    assert vacuum(made) == planned and not rubbish.exists()


def test_a_term_that_is_vacuumed_while_it_is_read_is_read_anew(made, monkeypatch):
    entries, vacuumed = Ledger.entries, []

    def vacuum_first(ledger, term):
        if not vacuumed:
            vacuumed.append(term)
            assert f"ledger/{term}" in vacuum(made, grace=0).terms
        return entries(ledger, term)

    monkeypatch.setattr(Ledger, "entries", vacuum_first)
    assert made.snapshot().rows == 40 and len(vacuumed) == 1


def test_a_replaced_part_survives_later_terms_until_its_grace_is_over(made):
    old = made.snapshot()
    compact(made)
    for _ in range(3):
        made.begin().close()
    assert len(list(old.scan())) == 4
    assert len(vacuum(made, grace=0).files) == 8


class Events(RuleBasedStateMachine):
    """Any order of units, retries, deaths, upkeep: the set equals a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.made = dataset(Store("store", fs._MockFileSystem()))
        self.state: dict[str, str | None] = {}
        self.next = 0
        self.term = self.made.begin()

    def unit(self, done: list[str], failed: list[str]) -> None:
        reason = f"try {len(self.state)} {time.monotonic_ns()}"
        random.Random(self.next).shuffle(done)
        commit(self.term, done, failed, reason)
        self.state |= dict.fromkeys(done) | dict.fromkeys(failed, reason)

    @rule(done=st.integers(0, 4), failed=st.integers(0, 3))
    def new_unit(self, done, failed):
        fresh = ids(self.next, self.next + done + failed)
        self.next += done + failed
        self.unit(fresh[:done], fresh[done:])

    def restart(self, takeover: bool) -> None:
        if not takeover:
            self.term.close()
        self.term = self.made.begin(takeover=takeover)

    @rule(takeover=st.booleans())
    def new_term(self, takeover):
        self.restart(takeover)

    @rule(data=st.data())
    def retry_in_a_new_term(self, data):
        self.restart(takeover=False)
        failed = [id_ for id_, reason in self.state.items() if reason]
        retried = data.draw(st.lists(st.sampled_from(failed), unique=True) if failed else st.just([]))
        again = data.draw(st.integers(0, len(retried)))
        self.unit(retried[again:], retried[:again])

    @rule(size=st.sampled_from([1, 3000, 6000, 1 << 20]))
    def compacted(self, size):
        self.term.close()
        compact(self.made, size)
        self.term = self.made.begin()

    @rule()
    def vacuumed(self):
        self.term.close()
        vacuum(self.made, grace=0)
        self.term = self.made.begin()

    @rule(data=st.data())
    def dropped(self, data):
        self.term.close()
        parts = self.made.snapshot().parts
        chosen = data.draw(st.sampled_from(parts)) if parts else None
        if chosen:
            # Failures that the part's rows or failures had overcome are back, as if the part had never been.
            drop(self.made, [chosen.name])
            snapshot = self.made.snapshot()
            standing = snapshot.failures()
            now = dict.fromkeys(snapshot.ids(False).to_pylist())
            now |= dict(zip(standing["image_id"].to_pylist(), standing["reason"].to_pylist(), strict=True))
            assert now.keys() <= self.state.keys()
            assert sum(self.state[id_] != now[id_] for id_ in now) <= chosen.rows + chosen.failures
            self.state = now
        self.term = self.made.begin()

    @invariant()
    def the_set_is_the_dictionary(self):
        snapshot = self.made.snapshot()
        done = [id_ for id_, reason in self.state.items() if reason is None]
        failed = {id_: reason for id_, reason in self.state.items() if reason}
        assert sorted(snapshot.ids(include_failures=False).to_pylist()) == sorted(done)
        table = snapshot.failures()
        assert dict(zip(table["image_id"].to_pylist(), table["reason"].to_pylist(), strict=True)) == failed
        assert snapshot.rows == len(done) and snapshot.failed == len(failed) == table.num_rows
        assert snapshot.take(done).equals(rows(done))

    def teardown(self):
        self.term.close()
        assert verify(self.made).problems == []


TestEvents = pytest.mark.heavy(Events.TestCase)
TestEvents.settings = settings(max_examples=12, stateful_step_count=15)
