"""``rnncond store diff``: what two sets of a store say of the same inputs, an older model's and a newer one's."""

from __future__ import annotations

import io
import json
import shlex
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from feature_store import Store
from pipelines.console import Outcome, tell, tell_result
from pipelines.errors import UserError
from pipelines.evaluation.differences import OTHER_INPUT, Difference, difference, examples, refuse_itself
from pipelines.evaluation.results import CAPTIONS
from pipelines.files.atomic import write_whole

FORMATS = (".parquet", ".json", ".csv")
SHOWN = 10


def run(directory: str, before: str, after: str, to: str | None = None, count: int = SHOWN) -> Outcome:
    """Show what changed, and write all of it to a file if one is named.

    Args:
        to: .parquet, .json (one object a line) or .csv.
        count: of the examples shown.
    """
    if to is not None and Path(to).suffix not in FORMATS:
        raise UserError(f"--to {to}: expected a name that ends in {', '.join(FORMATS)}.")
    found = difference(Store(directory), before, after)
    refuse_itself(found)
    shown = examples(found, count)
    for row in shown:
        tell_result(describe(row))
    if to is None and len(shown) < found.changed.num_rows:
        tell(f"{len(shown)} of {found.changed.num_rows:,} differences; --count shows more, and --to FILE gets all.")
    summary: dict[str, Any] = {"store": directory, "before": found.before.fingerprint, "after": found.after.fingerprint}
    summary |= found.counts()
    if to is not None:
        write(found.changed, to)
        summary["written"] = to
    beside = "picture" if found.kind is CAPTIONS else "sentence"
    hint = (
        f"To see both beside each {beside}:  rnncond report {shlex.quote(directory)} --set {found.after.fingerprint} "
        f"--compare {found.before.fingerprint}"
    )
    return Outcome(summary, hint=hint)


def describe(row: dict[str, Any]) -> str:
    """A row of what changed, as lines: its id, and what was said before and after."""
    lines = [row["id"], f"  - {text_of(row['before'])}", f"  + {text_of(row['after'])}"]
    if row["change"] == OTHER_INPUT:
        lines[0] += f"  ({OTHER_INPUT})"
        if "source" in row:
            lines[1:1] = [f"  source before: {row['source_before']}", f"  source after:  {row['source']}"]
    return "\n".join(lines)


def text_of(text: str | None) -> str:
    return "(no row)" if text is None else text or "(nothing said)"


def write(table: pa.Table, to: str) -> None:
    """Put the table in a file, which is there whole or not at all.

    Raises:
        UserError: it cannot be written.
    """
    try:
        write_whole(to, packed(table, Path(to).suffix))
    except OSError as error:
        raise UserError(f"The differences cannot be written to {to}: {error}. Say --to ANOTHER.") from None


def packed(table: pa.Table, suffix: str) -> bytes:
    """A table as Parquet, as JSON lines, or as CSV."""
    if suffix == ".json":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in table.to_pylist()).encode()
    buffer = io.BytesIO()
    if suffix == ".csv":
        pyarrow.csv.write_csv(table, buffer)
    else:
        pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def keep(found: Difference) -> str:
    """Put what changed in the store, as diffs/BEFORE-AFTER.parquet; where it is."""
    path = f"diffs/{found.before.fingerprint}-{found.after.fingerprint}.parquet"
    found.after.files.write(path, packed(found.changed, ".parquet"))
    return found.after.files.show(path)
