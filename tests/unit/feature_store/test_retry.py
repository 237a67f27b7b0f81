"""Requests made again while storage is ill, with pauses that grow and differ."""

import random

import pytest

from feature_store import retry
from feature_store.errors import StorageFault
from feature_store.retry import retried

SLOW = OSError("AWS Error SLOW_DOWN during GetObject operation")


class Flaky:
    def __init__(self, *errors):
        self.errors, self.calls = list(errors), 0

    def __call__(self):
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def test_a_throttled_request_is_made_again_until_it_succeeds():
    random.seed(7)
    pauses, flaky, before = [], Flaky(SLOW, StorageFault("away"), ConnectionResetError(104, "reset"), SLOW), 0
    before = retry.RETRIES.total
    assert retried(flaky, seconds=1e9, sleep=pauses.append) == "done"
    assert (flaky.calls, retry.RETRIES.total - before) == (5, 4)
    bounds = [0.2, 0.4, 0.8, 1.6]
    assert all(0 <= pause <= bound for pause, bound in zip(pauses, bounds, strict=True))
    assert len(set(pauses)) == 4


def test_pauses_have_a_bound():
    pauses = []
    retried(Flaky(*[SLOW] * 40), seconds=1e9, sleep=pauses.append)
    assert 5 < max(pauses) <= retry.LONGEST_PAUSE


@pytest.mark.parametrize("error", [FileNotFoundError("gone"), OSError("AWS Error ACCESS_DENIED"), ValueError("x")])
def test_what_no_other_attempt_helps_is_raised_at_once(error):
    flaky = Flaky(error)
    with pytest.raises(type(error)):
        retried(flaky, seconds=1e9, sleep=lambda pause: None)
    assert flaky.calls == 1


def test_the_last_error_is_raised_when_the_time_is_over(monkeypatch):
    now = 0.0

    def sleep(pause):
        nonlocal now
        now += pause

    monkeypatch.setattr(retry.time, "monotonic", lambda: now)
    flaky = Flaky(*[SLOW] * 1000)
    with pytest.raises(OSError, match="SLOW_DOWN"):
        retried(flaky, seconds=30, sleep=sleep)
    assert now <= 30 and flaky.calls > 5


def test_a_budget_holds_where_it_is_set_and_no_longer():
    before = retry.SECONDS
    with pytest.raises(KeyError), retry.retrying_for(before + 1):
        assert before + 1 == retry.SECONDS
        raise KeyError
    assert before == retry.SECONDS
