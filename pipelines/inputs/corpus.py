"""TEXT, as every verb takes it: sentences, or pairs of them, one after the other.

======================  ==========================================================================
train.en, train.en.gz   a sentence a line; .gz, .bz2, .zst and .lz4 are unpacked on the way
train.en and train.de   two such files, line by line each other's translation
pairs.tsv               source<tab>target lines; with a first line of column names, those columns
pairs.csv               a first line of column names, then rows; quoted where a cell has commas, quotes or line ends
pairs.jsonl             an object a line
pairs.parquet           a table
======================  ==========================================================================

Tables need not have a target where none is wanted, nor a source where they are references (``Corpus.of_references``),
of which the target alone is read. Rows keep the ``id`` of their file, if it has such a column
or key; else the id is the number of the row, from 0, with leading zeros so that ids sort in the file's order. Ids are
unique. Blank lines of JSONL, which may be called .ndjson, are no rows; suffixes may be upper case. For encodings see
``pipelines.files.text``.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, zip_longest
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from pipelines.errors import UserError
from pipelines.files import filesystems
from pipelines.files.jsonl import json_object, refuse_halves
from pipelines.files.storage import as_user_error, open_file, open_stream
from pipelines.files.text import PACKED, TextError, lines_in, packing_of
from pipelines.inputs.unique_ids import SeenIds

FIELDS = ("source", "target")
CHUNK_ROWS = 16_384
DIGITS = 9
"""Of a line's number as an id."""
OTHER_TABLES = ("json", "arrow", "feather", "orc", "xlsx", "xls", "ods")
"""Suffixes of what is not read; as lines it would be no text."""
IDS = "expected text or a whole number, or no ids at all"
"""The message where an id is something else."""

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("target", pa.string()),
    ]
)


class Row(NamedTuple):
    id: str | None
    source: str
    target: str | None


