"""Formats of text: lines, TSV, CSV, JSONL and Parquet; see ``corpus`` for what a row is."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.console import plural
from pipelines.errors import UserError
from pipelines.files import filesystems
from pipelines.files.jsonl import json_object, refuse_halves
from pipelines.files.storage import as_user_error, open_file, open_stream
from pipelines.files.text import TextError, lines_in, packing_of, unpacked
from pipelines.inputs.listing_formats import refuse_twins

ABOVE = "A table with ids needs a line with the names of its columns above the first row, such as id<TAB>source."
FIELDS = ("source", "target")
READ_ROWS = 16_384
"""Of a Parquet file at a time."""
OTHER_TABLES = ("json", "arrow", "feather", "orc", "xlsx", "xls", "ods")
"""Suffixes of what is not read; as lines it would be no text."""
IDS = "expected text or a whole number, or no ids at all"
"""The message where an id is something else."""


class Row(NamedTuple):
    id: str | None
    source: str
    target: str | None


@dataclass(frozen=True)
class TextFile:
    """A file of text, and which columns of it are wanted where it is a table; see ``corpus.Corpus``."""

    path: str
    columns: tuple[str, str] = FIELDS
    option: str = "data.columns"
    references: bool = False

    def describe(self) -> str:
        """How a TSV's first line is read; "" of other files.

        Raises:
            UserError: the first line is neither column names with that of the text nor a sentence or a pair.
        """
        if kind_of(self.path) != "tsv":
            return ""
        line = next(lines_of(self.path), None)
        if line is None:  # an empty file, which whoever reads it says
            return ""
        names = line.split("\t")
        if self.has_header(names):
            both = self.option == "data.columns" and self.columns[1] in names
            read = f"{self.columns[0]!r} and {self.columns[1]!r} are read" if both else f"{self.columns[0]!r} is read"
            return f"{self.path}: the first line has the names of columns; {read}."
        first = names[-1 if self.references else 0][:60]
        return (
            f"{self.path}: no column names, so the first line is a sentence, {first!r}. If these are names: "
            f"{self.name_it(names)} {ABOVE}"
        )

    def has_header(self, names: Sequence[str]) -> bool:
        """Whether ``names``, the cells of a TSV's first line, are column names; else they are a sentence or a pair.

        Raises:
            UserError: they are neither.
        """
        if self.columns[0] in names:
            return True
        if self.columns[0] not in FIELDS or len(names) > 2 or "id" in names:
            raise UserError(
                f"text: {self.path} has no column {self.columns[0]!r}: its first line is {', '.join(names)[:200]}; "
                f"expected column names with that one among them, or source and target. {self.name_it(names)} {ABOVE}"
            )
        return False

    def name_it(self, names: Sequence[str]) -> str:
        """What to do where a table with columns of these ``names`` has not that of the text."""
        if not self.option:
            return f"Call that column {self.columns[0]!r}, or give lines of text."
        if self.option != "--column":
            return f"Name both columns: {self.option}=[SOURCE,TARGET]."
        whose = "references'" if self.references else "text's"
        # What is no word is a sentence, or a line with other separators, and its neighbours are no names either.
        are_names = all(re.fullmatch(r"[\w.-]+", name) for name in names)
        first, *others = [name for name in names if are_names and name != "id"][:4] or ["NAME"]
        return f"Name the {whose} column: --column {first}" + (f" (or {', '.join(others)})." if others else ".")


def kind_of(path: str) -> str:
    """lines, or the kind of table, by the suffix before that of packing.

    Raises:
        UserError: the suffix is that of a table of another kind, which is no text.
    """
    suffix = unpacked(path).rpartition(".")[2]
    if suffix in OTHER_TABLES:
        raise UserError(
            f"text: {path} is a .{suffix} file, which is not read; expected lines of text, .tsv, .csv, .jsonl or "
            ".parquet, each also packed. Make it one of them."
        )
    suffix = "jsonl" if suffix == "ndjson" else suffix
    return suffix if suffix in READERS else "lines"


def refuse_column(column: str, paths: Sequence[str]) -> None:
    """Raises UserError where the user names a column and all of ``paths`` are lines."""
    if all(kind_of(path) == "lines" for path in paths):
        raise UserError(
            f"--column {column} names a column of a table, and {' and '.join(paths)} "
            f"{'is' if len(paths) == 1 else 'are'} read as lines of text; leave it out."
        )


def column_names(path: str) -> list[str]:
    """Names of a table's columns: of JSONL those of its first row, of TSV what its first line has. None of lines, and
    none of a table that cannot be read: its reader says why."""
    try:
        match kind_of(path):
            case "parquet":
                filesystem, inside = filesystems.locate(path)
                with pq.ParquetFile(open_file(filesystem, inside)) as file:
                    return list(file.schema_arrow.names)
            case "csv":
                return next(csv.reader(whole_lines(path)), [])
            case "tsv":
                return next(lines_of(path), "").split("\t")
            case "jsonl":
                return list(json_object(next(filter(str.strip, lines_of(path)), "{}")))
    except (UserError, ValueError, OSError, csv.Error, pa.ArrowException):
        pass
    return []


def lines_of(path: str) -> Iterator[str]:
    """Lines without their ends. Nothing but a line feed ends a line, so that files stay aligned."""
    return (line.removesuffix("\n").removesuffix("\r") for line in whole_lines(path))


def whole_lines(path: str) -> Iterator[str]:
    filesystem, inside = filesystems.locate(path)
    number = 1
    try:
        with open_stream(filesystem, inside, packing_of(path)) as stream:
            for line in lines_in(stream):
                yield line
                number += 1
    except TextError as error:
        raise UserError(f"text: {path}: {error}") from None
    except OSError as error:
        raise as_user_error(f"text: {path} cannot be read at line {number:,}: {error}", error, path) from None


def from_lines(text: TextFile) -> Iterator[Row]:
    return (Row(None, line, None) for line in lines_of(text.path))


def from_tsv(text: TextFile) -> Iterator[Row]:
    path, columns = text.path, text.columns
    lines = lines_of(path)
    first = next(lines, None)
    if first is None:
        return
    names = first.split("\t")
    header = text.has_header(names)
    if not header:
        lines = chain([first], lines)
        names = list(FIELDS if not text.references else [*FIELDS[:1], columns[0]][-len(names) :])
    own = names.index(columns[0])
    at = [names.index(name) if name in names else None for name in ("id" if header else "", columns[1])]
    for number, line in enumerate(lines, 1 + header):
        cells = line.split("\t")
        if len(cells) != len(names) and (header or text.references or len(cells) > 2):
            raise UserError(
                f"text: line {number:,} of {path} has {len(cells)} {plural('column', len(cells))}, expected "
                f"{len(names)}: {', '.join(names)}"
            )
        row_id, target = (None if n is None or n >= len(cells) else cells[n] for n in at)
        row = Row(row_id, cells[own], target)
        if row.id == "":
            raise UserError(f"text: line {number:,} of {path} has an empty id; {IDS}")
        yield row


def from_csv(text: TextFile) -> Iterator[Row]:
    path, columns = text.path, text.columns
    # Strict: otherwise a quote that is not closed takes all the lines behind it into its cell.
    reader = csv.reader(whole_lines(path), strict=True)
    try:
        names = next(reader, [])
        if names and columns[0] not in names:
            raise UserError(
                f"text: {path} has no column {columns[0]!r}; its first line has {', '.join(names)[:200]}, and is "
                f"expected to be column names, with commas between. {text.name_it(names)}"
            )
        wanted = [names.index(name) if name in names else None for name in ("id", *columns)]
        for cells in reader:
            if not cells:  # a blank line
                continue
            if len(cells) != len(names):
                raise UserError(
                    f"text: line {reader.line_num:,} of {path} has {len(cells)} {plural('column', len(cells))}, "
                    f"expected {len(names)}: {', '.join(names)}"
                )
            row_id, source, target = (None if at is None else cells[at] for at in wanted)
            if row_id == "":
                raise UserError(f"text: line {reader.line_num:,} of {path} has an empty id; {IDS}")
            yield Row(row_id, source or "", target)
    except csv.Error as error:
        raise UserError(
            f"text: line {reader.line_num:,} of {path}: {error}; are its quotes closed, and doubled within a cell?"
        ) from None


def from_jsonl(text: TextFile) -> Iterator[Row]:
    path = text.path
    for number, line in enumerate(lines_of(path), 1):
        if not line.strip():
            continue
        try:
            row = row_of(json_object(line), text)
        except ValueError as error:
            raise UserError(f"text: line {number:,} of {path} is {line[:60]!r}: {error}") from None
        yield row


def row_of(entry: dict[str, Any], text: TextFile) -> Row:
    """The row that a JSON object is.

    Raises:
        ValueError: something is missing, or not what it should be.
    """
    columns = text.columns
    source, target, name = entry.get(columns[0]), entry.get(columns[1]), entry.get("id", 0)
    if not isinstance(source, str) or not isinstance(target, str | None):
        other = "" if text.references else f", and {columns[1]!r}, too, or left out"
        hint = "" if columns[0] in entry else f". {text.name_it(list(entry))}"
        raise ValueError(f"{columns[0]!r} is expected to be text{other}{hint}")
    if not isinstance(name, str | int) or isinstance(name, bool) or name == "":
        raise ValueError(f"its id is {json.dumps(name)}; {IDS}")
    row = Row(str(name) if "id" in entry else None, source, target)
    refuse_halves(row)
    return row


def from_parquet(text: TextFile) -> Iterator[Row]:
    path, columns = text.path, text.columns
    filesystem, inside = filesystems.locate(path)
    try:
        with pq.ParquetFile(open_file(filesystem, inside)) as file:
            names = file.schema_arrow.names
            if columns[0] not in names:
                raise UserError(
                    f"text: {path} has no column {columns[0]!r}; it has {', '.join(names)}. {text.name_it(names)}"
                )
            wanted = [name if name in names else None for name in ("id", *columns)]
            read_once = list(dict.fromkeys(filter(None, wanted)))
            refuse_twins(names, read_once)
            start = 1
            for batch in file.iter_batches(READ_ROWS, columns=read_once):
                read = [batch[name].cast(pa.string()).to_pylist() if name else [None] * len(batch) for name in wanted]
                if wanted[0] and not all(read[0]):
                    number = start + next(row for row, name in enumerate(read[0]) if not name)
                    raise UserError(f"text: row {number:,} of {path} has an empty id; {IDS}")
                start += len(batch)
                yield from map(Row, read[0], ["" if source is None else source for source in read[1]], read[2])
    except (ValueError, pa.ArrowException, OSError) as error:
        raise as_user_error(f"text: {path} cannot be read: {error}", error, path) from None


READERS = {"lines": from_lines, "tsv": from_tsv, "csv": from_csv, "jsonl": from_jsonl, "parquet": from_parquet}
