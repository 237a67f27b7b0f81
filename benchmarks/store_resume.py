"""How long a resume takes to know what is done: opening a snapshot and loading its ids, by size of the set.

    python benchmarks/store_resume.py [--rows 10000 100000 1000000] [--part-rows 1000] [--out benchmarks/results]

Rows are generated, with an id and little else: a resume reads no other column. ``entries`` is the ledger as a killed
run leaves it, one file per part; ``base`` is the same after the next writer has begun and gathered them.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import tempfile
from pathlib import Path

import pyarrow as pa
from record import save, seconds

from feature_store import Dataset, Store

SCHEMA = pa.schema([pa.field("image_id", pa.string(), nullable=False), pa.field("uri", pa.string(), nullable=False)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--part-rows", type=int, default=1000)
    parser.add_argument("--out", type=Path, help="folder for the result as JSON")
    arguments = parser.parse_args()
    results = [measure(rows, arguments.part_rows) for rows in arguments.rows]
    names = list(results[0])
    print("".join(f"{name:>18}" for name in names))
    for result in results:
        print("".join(f"{result[name]:>18,.6g}" for name in names))
    if arguments.out:
        print(save(arguments.out, __doc__, arguments, results))


def measure(rows: int, part_rows: int) -> dict[str, float]:
    """Seconds of each step; ``peak_mb`` is the process's, so it grows from size to size."""
    folder = tempfile.mkdtemp()
    try:
        made = Store(folder).dataset("lines", {"rows": rows}, SCHEMA)
        term = made.begin()
        commit_s = seconds(lambda: fill(made, term, rows, part_rows))
        entries_s = seconds(made.snapshot)
        term.close()
        begin_s = seconds(lambda: made.begin().close())
        base_s = seconds(made.snapshot)
        ids_s = seconds(lambda: made.snapshot().ids())
        assert len(made.snapshot().ids()) == rows
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return {
            "rows": rows, "parts": rows // part_rows, "commit_ms_per_part": 1000 * commit_s / (rows // part_rows),
            "open_entries_s": entries_s, "begin_s": begin_s, "open_base_s": base_s, "open_and_ids_s": ids_s,
            "ledger_kb": ledger_bytes(made) / 1024, "peak_mb": peak,
        }  # fmt: skip
    finally:
        shutil.rmtree(folder)


def fill(made: Dataset, term, rows: int, part_rows: int) -> None:
    for start in range(0, rows, part_rows):
        ids = [f"train2014/{number:012d}.jpg" for number in range(start, start + part_rows)]
        term.handle.commit(term.handle.part_name(ids), pa.table([ids, ids], schema=SCHEMA))


def ledger_bytes(made: Dataset) -> int:
    """Of the base alone: what a resume reads."""
    return made.files.size(made.ledger.path(made.ledger.terms()[-1], "base.parquet"))


if __name__ == "__main__":
    main()
