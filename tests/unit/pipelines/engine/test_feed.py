"""A queue that fails between the listing and the task that hands out the work: the run goes on or ends."""

import threading
from functools import partial
from types import SimpleNamespace

import pytest
from ray.exceptions import ActorUnavailableError

from feature_store import verify
from pipelines.engine.feed import BEGIN, drain
from tests.unit.pipelines.engine.test_driver import Pids, chunk, dataset_at, run
from tests.worlds.engine import Queue

SOON = 240
"""Seconds in which even a machine with other work begins anew."""


@pytest.fixture
def failing_once(monkeypatch):
    """What lets the queue fail with an error when it is given the second chunk. A run that waits for a queue that is
    full or empty would do so for ever; after ``SOON`` seconds it goes on, and the test fails."""
    put, timers, late = Queue.put, [], []

    def end(queue) -> None:
        late.append(queue)
        queue.shutdown(True)

    def patch(error: Exception) -> None:
        errors = [None, error]

        def failing(queue, item, *given, **named):
            if item not in (BEGIN, None) and errors and (found := errors.pop(0)):
                timers.append(threading.Timer(SOON, end, [queue]))
                timers[0].start()
                raise found
            return put(queue, item, *given, **named)

        monkeypatch.setattr(Queue, "put", failing)

    yield patch
    timers[0].cancel()
    assert not late


def test_a_queue_that_is_away_for_a_moment(without_ray, tmp_path, failing_once):
    failing_once(ActorUnavailableError("away", None))
    dataset = dataset_at(tmp_path)
    summary = run(dataset, [chunk(*"abc"), chunk(*"def"), chunk("g")], partial(Pids, str(tmp_path)))
    assert (summary.listed, summary.rows) == (7, 7)
    assert sorted(dataset.snapshot().ids().to_pylist()) == list("abcdefg")
    assert verify(dataset).problems == []


def test_what_nobody_foresaw_ends_the_run(without_ray, tmp_path, failing_once):
    failing_once(ZeroDivisionError("of the queue"))
    with pytest.raises(ZeroDivisionError, match="of the queue"):
        run(dataset_at(tmp_path), [chunk(*"abc"), chunk(*"def")], partial(Pids, str(tmp_path)))


def test_the_task_that_hands_out_the_work_ends_with_its_queue():
    def away():
        raise ActorUnavailableError("away", None)

    assert list(drain(SimpleNamespace(get=away), 2)) == []
