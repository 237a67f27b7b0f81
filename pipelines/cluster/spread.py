"""Work for CPUs, done ahead of who needs its results: by own threads first, and by tasks on nodes with free CPUs.

Results come in the order of the items. What is done ahead is bounded, and so is the object store's memory. A task is no
more than an offer: its node may die, or not see the files, or no CPU may ever be free for it. Whatever a task does not
deliver is done by the own threads, so an item fails here or nowhere, and what it fails with does not depend on where it
was tried first.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError

from feature_store import retry
from pipelines.threads import Upcoming

TASK_ITEMS = 16
"""Items of a task, at the most: some hundredths of a second of work, beside which the task's own costs are small."""
TASK_BYTES = 4 << 20
"""Of a task's results, about: fewer items where each is large."""
AHEAD_BYTES = 256 << 20
"""Results that wait for their turn, at the most. They lie in the object store of the node where they were made, and in
that of the node where they are needed."""
RETRIES = 1
"""Of a task whose node or process dies; then the own threads do its work."""
LOOK_SECONDS = 0.02
"""Between two looks whether a task has ended, while nothing else is there to be done."""
GET_SECONDS = 60
"""For a result that is there to arrive, from a node that may have died since."""


@dataclass
class Chunk:
    """Some items in work: in an own thread (``future``), or elsewhere (``task``, an ObjectRef)."""

    items: Sequence[Any]
    future: Future[list[Any]] | None = None
    task: Any = None


