"""Making things before they are wanted."""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Generator
from typing import TypeVar

Item = TypeVar("Item")


def ahead(items: Generator[Item, None, None], depth: int) -> Generator[Item, None, None]:
    """``items``, made by a thread that begins at once, is at most ``depth`` ahead, and ends with the consumer."""
    made: queue.Queue = queue.Queue(depth)
    stopped = threading.Event()

    def hand_over(item) -> bool:
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
    taken = take(made, stopped, thread)
    weakref.finalize(taken, stopped.set)  # where nobody takes the first: a generator that has not begun cleans nothing
    return taken


END = object()


def take(made: queue.Queue, stopped: threading.Event, thread: threading.Thread) -> Generator[Item, None, None]:
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
