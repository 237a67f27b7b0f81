"""A budget that threads share: first come, first served, and nothing is lost by who gives up."""

import threading

import pytest

from pipelines.threads import Budget


def test_what_is_large_does_not_wait_for_as_long_as_small_ones_come():
    budget, order = Budget(10), []
    held = budget.take(6)
    held.__enter__()

    def ask(amount):
        with budget.take(amount):
            order.append(amount)

    threads = []
    for place, amount in enumerate((10, 1, 2)):  # 1 and 2 would fit now
        threads.append(threading.Thread(target=ask, args=[amount], daemon=True))
        threads[-1].start()
        while len(budget.waiting) <= place:
            pass
    assert order == []
    held.__exit__(None, None, None)
    for thread in threads:
        thread.join(30)
    assert order[0] == 10 and sorted(order) == [1, 2, 10]
    assert budget.free == 10 and not budget.waiting


def test_an_interrupted_wait_holds_up_nobody(monkeypatch):
    budget = Budget(10)

    def interrupt(predicate):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(budget.changed, "wait_for", interrupt)
        with pytest.raises(KeyboardInterrupt), budget.take(10):
            pass
    assert budget.free == 10 and not budget.waiting