@dataclass(frozen=True)
class Corpus:
    """Where text lies.

    Attributes:
        source, target: paths or uris.
        columns: names of a table's two; references have one, named twice.
        option: by which the user names columns, for messages: ``--column`` names that of the text, ``data.columns``
            both; "" where none does.
        references: whether the text is translations of people, which need no source beside them.
    """

    source: str
    target: str | None = None
    columns: tuple[str, str] = FIELDS
    option: str = "data.columns"
    references: bool = False

    @classmethod
    def open(
        cls,
        source: str,
        target: str | None = None,
        columns: tuple[str, str] = FIELDS,
        option: str = "data.columns",
        references: bool = False,
    ) -> Corpus:
        """The text in ``source``, with that of ``target`` line by line beside it.

        Raises:
            UserError: a file is not there or a table of a kind that is not read, or two files are given of which one
                is a table.
        """
        corpus = cls(source, target, columns, option, references)
        for path in corpus.paths:
            filesystem, inside = filesystems.locate(path)
            if filesystems.type_of(filesystem, inside) != fs.FileType.File:
                raise UserError(f"text: there is no file {path}")
            if kind_of(path) != "lines" and target is not None:
                raise UserError(
                    f"text: {path} is a table, which has both sides in itself; two files are expected to be lines of "
                    "text. Give the table alone."
                )
        return corpus

    @classmethod
    def of_references(cls, path: str, column: str = FIELDS[1], option: str = "--column") -> Corpus:
        """References: lines of text, or the column of a table; both ``source`` and ``target`` of a row have them.

        Raises:
            UserError: as ``open``.
        """
        return cls.open(path, columns=(column, column), option=option, references=True)

    @property
    def paths(self) -> list[str]:
        return [self.source] if self.target is None else [self.source, self.target]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the files as they are, and of the columns' names; read once."""
        digest = hashlib.sha256(json.dumps(self.columns).encode())
        for path in self.paths:
            filesystem, inside = filesystems.locate(path)
            with open_stream(filesystem, inside, None) as file:
                content = hashlib.file_digest(file, "sha256")
            digest.update(content.digest())
        return digest.hexdigest()

    def chunks(self) -> Iterator[pa.Table]:
        """Tables of ``SCHEMA`` with at most ``CHUNK_ROWS`` rows, in the files' order.

        Raises:
            UserError: a line is not what the file's kind has, a column is missing, two rows have one id, or two files
                differ in length.
        """
        rows, seen = self._rows(), SeenIds()
        mixed = kind_of(self.source) == "jsonl"  # its rows may have ids or not, and an id may be another row's number
        start = 0
        while some := list(islice(rows, CHUNK_ROWS)):
            ids, sources, targets = zip(*some, strict=True)
            named = [f"{number:0{DIGITS}d}" if name is None else name for number, name in enumerate(ids, start)]
            columns = [pa.array(column, pa.string()) for column in (named, sources, targets)]
            chunk = pa.table(columns, schema=SCHEMA)
            if mixed or ids[0] is not None:
                numbers = np.arange(start, start + len(some), dtype=np.uint64)
                _, twice = seen.compare(chunk["id"], numbers)
                if twice is not None:
                    raise UserError(
                        f"text: row {start + twice + 1:,} of {self.source} has the id {named[twice]!r}, as another row "
                        "has; ids are expected to be unique. Make them so, or leave them out and rows are numbered."
                    )
            yield chunk
            start += len(some)
        if not start:
            raise UserError(f"text: {' and '.join(self.paths)} has no line")

    def describe(self) -> str:
        """How a TSV's first line is read; "" of other files.

        Raises:
            UserError: the first line is neither column names with that of the text nor a sentence or a pair.
        """
        if kind_of(self.source) != "tsv":
            return ""
        names = next(lines_of(self.source), "").split("\t")
        if self.has_header(names):
            return f"{self.source}: the first line has the names of columns; {self.columns[0]!r} is read."
        first = names[-1 if self.references else 0][:60]
        return (
            f"{self.source}: no column names, so the first line is a sentence, {first!r}. If it has names, say "
            f"--column {shlex.quote(first)}."
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
                f"text: {self.source} has no column {self.columns[0]!r}: its first line is {', '.join(names)[:200]}; "
                f"expected column names with that one among them, or source and target. {self.name_it(names)}"
            )
        return False

    def name_it(self, names: Sequence[str]) -> str:
        """What to do where a table with columns of these ``names`` has not that of the text."""
        if not self.option:
            return f"Call that column {self.columns[0]!r}, or give lines of text."
        if self.option != "--column":
            return f"Name both columns: {self.option}=[SOURCE,TARGET]."
        whose = "references'" if self.references else "text's"
        # What is no word is a sentence, or a line with other separators.
        first, *others = [name for name in names if re.fullmatch(r"[\w.-]+", name) and name != "id"][:4] or ["NAME"]
        return f"Name the {whose} column: --column {first}" + (f" (or {', '.join(others)})." if others else ".")

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Source and target of every row.

        Raises:
            UserError: as ``chunks``; or a row has no target.
        """
        for number, row in enumerate(self._rows(), 1):
            if row.target is None:
                raise UserError(f"text: row {number:,} of {self.source} has no {self.columns[1]!r}, its translation")
            yield row.source, row.target

    def _rows(self) -> Iterator[Row]:
        if self.target is not None:
            return self._aligned(self.target)
        return READERS[kind_of(self.source)](self)

    def _aligned(self, target: str) -> Iterator[Row]:
        sides = (lines_of(self.source), lines_of(target))
        for number, (source, translation) in enumerate(zip_longest(*sides)):
            if source is None or translation is None:
                longer, shorter = (target, self.source) if source is None else (self.source, target)
                count = number + 1 + sum(1 for _ in sides[source is None])
                raise UserError(
                    f"text: {longer} has {count:,} lines and {shorter} has {number:,}; line by line they should be "
                    "each other's translation. Is one cut short, or are empty lines left out of it?"
                )
            yield Row(None, source, translation)


def kind_of(path: str) -> str:
    """lines, or the kind of table, by the suffix before that of packing.

    Raises:
        UserError: the suffix is that of a table of another kind, which is no text.
    """
    name = path.lower()
    for packing in PACKED:
        name = name.removesuffix(packing)
    suffix = name.rpartition(".")[2]
    if suffix in OTHER_TABLES:
        raise UserError(
            f"text: {path} is a .{suffix} file, which is not read; expected lines of text, .tsv, .csv, .jsonl or "
            ".parquet, each also packed. Make it one of them."
        )
    suffix = "jsonl" if suffix == "ndjson" else suffix
    return suffix if suffix in READERS else "lines"


def lines_of(path: str) -> Iterator[str]:
    """Lines without their ends. Nothing but a line feed ends a line, so that files stay aligned."""
    return (line.removesuffix("\n").removesuffix("\r") for line in whole_lines(path))


def whole_lines(path: str) -> Iterator[str]:
    filesystem, inside = filesystems.locate(path)
    number = 1
    try:
        with open_stream(filesystem, inside, packing_of(path)) as unpacked:
            for line in lines_in(unpacked):
                yield line
                number += 1
    except TextError as error:
        raise UserError(f"text: {path}: {error}") from None
    except OSError as error:
        raise as_user_error(f"text: {path} cannot be read at line {number:,}: {error}", error, path) from None


def from_lines(corpus: Corpus) -> Iterator[Row]:
    return (Row(None, line, None) for line in lines_of(corpus.source))


def from_tsv(corpus: Corpus) -> Iterator[Row]:
    path, columns = corpus.source, corpus.columns
    lines = lines_of(path)
    first = next(lines, None)
    if first is None:
        return
    names = first.split("\t")
    header = corpus.has_header(names)
    if not header:
        lines = chain_one(first, lines)
        names = list(FIELDS if not corpus.references else [*FIELDS[:1], columns[0]][-len(names) :])
    text = names.index(columns[0])
    at = [names.index(name) if name in names else None for name in ("id" if header else "", columns[1])]
    for number, line in enumerate(lines, 1 + header):
        cells = line.split("\t")
        if len(cells) != len(names) and (header or corpus.references or len(cells) > 2):
            raise UserError(
                f"text: line {number:,} of {path} has {len(cells)} columns, expected {len(names)}: {', '.join(names)}"
            )
        row_id, target = (None if n is None or n >= len(cells) else cells[n] for n in at)
        row = Row(row_id, cells[text], target)
        if row.id == "":
            raise UserError(f"text: line {number:,} of {path} has an empty id; {IDS}")
        yield row


def chain_one(first: str, rest: Iterable[str]) -> Iterator[str]:
    yield first
    yield from rest


def from_csv(corpus: Corpus) -> Iterator[Row]:
    path, columns = corpus.source, corpus.columns
    # Strict: otherwise a quote that is not closed takes all the lines behind it into its cell.
    reader = csv.reader(whole_lines(path), strict=True)
    try:
        names = next(reader, [])
        if names and columns[0] not in names:
            raise UserError(
                f"text: {path} has no column {columns[0]!r}; its first line has {', '.join(names)[:200]}, and is "
                f"expected to be column names, with commas between. {corpus.name_it(names)}"
            )
        wanted = [names.index(name) if name in names else None for name in ("id", *columns)]
        for cells in reader:
            if not cells:  # a blank line
                continue
            if len(cells) != len(names):
                raise UserError(
                    f"text: line {reader.line_num:,} of {path} has {len(cells)} columns, expected {len(names)}: "
                    f"{', '.join(names)}"
                )
            row_id, source, target = (None if at is None else cells[at] for at in wanted)
            if row_id == "":
                raise UserError(f"text: line {reader.line_num:,} of {path} has an empty id; {IDS}")
            yield Row(row_id, source or "", target)
    except csv.Error as error:
        raise UserError(
            f"text: line {reader.line_num:,} of {path}: {error}; are its quotes closed, and doubled within a cell?"
        ) from None


def from_jsonl(corpus: Corpus) -> Iterator[Row]:
    path = corpus.source
    for number, line in enumerate(lines_of(path), 1):
        if not line.strip():
            continue
        try:
            row = row_of(json_object(line), corpus)
        except ValueError as error:
            raise UserError(f"text: line {number:,} of {path} is {line[:60]!r}: {error}") from None
        yield row


def row_of(entry: dict[str, Any], corpus: Corpus) -> Row:
    """The row that a JSON object is.

    Raises:
        ValueError: something is missing, or not what it should be.
    """
    columns = corpus.columns
    source, target, name = entry.get(columns[0]), entry.get(columns[1]), entry.get("id", 0)
    if not isinstance(source, str) or not isinstance(target, str | None):
        other = "" if corpus.references else f", and {columns[1]!r}, too, or left out"
        hint = "" if columns[0] in entry else f". {corpus.name_it(list(entry))}"
        raise ValueError(f"{columns[0]!r} is expected to be text{other}{hint}")
    if not isinstance(name, str | int) or isinstance(name, bool) or name == "":
        raise ValueError(f"its id is {json.dumps(name)}; {IDS}")
    row = Row(str(name) if "id" in entry else None, source, target)
    refuse_halves(row)
    return row


def from_parquet(corpus: Corpus) -> Iterator[Row]:
    path, columns = corpus.source, corpus.columns
    filesystem, inside = filesystems.locate(path)
    try:
        with pq.ParquetFile(open_file(filesystem, inside)) as file:
            names = file.schema_arrow.names
            if columns[0] not in names:
                raise UserError(
                    f"text: {path} has no column {columns[0]!r}; it has {', '.join(names)}. {corpus.name_it(names)}"
                )
            wanted = [name if name in names else None for name in ("id", *columns)]
            start = 1
            for batch in file.iter_batches(CHUNK_ROWS, columns=list(dict.fromkeys(filter(None, wanted)))):
                read = [batch[name].cast(pa.string()).to_pylist() if name else [None] * len(batch) for name in wanted]
                if wanted[0] and not all(read[0]):
                    number = start + next(row for row, name in enumerate(read[0]) if not name)
                    raise UserError(f"text: row {number:,} of {path} has an empty id; {IDS}")
                start += len(batch)
                yield from map(Row, read[0], ["" if source is None else source for source in read[1]], read[2])
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise as_user_error(f"text: {path} cannot be read: {error}", error, path) from None


READERS = {"lines": from_lines, "tsv": from_tsv, "csv": from_csv, "jsonl": from_jsonl, "parquet": from_parquet}
