"""Rows as lines of a file, in the format that its name says: .csv, .tsv, .jsonl, or plain text.

Any of them may be packed, as in ``captions.csv.gz``. A local file is there whole or not at all.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from pipelines.errors import UserError
from pipelines.files import filesystems
from pipelines.files.atomic import replacing
from pipelines.files.text import packing_of, unpacked

BREAKS = re.compile(r"[\r\n\t]+")
Row = Mapping[str, Any]


def write_rows(path: str, chunks: Iterable[Sequence[Row]], plain: tuple[str, ...], option: str, kept_in: str) -> None:
    """Write rows to ``path``; all have the same keys.

    Args:
        plain: the values that a line of plain text has, with tabs between them.
        option: by which the user named the file, for a message.
        kept_in: where the rows are in any case.

    Raises:
        UserError: the file cannot be written.
    """
    suffix = filesystems.suffix_of(unpacked(path))
    try:
        with nullcontext(path) if "://" in path else replacing(path) as place:
            filesystem, inside = filesystems.locate(str(place))
            with filesystem.open_output_stream(inside, compression=packing_of(path)) as file:
                for number, rows in enumerate(chunks):
                    file.write(lines_of(rows, suffix, plain, header=number == 0).encode())
    except OSError as error:
        raise UserError(
            f"The lines cannot be written to {path}: {error}. They are kept in {kept_in}; run the same command with "
            f"{option} ANOTHER."
        ) from None


def lines_of(rows: Sequence[Row], suffix: str, plain: tuple[str, ...], header: bool) -> str:
    """Rows as text. With ``header`` a table begins with the names of its columns."""
    if suffix == ".csv":
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        if header and rows:
            table.writerow(rows[0])
        table.writerows(row.values() for row in rows)
        return text.getvalue()
    if suffix == ".jsonl":
        return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
    columns = tuple(rows[0]) if suffix == ".tsv" and rows else plain
    lines = [[row[name] for name in columns] for row in rows]
    if suffix == ".tsv" and header and rows:
        lines[:0] = [list(columns)]
    return "".join("\t".join(map(in_one_cell, line)) + "\n" for line in lines)


def in_one_cell(value: Any) -> str:
    """A break within a value would move all lines that follow, and a tab the cells; nothing is quoted, since readers of
    tabs know no quotes."""
    return "" if value is None else BREAKS.sub(" ", str(value))


def refuse_unwritable(path: str | None, option: str) -> None:
    """Refuse a file that cannot be written before hours of work, not after them.

    Raises:
        UserError: its folder is not there, or cannot be written.
    """
    if path is None or "://" in path:
        return
    parent = Path(path).absolute().parent
    if not parent.is_dir() or Path(path).is_dir() or not os.access(parent, os.W_OK):
        raise UserError(f"{option} {path}: no file can be written there; expected a name in a folder that is there.")
