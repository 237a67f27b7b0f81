"""Work in other threads: made before it is wanted, within a budget, or so that signals find the caller waiting."""

from __future__ import annotations

import queue
import threading
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from threading import Condition
from typing import Any, TypeVar

Item = TypeVar("Item")
Done = TypeVar("Done")
WAKE_SECONDS = 0.5


def interruptible(work: Callable[[], Done]) -> Done:
    """Return what ``work`` returns, done by another thread.

    What takes signals for itself, as Ray Train does with Ctrl-C, can do so in the main thread only. That waits here,
    and gets its KeyboardInterrupt at once.
    """
    done = in_background(work)
    # Again and again, because a library's C code may have had SIGINT restart a wait that it would have ended: Arrow's
    # does, once it has read a file in the main thread.
    while not wait([done], WAKE_SECONDS).done:
        pass
    return done.result()


def in_background(work: Callable[[], Done]) -> Future[Done]:
    """What ``work`` will give, done by a thread that the process does not wait for at its end, as it would for one of a
    pool."""
    done: Future[Done] = Future()

    def attempt() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # whoever asks for the result raises it
            done.set_exception(error)

    threading.Thread(target=attempt, name="in_background", daemon=True).start()
    return done


def ahead(items: Generator[Item, None, None], depth: int) -> Generator[Item, None, None]:
    """``items``, made by a thread that begins at once, is at most ``depth`` ahead, and ends with the consumer."""
    made: queue.Queue[Any] = queue.Queue(depth)
    stopped = threading.Event()

    def hand_over(item: Any) -> bool:
        while not stopped.is_set():
            try:
                made.put(item, timeout=0.1)
                return True
            except queue.Full:
                pass
        return False

    def make() -> None:
        try:
            for item in items:
                if not hand_over((item, None)):
                    break
            hand_over((END, None))
        except BaseException as error:  # the consumer raises it
            hand_over((END, error))
        finally:
            items.close()

    thread = threading.Thread(target=make, name="ahead", daemon=True)
    thread.start()
    taken: Generator[Item, None, None] = take(made, stopped, thread)
    weakref.finalize(taken, stopped.set)  # where nobody takes the first: a generator that has not begun cleans nothing
    return taken


END = object()


def take(made: queue.Queue[Any], stopped: threading.Event, thread: threading.Thread) -> Generator[Item, None, None]:
    try:
        while True:
            item, error = made.get()
            if error is not None:
                raise error
            if item is END:
                return
            yield item
    finally:
        stopped.set()
        thread.join()


class Budget:
    """``total`` to be shared by threads, which get their parts in the order in which they ask: what is large would
    otherwise wait for as long as something small comes along."""

    def __init__(self, total: int) -> None:
        self.total, self.free = total, total
        self.waiting: deque[object] = deque()
        self.changed = Condition()

    @contextmanager
    def take(self, amount: int) -> Iterator[None]:
        """Wait until ``amount`` is free, and hold it during the block; more than the total is all of it."""
        amount, ticket = min(amount, self.total), object()
        with self.changed:
            self.waiting.append(ticket)
            try:
                self.changed.wait_for(lambda: self.waiting[0] is ticket and self.free >= amount)
                self.free -= amount
            finally:  # also where the wait is interrupted
                self.waiting.remove(ticket)
                self.changed.notify_all()
        try:
            yield
        finally:
            with self.changed:
                self.free += amount
                self.changed.notify_all()


class Upcoming:
    """Items to begin ahead of who wants them: the present ones, and once these are all begun the next ones, too.

    Args:
        following: gives the next ones; none as long as they are not known.
    """

    def __init__(self, items: Sequence[Any], following: Callable[[], Sequence[Any]] = tuple) -> None:
        self.items, self.following, self.asks = deque(items), following, True

    def take(self, count: int) -> list[Any]:
        """At most ``count``, all of them present ones or all of them next ones."""
        if not self.items and self.asks:
            self.items.extend(self.following())
            self.asks = not self.items
        return [self.items.popleft() for _ in range(min(count, len(self.items)))]
