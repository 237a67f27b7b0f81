"""Inputs from the driver's listing to Ray Data while the listing goes on.

A thread of the driver puts chunks into the object store, at most ``LOOK_AHEAD`` ahead of the work; a read task on the
driver's node takes them from a queue and cuts them into units. The driver holds no more than a chunk.

That task cannot simply be done again where it dies: it would find other chunks in the queue than the first time, and
Ray Data would take the end of the second attempt for the end of the data. The second attempt therefore gives nothing;
the driver keeps references to the chunks that have a unit left to do, and hands those out again, to a new task.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.data.block import BlockMetadata
from ray.exceptions import RayActorError
from ray.util.queue import Full, Queue

from pipelines.engine.work import Unit, count, count_units, cut, merge

BEGIN = "begin"
LOOK_AHEAD = 64
"""Chunks: a million inputs, of which the total is known soon; 100 MB of the object store, at the most."""


Item = tuple[int, ray.ObjectRef]
"""The number of a chunk's first unit, and the chunk."""


class Feed:
    """A context manager; a failure of the listing is in ``error``, to be looked at while units come back.

    Args:
        chunks: of inputs, or whole units.
        rows: of a unit.

    Attributes:
        total: number of inputs, None until the listing has ended.
    """

    def __init__(self, chunks: Iterable[pa.Table | Unit], rows: int) -> None:
        self.rows = rows
        self.total: int | None = None
        self.error: Exception | None = None
        # Without a CPU, which the workers may have taken; and here, so that no unit is lost with another node.
        here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
        self.place = {"num_cpus": 0, "label_selector": here}
        self._left: dict[int, Item] = {}
        self._new = self._number(merge(chunks, rows))

    def __enter__(self) -> Feed:
        self._start()
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        self._thread.join(timeout=10)  # a listing that hangs must not keep the verb from ending
        self.queue.shutdown(force=True)

    def dataset(self) -> ray.data.Dataset:
        """The units, packed, a block each, with their ``number``."""
        context = ray.data.DataContext.get_current()
        context.target_max_block_size = 1  # byte: a row is a block
        return ray.data.read_datasource(Units(self.queue, self.rows), override_num_blocks=1, **self.place)

    @property
    def done(self) -> bool:
        """Whether all is listed, and each unit finished."""
        return self.total is not None and not self._left

    def finish(self, number: int) -> bool:
        """Take note that a unit is done; False if that is known, because it was handed out again."""
        return self._left.pop(number, None) is not None

    def restart(self) -> None:
        """Begin anew, with all chunks that have a unit left; ``dataset`` gives them and what is still to be listed."""
        self._stop.set()
        self._thread.join()
        self.queue.shutdown(force=True)
        self._start()

    def _start(self) -> None:
        self.queue = Queue(LOOK_AHEAD, actor_options=self.place)
        self.queue.put(BEGIN)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._list, name="listing", daemon=True)
        self._thread.start()

    def _number(self, chunks: Iterator[pa.Table | Unit]) -> Iterator[Item]:
        """Chunks in the object store; ``_left`` has all of their units."""
        first = total = 0
        try:
            for chunk in chunks:
                item = (first, ray.put(chunk))
                units = count_units(chunk, self.rows)
                self._left.update(dict.fromkeys(range(first, first + units), item))
                first, total = first + units, total + count(chunk)
                yield item
            self.total = total
        except Exception as error:  # the thread of the verb raises it
            self.error = error

    def _list(self) -> None:
        try:
            self._hand_out()
        except Exception as error:
            if self._stop.is_set():
                return
            if not isinstance(error, RayActorError):  # of the queue, after which all begins anew
                self.error = error
            actor: Any = self.queue.actor
            ray.kill(actor)  # which the read task would wait for

    def _hand_out(self) -> None:
        for item in chain(list(dict.fromkeys(self._left.values())), self._new):
            self._put(item)
            if self._stop.is_set():
                return
        # Again and again: a task that was killed may have taken the one before it to its grave.
        while not self._stop.is_set():
            if self.queue.empty():
                self._put(None)
            self._stop.wait(1)

    def _put(self, item: Item | None) -> None:
        while not self._stop.is_set():
            try:
                return self.queue.put(item, timeout=1)
            except Full:
                continue


class Units(ray.data.Datasource):
    """One read task that empties the queue."""

    def __init__(self, queue: Queue, rows: int) -> None:
        super().__init__()
        self.queue, self.rows = queue, rows

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(self, parallelism: int, per_task_row_limit=None, data_context=None) -> list[ray.data.ReadTask]:
        unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ray.data.ReadTask(partial(drain, self.queue, self.rows), unknown, schema=None)]


def drain(queue: Queue, rows: int) -> Iterator[pa.Table]:
    with suppress(RayActorError):  # of the queue, dead or away: ends like the death of this task
        if queue.get() != BEGIN:
            return
        while (item := queue.get()) is not None:
            first, chunk = item[0], ray.get(item[1])
            units = [chunk] if isinstance(chunk, Unit) else cut(chunk, rows)
            for number, unit in enumerate(units, first):
                yield unit.pack().append_column("number", pa.array([number], pa.int64()))
