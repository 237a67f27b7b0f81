"""How much the threads of a process hold at the same time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition


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
