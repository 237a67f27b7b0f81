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

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, zip_longest
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import fs

from pipelines.errors import UserError
from pipelines.files import filesystems
from pipelines.files.storage import open_stream
from pipelines.inputs.corpus_formats import FIELDS, READERS, Row, TextFile, kind_of, lines_of
from pipelines.inputs.unique_ids import SeenIds

CHUNK_ROWS = 16_384
DIGITS = 9
"""Of a line's number as an id."""
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("target", pa.string()),
    ]
)


@dataclass(frozen=True)
class Corpus:
    """Where text lies.

    Attributes:
        source, target: paths or uris; where there are both, line by line each other's translation.
        columns: names of a table's two; references have one, named twice.
        option: by which the user names columns, for messages: ``--column`` names that of the text, ``data.columns``
            both; "" where none does.
        references: whether the text is translations of people, which need no source beside them.

    Raises:
        UserError: a file is not there or a table of a kind that is not read, or two files are given of which one is a
            table.
    """

    source: str
    target: str | None = None
    columns: tuple[str, str] = FIELDS
    option: str = "data.columns"
    references: bool = False

    def __post_init__(self) -> None:
        for path in self.paths:
            filesystem, inside = filesystems.locate(path)
            if filesystems.type_of(filesystem, inside) != fs.FileType.File:
                raise UserError(f"text: there is no file {path}")
            if kind_of(path) != "lines" and self.target is not None:
                raise UserError(
                    f"text: {path} is a table, which has both sides in itself; two files are expected to be lines of "
                    "text. Give the table alone."
                )

    @classmethod
    def of_references(cls, path: str, column: str = FIELDS[1], option: str = "--column") -> Corpus:
        """References: lines of text, or the column of a table; both ``source`` and ``target`` of a row have them.

        Raises:
            UserError: as for ``Corpus``.
        """
        return cls(path, columns=(column, column), option=option, references=True)

    @property
    def paths(self) -> list[str]:
        return [self.source] if self.target is None else [self.source, self.target]

    @property
    def file(self) -> TextFile:
        """The source, as its format is read."""
        return TextFile(self.source, self.columns, self.option, self.references)

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
            what = "line" if kind_of(self.source) == "lines" else "row with a sentence"
            raise UserError(f"text: {' and '.join(self.paths)} has no {what}")

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
        return READERS[kind_of(self.source)](self.file)

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


def with_version(chunk: pa.Table) -> pa.Table:
    """What is listed of a corpus's sentences: id, source and version."""
    versions = [hashlib.sha256(source.encode()).hexdigest()[:16] for source in chunk["source"].to_pylist()]
    return chunk.select(["id", "source"]).append_column("version", pa.array(versions, pa.string()))


def corpus_in_words(corpus: Corpus) -> str:
    """What tells a corpus's sentences from those of another: their ids, or else the file and its content."""
    numbered = next(corpus.chunks())["id"][0].as_py() == "0" * DIGITS
    return f"{Path(corpus.source).name} {corpus.digest[:16]}" if numbered else "by id"
