"""Inputs from the driver's listing to Ray Data while the listing goes on.

A thread of the driver puts chunks into the object store, at most ``LOOK_AHEAD`` ahead of the work; a read task on the
driver's node takes them from a queue and cuts them into units. The driver holds no more than a chunk.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial

import pyarrow as pa
import ray
import ray.data
from ray.data.block import BlockMetadata
from ray.util.queue import Full, Queue

from pipelines.console import UserError
from pipelines.unit import Unit, count, cut, merge

BEGIN = "begin"
LOOK_AHEAD = 64
"""Chunks: a million inputs, of which the total is known soon; 100 MB of the object store, at the most."""


class Feed:
    """A context manager; a failure of the listing is in ``error``, to be looked at while units come back.

    Args:
        chunks: of inputs, or whole units.
        rows: of a unit.

    Attributes:
        total: number of inputs, None until the listing has ended.
    """

    def __init__(self, chunks: Iterable[pa.Table | Unit], rows: int) -> None:
        self.chunks, self.rows = chunks, rows
        self.total: int | None = None
        self.error: Exception | None = None
        # Without a CPU, which the workers may have taken; and here, so that no unit is lost with another node.
        here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
        self.place = {"num_cpus": 0, "label_selector": here}
        self.queue = Queue(LOOK_AHEAD, actor_options=self.place)
        self.queue.put(BEGIN)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._list, name="listing", daemon=True)

    def __enter__(self) -> Feed:
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        self._thread.join(timeout=10)  # a listing that hangs must not keep the verb from ending
        self.queue.shutdown(force=True)

    def dataset(self) -> ray.data.Dataset:
        """The units, packed, a block each."""
        context = ray.data.DataContext.get_current()
        context.target_max_block_size = 1  # byte: a row is a block
        return ray.data.read_datasource(Units(self.queue, self.rows), override_num_blocks=1, **self.place)

    def _list(self) -> None:
        total = 0
        try:
            for chunk in merge(self.chunks, self.rows):
                total += count(chunk)
                self._put([ray.put(chunk)])
                if self._stop.is_set():
                    return
            self.total = total
        except Exception as error:  # the thread of the verb raises it
            self.error = error
        finally:
            with suppress(Exception):  # without a queue the read task ends, too
                self._put(None)

    def _put(self, item: list[ray.ObjectRef] | None) -> None:
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
    if queue.get() != BEGIN:
        # Done again it finds other units in the queue than the first time, and some inputs would be in two.
        raise UserError("The task that hands out the work has died. Run the same command again to go on.")
    while (item := queue.get()) is not None:
        (chunk,) = ray.get(item)
        yield from (unit.pack() for unit in ([chunk] if isinstance(chunk, Unit) else cut(chunk, rows)))
    queue.put(None)
