"""Whether the driver of a batch verb grows with the listing: its peak memory for growing numbers of generated inputs.

    python benchmarks/listing_memory.py [--rows 10000 100000 1000000] [--out benchmarks/results]

The inputs are listed, put against an empty set, streamed through Ray Data to actors that do nothing but name them,
and committed. Every size has a driver and a Ray of its own. ``driver_mb`` is the driver's peak resident memory without
what it shares with the object store, ``after_start_mb`` the same once Ray has started. ``first_unit_s`` is from the
beginning of the run to the first unit's.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow as pa
from record import save

SIZE = 16_384


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--out", type=Path, help="folder for the result as JSON")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.rows[0])))
        return
    results = []
    for rows in arguments.rows:
        command = [sys.executable, __file__, "--one", "--rows", str(rows)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        results.append(json.loads(done.stdout.splitlines()[-1]))
        print(results[-1])
    if arguments.out:
        print(save(arguments.out, __doc__, arguments, results))


def measure(rows: int) -> dict[str, float]:
    import ray

    from feature_store import Store
    from pipelines.cluster import connection
    from pipelines.console import Progress
    from pipelines.engine import driver

    schema = pa.schema([pa.field("image_id", pa.string(), nullable=False), pa.field("uri", pa.string())])
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # Ray's workers cannot import it
    with tempfile.TemporaryDirectory() as folder, connection.connect("local", cpus=2):
        dataset = Store(folder).dataset("names", {}, schema)
        with Peak() as peak:
            before, begun = peak.now(), time.time()
            progress = Progress("names", "inputs", None)
            totals = driver.run(dataset, listing(rows), lambda plan: Names, progress, 50)
        assert totals.rows == dataset.snapshot().rows == rows
    return {
        "rows": rows, "units": totals.units, "driver_mb": peak.mb, "after_start_mb": before,
        "first_unit_s": totals.begun - begun, "seconds": totals.seconds,
    }  # fmt: skip


class Names:
    """Does nothing."""

    def process(self, unit: pa.Table) -> tuple[pa.Table, pa.Table]:
        from feature_store import failure_schema

        return unit.select(["image_id", "uri"]), failure_schema().empty_table()


def listing(rows: int) -> Iterator[pa.Table]:
    from pipelines.inputs.listing_formats import SCHEMA

    for start in range(0, rows, SIZE):
        ids = [f"train2014/{number:012d}.jpg" for number in range(start, min(start + SIZE, rows))]
        uris = [f"s3://bucket/photos/{id_}" for id_ in ids]
        yield pa.table([ids, uris, [f"1-{id_}" for id_ in ids], [None] * len(ids)], schema=SCHEMA)


class Peak:
    """The peak of this process's own memory, looked at often."""

    def __enter__(self) -> Peak:
        self.mb, self.ended, self.process = 0.0, threading.Event(), psutil.Process()
        self.thread = threading.Thread(target=self._look, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.ended.set()
        self.thread.join()

    def now(self) -> float:
        found = self.process.memory_info()
        return (found.rss - found.shared) / 2**20

    def _look(self) -> None:
        while not self.ended.wait(0.05):
            self.mb = max(self.mb, self.now())


if __name__ == "__main__":
    main()
