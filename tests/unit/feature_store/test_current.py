"""The current set is changed by one process at a time, and never behind another's back."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest

from feature_store import Store, StoreError
from feature_store.current import CHANGE_SECONDS, Conflict, Current, announced, change_current, current_path
from feature_store.ledger import Heartbeat
from tests.worlds.feature_rows import dataset


@pytest.fixture
def two(tmp_path):
    """Two sets of one kind, of which the first is current."""
    store = Store(tmp_path / "s")
    sets = dataset(store), dataset(store, backbone="other")
    for one in sets:
        one.begin().close()
    store.use(sets[0])
    return sets


def test_a_change_that_somebody_made_meanwhile_is_not_undone(two):
    first, second = two
    path = current_path("features")
    before = first.files.read(path)
    first.store.use(second)
    with pytest.raises(Conflict, match="has just changed the current set of features"):
        change_current(first.files, Current("features", first.fingerprint, True), before)
    assert first.store.current("features").fingerprint == second.fingerprint
    assert first.files.names("current") == ["features.json"]


def test_two_at_one_moment_do_not_both_change_it(two):
    """While one has announced its change another is refused; of different kinds both may."""
    first, second = two
    with announced(first.files, "features"):
        with pytest.raises(Conflict, match="another process is changing the current set of features"):
            first.store.use(second)
        with announced(first.files, "captions"):
            pass
    first.store.use(second)
    assert first.store.current("features").fingerprint == second.fingerprint


def test_a_run_that_ends_waits_for_a_change(two, monkeypatch):
    """The other chooses a set, and the run leaves that as it is and notes its own: it reads anew what is current."""
    first, second = two
    first.store.use(first, pinned=False)
    results: list[Current] = []
    ended = threading.Thread(target=lambda: results.append(first.store.completed(second)), daemon=True)
    waits = threading.Event()
    monkeypatch.setattr("feature_store.store.time.sleep", lambda seconds: waits.set())
    with announced(first.files, "features"):
        ended.start()
        assert waits.wait(30)
        first.files.write(current_path("features"), f'{{"set": "{first.fingerprint}", "pinned": true}}'.encode())
    ended.join(30)
    assert results == [Current("features", first.fingerprint, True, completed=second.fingerprint)]


@pytest.mark.parametrize("age", [0.0, 3 * CHANGE_SECONDS + 1])
def test_an_announcement_of_a_dead_process_is_removed(two, age):
    """Of a process on this machine that is gone, and of one elsewhere that has long been silent."""
    first, second = two
    beat = replace(Heartbeat.first(CHANGE_SECONDS), started="0")  # of another process with this pid
    if age:
        beat = replace(beat, system="elsewhere", time=time.time() - age)
    first.files.write("current/features.change-00ff", beat.to_json())
    first.store.use(second)
    assert first.files.names("current") == ["features.json"]


def test_a_damaged_file_is_written_anew(two):
    first, _ = two
    first.files.write(current_path("features"), b'{"set": ')
    with pytest.raises(StoreError, match="is damaged"):
        first.store.current("features")
    assert first.store.use(first) is None
    assert first.store.current("features").fingerprint == first.fingerprint
