"""What is done of units that are not finished yet."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pipelines.console import Progress
from pipelines.engine import counter, within
from pipelines.engine.counter import UnitCounter
from pipelines.engine.isolation import Attempts
from pipelines.engine.within import UnitWatch


class Remote:
    """An actor in this process: what its methods give at once."""

    def __init__(self, actor: Attempts) -> None:
        self.actor = actor

    def __getattr__(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(remote=getattr(self.actor, name))


@pytest.fixture
def attempts(monkeypatch):
    monkeypatch.setattr(counter, "TELL_SECONDS", 0)
    monkeypatch.setattr(within.ray, "get", lambda value, timeout=None: value)
    return Attempts()


def counter_of(attempts: Attempts, number: int) -> UnitCounter:
    attempts.begin(number)
    own = UnitCounter()
    own.begin(Remote(attempts), number)
    return own


def test_units_are_counted_until_their_reports_have_arrived(attempts):
    attempts.greet()
    assert attempts.describe() == (1, False, {})
    one, two = counter_of(attempts, 1), counter_of(attempts, 2)
    one.add(8)
    two.add(8)
    one.add(8)
    assert attempts.describe() == (1, True, {1: 16, 2: 8})
    attempts.end(1)
    one.add(8)  # a late message of a unit that has ended
    assert attempts.describe() == (1, True, {1: 16, 2: 8})
    assert attempts.describe([1]) == (1, True, {2: 8})
    attempts.begin(2)
    assert attempts.describe() == (1, True, {}), "its process died, and it is done again from the start"


def test_the_user_sees_phases_and_what_is_within(attempts):
    progress = Progress("caption", "images", 100)
    with progress:
        metered = []
        meter = SimpleNamespace(within=metered.append)
        with UnitWatch(progress, Remote(attempts), 2, meter) as watch:
            assert progress.now == "starting 2 workers"
            attempts.greet()
            watch.look()
            assert progress.now == "workers are loading"
            counter_of(attempts, 7).add(30)
            watch.look()
            assert (progress.now, progress.inside, progress.done) == ("first units", 30, 0)
            assert metered[-1] == 30
        progress.advance(40)
        assert (progress.now, progress.inside, progress.done) == ("", 0, 40)


def test_what_the_user_sees_never_falls_while_a_unit_is_reported(attempts):
    """A unit ends in its worker before its report has come to the driver, which may take seconds."""
    progress = Progress("features", "images", 100)
    with progress, UnitWatch(progress, Remote(attempts), 2, SimpleNamespace(within=lambda _: None)) as watch:
        attempts.greet()
        one, two = counter_of(attempts, 1), counter_of(attempts, 2)
        seen = []

        def look():
            watch.look()
            seen.append(progress.done + progress.inside)

        one.add(32)
        two.add(8)
        look()
        attempts.end(1)
        look()
        watch.finish(1, 32, 0, 1.0)
        look()
        two.add(8)
        look()
    assert seen == [40, 40, 40, 48]
    assert attempts.within == {2: 16}, "what has been counted is forgotten"
