"""How long a resume takes to know what is left to do, and in how much memory, by size of the set and of the listing.

    python benchmarks/store_resume.py [--rows 10000 100000 1000000] [--part-rows 1000] [--out benchmarks/results]

Rows are generated, with an id, a version and little else: a resume reads no other column. ``entries`` is the ledger as
a killed run leaves it, one file a part; ``base`` is the same after the next writer has begun and gathered them.
``index_s`` reads the ids that are there, ``listing_s`` puts as many listed inputs against them, of which one in a
thousand is new and one has changed. ``resume_cpu_s`` is processor time, which other work on the machine disturbs less.
Every size has a process of its own; ``growth_mb`` is its peak memory beyond that after importing.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from record import peak_mb, save, seconds

from feature_store import Dataset, Store
from pipelines.engine.resume import Pending
from pipelines.engine.summary import RunSummary
from pipelines.inputs.listing_formats import SCHEMA as LISTED

SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("version", pa.string()),
    ]
)
CHUNK_ROWS = 16_384
NEW = 1000
"""Every so many-th listed input has no row."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--part-rows", type=int, default=1000)
    parser.add_argument("--out", type=Path, help="folder for the result as JSON")
    parser.add_argument("--resume", help=argparse.SUPPRESS)  # a process of its own: folder of a store, number of rows
    arguments = parser.parse_args()
    if arguments.resume:
        print(json.dumps(resume(arguments.resume, arguments.rows[0])))
        return
    results = [measure(rows, arguments.part_rows) for rows in arguments.rows]
    print("".join(f"{name:>18}" for name in results[0]))
    for result in results:
        print("".join(f"{value:>18,.6g}" for value in result.values()))
    if arguments.out:
        print(save(arguments.out, __doc__, arguments, results))


def measure(rows: int, part_rows: int) -> dict[str, float]:
    folder = tempfile.mkdtemp()
    try:
        made = dataset_at(folder)
        term = made.begin()
        commit_s = seconds(lambda: fill(term, rows, part_rows))
        entries_s = seconds(made.snapshot)
        term.close()
        begin_s = seconds(lambda: made.begin().close())
        ledger_kb = made.files.size(made.ledger.path(made.ledger.terms()[-1], "base.parquet")) / 1024
        command = [sys.executable, __file__, "--resume", folder, "--rows", str(rows)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        return {
            "rows": rows, "parts": -(-rows // part_rows), "commit_ms_per_part": 1000 * commit_s * part_rows / rows,
            "open_entries_s": entries_s, "begin_s": begin_s, "ledger_kb": ledger_kb, **found,
        }  # fmt: skip
    finally:
        shutil.rmtree(folder)


def resume(folder: str, rows: int) -> dict[str, float]:
    before, cpu = peak_mb(), time.process_time()
    totals, start = RunSummary(), time.perf_counter()
    snapshot = dataset_at(folder).snapshot()
    open_s, start = time.perf_counter() - start, time.perf_counter()
    pending = Pending(snapshot, totals)
    index_s = time.perf_counter() - start
    left = sum(chunk.num_rows for chunk in pending.chunks(listing(rows)))
    listing_s = time.perf_counter() - start - index_s
    assert (totals.listed, left, totals.changed) == (rows, -(-rows // NEW), 1)
    return {
        "open_base_s": open_s, "index_s": index_s, "listing_s": listing_s, "resume_s": open_s + index_s + listing_s,
        "resume_cpu_s": time.process_time() - cpu, "peak_mb": peak_mb(), "growth_mb": peak_mb() - before,
    }  # fmt: skip


def dataset_at(folder: str) -> Dataset:
    return Store(folder).dataset("lines", {}, SCHEMA)


def fill(term, rows: int, part_rows: int) -> None:
    for start in range(0, rows, part_rows):
        ids = [name_of(number) for number in range(start, min(start + part_rows, rows)) if number % NEW]
        table = pa.table([ids, ids, [f"1-{id_}" for id_ in ids]], schema=SCHEMA)
        term.handle.commit(term.handle.part_name(ids), table)


def listing(rows: int) -> Iterator[pa.Table]:
    for start in range(0, rows, CHUNK_ROWS):
        ids = [name_of(number) for number in range(start, min(start + CHUNK_ROWS, rows))]
        versions = [f"2-{id_}" if id_ == name_of(1) else f"1-{id_}" for id_ in ids]
        yield pa.table([ids, ids, versions, [None] * len(ids)], schema=LISTED)


def name_of(number: int) -> str:
    return f"train2014/{number:012d}.jpg"


if __name__ == "__main__":
    main()
