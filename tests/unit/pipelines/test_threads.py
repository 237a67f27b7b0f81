"""Work in other threads: a budget that they share, first come, first served; and callers that signals find waiting."""

import signal
import threading

import pytest

from pipelines.threads import Budget, Upcoming, interruptible


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


def test_interruptible_gives_what_its_work_gives_or_raises():
    assert interruptible(lambda: 3) == 3
    with pytest.raises(KeyError):
        interruptible(lambda: {}["a"])


def test_work_that_takes_signals_for_itself_cannot_keep_them_from_the_caller():
    """As Ray Train does: it would register a handler in the main thread, and is in another."""
    where = interruptible(threading.current_thread)
    assert where is not threading.main_thread()
    started, never, ended = threading.Event(), threading.Event(), threading.Event()

    def work():
        started.set()
        never.wait(60)
        ended.set()

    def press():
        started.wait(60)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # xdist's processes ignore it
    signal.siginterrupt(signal.SIGINT, False)  # a wait is restarted, as some libraries have it
    timer = threading.Thread(target=press)
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            interruptible(work)
        assert not ended.is_set(), "it waited for the end of the work"
    finally:
        signal.signal(signal.SIGINT, before)
        never.set()
        timer.join()


def test_the_next_items_follow_once_they_are_known_and_the_present_ones_begun():
    known = [[], ["d", "e"], ["never"]]
    upcoming = Upcoming(["a", "b", "c"], lambda: known.pop(0))
    assert upcoming.take(2) == ["a", "b"]
    assert upcoming.take(2) == ["c"], "not the present and the next together"
    assert upcoming.take(2) == []
    assert upcoming.take(1) == ["d"]
    assert upcoming.take(5) == ["e"]
    assert upcoming.take(5) == [] and known == [["never"]], "asked until there were some"