class Spread:
    """Called with items, gives each with its result, in order, and begins those that ``following`` gives, which are
    taken for the next call's: see ``threads.Upcoming``.

    Args:
        work: an item to its result, in this process.
        elsewhere: items to their results on another node; None for each that is to be done by ``work``. Pickled.
        pool: the own threads, ``threads`` of them.
        item_bytes: of a result, at the most.

    Attributes:
        ahead: chunks in work, at the most.
        allowed: of these elsewhere. One more for each that came in time, half as many when a task was waited for in
            vain: so tasks are about as many as there are CPUs to do them.
        given_up: tasks that nobody waits for any more, until they have ended.
        done_elsewhere, cpu: items that tasks have done, and processor seconds that these took.
    """

    def __init__(
        self,
        work: Callable[[Any], Any],
        elsewhere: Callable[[Sequence[Any]], list[Any]],
        pool: ThreadPoolExecutor,
        threads: int,
        item_bytes: int,
    ) -> None:
        self.work, self.pool, self.threads = work, pool, threads
        self.chunk_items, self.ahead = sizes(item_bytes, threads)
        self.allowed = 4
        self.window: deque[Chunk] = deque()
        self.given_up: list[Any] = []
        self.done_elsewhere, self.cpu = 0, 0.0
        self.elsewhere = ray.put(elsewhere)
        # Not where most is in use already, as Ray would by default: the more nodes read, the more networks do.
        self.task = ray.remote(num_cpus=1, max_retries=RETRIES, scheduling_strategy="SPREAD")(do_some)

    def __call__(
        self, items: Sequence[Any], following: Callable[[], Sequence[Any]] = tuple
    ) -> Iterator[tuple[Any, Any]]:
        begun = [item for chunk in self.window for item in chunk.items]
        if begun != list(items[: len(begun)]):  # others came than were expected
            self._give_up_all()
            begun = []
        upcoming = Upcoming(items[len(begun) :], following)
        left = len(items)
        try:
            while left:
                self._fill(upcoming)
                results = self._results(upcoming)
                chunk = self.window.popleft()
                left -= len(chunk.items)
                yield from zip(chunk.items, results, strict=True)
        except BaseException:  # also where the caller goes away in the middle
            self._give_up_all()
            raise

    def _fill(self, upcoming: Upcoming) -> None:
        """Begin as much as there is room for."""
        while len(self.window) < self.ahead:
            here = self._has_free_thread()
            if not here and self._count_tasks() >= self.allowed:
                return
            if not (items := upcoming.take(self.chunk_items)):
                return
            self.window.append(Chunk(items))
            if here:
                self._do_here(self.window[-1])
            else:
                self.window[-1].task = self.task.remote(self.elsewhere, items)

    def _count_tasks(self) -> int:
        """Tasks that wait or work, those that nobody waits for among them."""
        if self.given_up:
            # Their results are not fetched: nobody wants them.
            all_of_them = len(self.given_up)
            _, self.given_up = ray.wait(self.given_up, num_returns=all_of_them, timeout=0, fetch_local=False)
        return len(self.given_up) + sum(chunk.task is not None for chunk in self.window)

    def _results(self, upcoming: Upcoming) -> list[Any]:
        """Of the first chunk, once they are there. Meanwhile the own threads go on with what comes later."""
        first = self.window[0]
        while first.future is None:
            if is_ready(first, LOOK_SECONDS):
                try:
                    results, cpu = ray.get(first.task, timeout=GET_SECONDS)
                except RayError:  # its node or process has died, again and again
                    self._do_here(first)
                    self._offer_less()
                else:
                    return self._completed(first.items, results, cpu)
            else:
                self._fill(upcoming)
                self._take_back()
        return first.future.result()

    def _completed(self, items: Sequence[Any], results: list[Any], cpu: float) -> list[Any]:
        done = sum(result is not None for result in results)
        self.done_elsewhere, self.cpu = self.done_elsewhere + done, self.cpu + cpu
        if done:
            self.allowed = min(self.allowed + 1, self.ahead)
        else:
            self._offer_less()
        todo = [self.pool.submit(self.work, item) for item, one in zip(items, results, strict=True) if one is None]
        left = iter(todo)
        return [next(left).result() if one is None else one for one in results]

    def _take_back(self) -> None:
        """What tasks have not done and own threads, which have nothing else to do, can: the last ones, which are the
        least likely to have begun."""
        late = [chunk for chunk in self.window if chunk.task is not None and chunk.future is None]
        taken = False
        for chunk in reversed(late):
            if not self._has_free_thread(waiting=0):
                break
            if not is_ready(chunk, 0):
                self._do_here(chunk)
                taken = True
        if taken:
            self._offer_less()

    def _offer_less(self) -> None:
        self.allowed = max(self.allowed // 2, 1)

    def _has_free_thread(self, waiting: int = 1) -> bool:
        """Whether fewer chunks than own threads, and ``waiting`` more, are in work here."""
        busy = sum(chunk.future is not None and not chunk.future.done() for chunk in self.window)
        return busy < self.threads + waiting

    def _do_here(self, chunk: Chunk) -> None:
        self._give_up(chunk)
        chunk.future = self.pool.submit(lambda items: [self.work(item) for item in items], chunk.items)

    def _give_up_all(self) -> None:
        for chunk in self.window:
            self._give_up(chunk)
        self.window.clear()

    def _give_up(self, chunk: Chunk) -> None:
        """A task is not cancelled: it may end at that moment, and Ray then aborts this process ("Tried to complete task
        that was not pending"). Until it has ended for nothing it counts as one elsewhere."""
        if chunk.future is not None:
            chunk.future.cancel()
        elif chunk.task is not None:
            self.given_up.append(chunk.task)
            chunk.task = None


def sizes(item_bytes: int, threads: int) -> tuple[int, int]:
    """Items of a chunk, and chunks ahead."""
    items = min(max(TASK_BYTES // item_bytes, 1), TASK_ITEMS)
    return items, max(AHEAD_BYTES // (items * item_bytes), threads + 2)


def is_ready(chunk: Chunk, seconds: float) -> bool:
    """Whether the chunk's task has ended, and its results are on this node."""
    return bool(ray.wait([chunk.task], timeout=seconds)[0])


def do_some(elsewhere: Callable[[Sequence[Any]], list[Any]], items: Sequence[Any]) -> tuple[list[Any], float]:
    """A task: the results, and the processor seconds that they took."""
    begun = time.process_time()
    with retry.retrying_for(0.0):  # ill storage is asked again by the own threads, which tell the user of it
        results = elsewhere(items)
    return results, time.process_time() - begun
