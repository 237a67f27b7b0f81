"""Work here and elsewhere, with tasks of which each test says what becomes of them. tests/integration/test_decoding.py
has tasks of Ray."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from types import SimpleNamespace

import pytest
from ray.exceptions import NodeDiedError

from pipelines.cluster import spread
from pipelines.cluster.spread import Spread

ITEM_BYTES = spread.TASK_BYTES // 4
"""So that a chunk has four items."""


class Tasks:
    """What ``spread`` knows of Ray. ``end`` gives a task's result, or raises; a task without an end never comes."""

    def __init__(self, end) -> None:
        self.end, self.begun, self.fetched, self.some_begun = end, [], set(), threading.Event()
        self.put = lambda value: value

    def remote(self, **options):
        return lambda function: SimpleNamespace(remote=self.begin)

    def begin(self, elsewhere, items):
        self.begun.append(items)
        self.some_begun.set()
        return len(self.begun) - 1

    def wait(self, tasks, timeout, num_returns=1, fetch_local=True):
        if tasks and fetch_local:
            self.fetched.update(tasks)
        return (tasks, []) if self.end else ([], tasks)

    def get(self, task, timeout):
        return self.end(self.begun[task]), 0.5


@pytest.fixture
def spread_with(monkeypatch):
    """Makes a ``Spread`` of one own thread, which squares once a task has begun, beside tasks that end so."""
    with ThreadPoolExecutor(1) as pool:

        def make(end):
            tasks = Tasks(end)

            def square(item):
                assert tasks.some_begun.wait(60)
                return item**2

            monkeypatch.setattr(spread, "ray", tasks)
            return Spread(square, None, pool, 1, ITEM_BYTES), tasks

        yield make


SQUARES = [(item, item**2) for item in range(50)]


def test_results_come_in_order_from_here_and_from_elsewhere(spread_with):
    squares, tasks = spread_with(lambda items: [item**2 for item in items])
    assert list(squares(range(50))) == SQUARES
    elsewhere = [item for items in tasks.begun for item in items]
    assert 0 < len(elsewhere) < 50, "the own thread works, too"
    assert elsewhere[0] == 8, "and it has the first two chunks"
    assert (squares.done_elsewhere, squares.cpu) == (len(elsewhere), 0.5 * len(tasks.begun))
    assert squares.allowed == 4 + len(tasks.begun)


def test_tasks_for_which_no_cpu_is_free_are_taken_back_and_no_more_are_begun_before_they_end(spread_with):
    squares, tasks = spread_with(None)
    assert list(squares(range(50))) == SQUARES
    assert sorted(squares.given_up) == list(range(len(tasks.begun))) and 0 < len(tasks.begun) <= 4
    assert (squares.done_elsewhere, squares.allowed) == (0, 1)
    tasks.end = lambda items: [item**2 for item in items]
    assert list(squares(range(50))) == SQUARES
    assert squares.given_up == [] and squares.done_elsewhere > 0


def test_what_dies_with_its_node_is_done_here(spread_with):
    def die(items):
        raise NodeDiedError("gone")

    squares, tasks = spread_with(die)
    assert list(squares(range(50))) == SQUARES
    assert tasks.begun and squares.done_elsewhere == 0
    assert squares.allowed == 1, "and a cluster whose tasks die is asked less"


def test_an_item_that_fails_elsewhere_is_tried_here(spread_with):
    squares, tasks = spread_with(lambda items: [None if item % 3 else item**2 for item in items])
    assert list(squares(range(50))) == SQUARES
    assert squares.done_elsewhere == sum(item % 3 == 0 for items in tasks.begun for item in items)


def test_a_node_that_does_not_see_the_files_is_asked_less(spread_with):
    squares, _ = spread_with(lambda items: [None] * len(items))
    assert list(squares(range(50))) == SQUARES
    assert squares.allowed == 1


def test_no_more_is_in_work_than_memory_is_there_for(spread_with):
    squares, _ = spread_with(lambda items: [item**2 for item in items])
    squares.ahead, squares.allowed = 5, 100
    given = squares(range(1000))
    next(given)
    assert sum(len(chunk.items) for chunk in squares.window) == 4 * 4
    list(islice(given, 7))
    assert sum(len(chunk.items) for chunk in squares.window) == 4 * 4


def test_who_goes_away_waits_for_no_task(spread_with):
    squares, tasks = spread_with(lambda items: [item**2 for item in items])
    given = squares(range(50))
    next(given)
    given.close()
    assert squares.given_up == list(range(len(tasks.begun))) and not squares.window


def test_results_that_nobody_wants_any_more_are_not_fetched(spread_with):
    squares, tasks = spread_with(lambda items: [item**2 for item in items])
    given = squares(range(50))
    next(given)
    given.close()
    unwanted = set(squares.given_up)
    assert unwanted
    tasks.fetched.clear()
    assert list(squares(range(50))) == SQUARES
    assert squares.given_up == [] and tasks.fetched and not tasks.fetched & unwanted


def test_where_the_items_end_the_next_ones_are_begun_and_used_by_the_next_call(spread_with):
    squares, tasks = spread_with(lambda items: [item**2 for item in items])
    assert list(squares(range(50), lambda: range(50, 90))) == SQUARES
    begun = [item for chunk in squares.window for item in chunk.items]
    assert begun and begun == list(range(50, 50 + len(begun)))
    count = len(tasks.begun)
    assert list(squares(range(50, 90))) == [(item, item**2) for item in range(50, 90)]
    assert not squares.window
    again = [item for items in tasks.begun[count:] for item in items]
    assert not set(again) & set(begun) and squares.given_up == []


def test_what_was_begun_is_given_up_where_others_are_asked_for(spread_with):
    squares, _ = spread_with(lambda items: [item**2 for item in items])
    list(squares(range(50), lambda: range(50, 90)))
    assert any(chunk.task is not None for chunk in squares.window)
    assert list(squares(range(30))) == SQUARES[:30]
    assert not squares.window


@pytest.mark.parametrize(("item_bytes", "chunk_items"), [(800 * 1333 * 3, 1), (224 * 224 * 3, 16)])
def test_large_results_make_small_tasks_and_few_ahead(item_bytes, chunk_items):
    chunk, ahead = spread.sizes(item_bytes, 32)
    assert chunk == chunk_items
    assert spread.AHEAD_BYTES / 2 < ahead * chunk * item_bytes <= spread.AHEAD_BYTES
