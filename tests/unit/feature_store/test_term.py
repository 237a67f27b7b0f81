"""Writers against each other and against their own ghosts."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import pytest

from feature_store import Store, StoreError, verify
from feature_store.ledger import Heartbeat, Ledger, TermName
from tests.worlds.feature_rows import commit, dataset, failures, ids, rows


@pytest.fixture
def made(tmp_path):
    return dataset(Store(tmp_path / "store"))


def test_a_second_writer_is_refused_and_told_about_the_first(made):
    with made.begin() as term:
        first = made.writer()
        with pytest.raises(StoreError, match=f"host {first.host}, pid {first.pid}, writing since .* take over"):
            made.begin()
        commit(term, ids(0, 3))
    assert made.writer() is None
    with made.begin() as term:
        assert made.snapshot().ids().to_pylist() == ids(0, 3)


def test_a_term_ends_also_when_its_block_raises(made):
    with pytest.raises(RuntimeError, match="of the caller"), made.begin() as term:
        raise RuntimeError("of the caller")
    term.close()
    made.begin().close()


def test_takeover_fences_the_first_writer(made, tmp_path):
    first = made.begin()
    commit(first, ids(0, 3))
    with made.begin(takeover=True) as second:
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(StoreError, match=f"term {second.handle.term}.* has taken over"):
            commit(first, ids(3, 6))
        assert sorted(tmp_path.rglob("*")) == before
        commit(second, ids(6, 9))
    first.close()
    assert made.snapshot().ids().to_pylist() == [*ids(0, 3), *ids(6, 9)]
    assert verify(made).problems == []


def test_no_commit_is_lost_between_a_new_term_and_its_base(made, monkeypatch):
    """The old writer commits when the new one has shown itself but has not yet written its base."""
    first = made.begin()
    write_base, refused = Ledger.write_base, []

    def commit_first(ledger, term, parts):
        with pytest.raises(StoreError, match="taken over"):
            commit(first, ids(0, 3))
        refused.append(term)
        write_base(ledger, term, parts)

    monkeypatch.setattr(Ledger, "write_base", commit_first)
    with made.begin(takeover=True):
        assert len(refused) == 1 and made.snapshot().parts == []


def test_a_writer_taken_over_in_the_middle_of_a_commit_is_told(made, monkeypatch):
    """The entry arrives before the new term is there, so it counts, though its writer is fenced a moment later."""
    first = made.begin()
    add = Ledger.add

    def take_over_after(ledger, term, part):
        add(ledger, term, part)
        monkeypatch.setattr(Ledger, "add", add)
        made.begin(takeover=True).close()

    monkeypatch.setattr(Ledger, "add", take_over_after)
    with pytest.raises(StoreError, match="taken over"):
        commit(first, ids(0, 3))
    assert made.snapshot().ids().to_pylist() == ids(0, 3) and verify(made).problems == []


def test_a_writer_gives_way_to_one_that_came_in_while_it_began(made, monkeypatch):
    made.begin().close()
    after = TermName.after

    def overtaken(terms):
        own = after(terms)
        announce(made, Heartbeat.first(10), TermName(own.number, "abcdef"))
        return own

    with monkeypatch.context() as patch, pytest.raises(StoreError, match="began at the same moment"):
        patch.setattr(TermName, "after", overtaken)
        made.begin()
    assert [term.number for term in made.ledger.terms()] == [1, 2]  # its own folder is gone
    with pytest.raises(StoreError, match="another writer is at work"):
        made.begin()


def test_writers_that_begin_at_the_same_moment_are_at_most_one(made):
    made.begin().close()
    for _ in range(5):
        ready = threading.Barrier(6)

        def try_to_begin(_, ready=ready):
            ready.wait()
            try:
                return made.begin()
            except StoreError:
                return None

        with ThreadPoolExecutor(6) as pool:
            begun = [term for term in pool.map(try_to_begin, range(6)) if term]
        assert len(begun) <= 1
        for term in begun:
            term.close()
    with made.begin() as term:
        commit(term, ids(0, 3))
    assert made.snapshot().rows == 3


def announce(made, seen: Heartbeat, term: TermName = TermName(7, "abcdef")) -> str:  # noqa: B008 (immutable)
    """A writer's folder as another process would have made it. Returns the path of its heartbeat."""
    path = made.ledger.path(term, "alive.json")
    made.files.write(path, seen.to_json())
    return path


