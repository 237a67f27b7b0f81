"""What a worker says of the unit in work."""

from __future__ import annotations

from types import SimpleNamespace

from pipelines.engine import counter
from pipelines.engine.counter import UnitCounter


def test_a_worker_outside_the_engine_tells_nobody():
    own = UnitCounter()
    own.add(5)
    assert own.done == 5


def test_a_worker_tells_what_is_done_no_more_often_than_it_should(monkeypatch):
    told, now = [], [100.0]
    monkeypatch.setattr(counter.time, "monotonic", lambda: now[0])
    attempts = SimpleNamespace(note=SimpleNamespace(remote=lambda *note: told.append(note)))
    own = UnitCounter()
    own.begin(attempts, 3)
    own.add(8)
    assert told == []
    now[0] += counter.TELL_SECONDS
    own.add(8)
    own.add(8)
    assert told == [(3, 16)]


def test_a_unit_begins_with_nothing_done_and_nothing_to_remark():
    own = UnitCounter()
    own.add(8)
    own.remark("decode", "elsewhere")
    own.done_elsewhere, own.cpu_elsewhere = 7, 2.0
    own.begin(None, 4)
    assert (own.done, own.remarks, own.done_elsewhere, own.cpu_elsewhere) == (0, {}, 0, 0.0)


def test_the_unit_that_waits_longest_follows_unless_this_one_must_be_alone():
    own = UnitCounter()
    own.waiting |= {4: "fourth", 5: "fifth", 6: "sixth"}
    own.begin(None, 4)
    assert own.following() == "fifth"
    own.alone = True
    assert own.following() is None
    own.begin(None, 5)
    own.begin(None, 6)
    assert own.following() is None and own.waiting == {}