def elsewhere(interval: float) -> Heartbeat:
    return replace(Heartbeat.first(interval), host="other", system="another machine")


def test_a_writer_elsewhere_that_fell_silent_is_succeeded_after_three_intervals(made):
    made.begin().close()
    announce(made, elsewhere(0.05))
    with made.begin() as term:
        assert term.handle.term.number == 8


def test_a_writer_elsewhere_that_goes_on_beating_is_not(made):
    made.begin().close()
    seen = elsewhere(5)
    path = announce(made, seen)
    beat = threading.Timer(0.2, lambda: made.files.write(path, replace(seen, time=seen.time + 1).to_json()))
    beat.start()
    with pytest.raises(StoreError, match="host other"):
        made.begin()
    beat.join()
    made.begin(takeover=True).close()


def test_a_clock_that_lags_elsewhere_does_not_make_a_writer_dead(made):
    """It beats five times a second, each time with the hour before last."""
    made.begin().close()
    seen = replace(elsewhere(0.2), time=time.time() - 7200)
    path = announce(made, seen)
    ended = threading.Event()

    def beat():
        count = 0
        while not ended.wait(0.1):
            count += 1
            made.files.write(path, replace(seen, time=seen.time + count).to_json())

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(StoreError, match="host other"):
            made.begin()
    finally:
        ended.set()
        thread.join()


def test_a_clock_that_runs_ahead_elsewhere_does_not_lock_the_store(made):
    made.begin().close()
    announce(made, replace(elsewhere(0.05), time=time.time() + 1e6))
    made.begin().close()


def test_a_process_that_is_gone_from_this_machine_is_succeeded_at_once(made):
    made.begin().close()
    announce(made, replace(Heartbeat.first(1e6), started="1"))  # its pid is ours, but ours started later
    made.begin().close()


def test_a_writer_shows_that_it_lives(made):
    with made.begin(heartbeat=0.02):
        first = made.writer().time
        deadline = time.monotonic() + 20
        while made.writer().time == first and time.monotonic() < deadline:
            time.sleep(0.01)
        assert made.writer().time > first


def test_what_dead_writers_left_is_swept_and_the_rest_is_kept(made, tmp_path):
    with made.begin() as term:
        kept = commit(term, ids(0, 3), ["x"])
    folder = tmp_path / "store" / made.folder
    (folder / "parts/dead-1-ab.parquet").write_bytes(b"whole but without an entry")
    (folder / "failures/dead-2-ab.parquet.tmp-12").write_bytes(b"half")
    with made.begin() as term:
        assert term.swept == {"parts/dead-1-ab.parquet": 26, "failures/dead-2-ab.parquet.tmp-12": 4}
    assert sorted(path.name for path in folder.glob("*/*.parquet*")) == [f"{kept.file}.parquet"] * 2


def commit_units(handle, units):
    for unit in units:
        handle.commit(handle.part_name(unit), rows(unit), failures([f"x{unit[0]}"]))


@pytest.mark.heavy
def test_many_processes_commit_at_once(made):
    """Each unit is asked of two processes, as when a cluster runs a task twice."""
    units = [ids(start, start + 4) for start in range(0, 80, 4)]
    with made.begin() as term, ProcessPoolExecutor(3, mp_context=get_context("spawn")) as pool:
        tasks = [pool.submit(commit_units, term.handle, part) for part in (units[:12], units[6:], units[::2])]
        for task in tasks:
            task.result()
    snapshot = made.snapshot()
    assert len(snapshot.parts) == len(units)
    assert snapshot.ids(include_failures=False).to_pylist() == ids(0, 80) and snapshot.failed == 20
    assert verify(made).problems == []
    made.begin().close()  # sweeps the files of those that came second
    assert verify(made).problems == [] and made.snapshot().rows == 80
