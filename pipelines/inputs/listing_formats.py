"""Files that list pictures: text, CSV, JSON lines and Parquet to rows, one after the other, and saving what is listed.

A reader takes an open file and gives ``Row``s as it goes. ValueError says what is wrong with the file.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from feature_store.files import Files
from pipelines.errors import UserError
from pipelines.files.filesystems import folder_and_name, suffix_of
from pipelines.files.jsonl import json_object, refuse_halves, shown
from pipelines.files.text import lines_in

FILE_COLUMNS = ("uri", "file", "path", "filename", "image")
SAVED = {b"rnncond": b"listing"}
"""In the schema of a listing that was saved: its ids are unique, its uris whole."""

SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("version", pa.string()),
        pa.field("problem", pa.string()),
    ]
)
"""``version`` tells a content from another under the same name, where that is known without reading; ``problem`` says
why the input cannot be had at all, and makes it a failure of stage ``list``."""


class Row(NamedTuple):
    image_id: str
    file: str
    version: str | None = None
    problem: str | None = None


def read_names(file) -> Iterator[Row]:
    for line in lines_in(file, newline=""):
        if line := line.strip():
            yield Row(line, line)


def read_csv(file) -> Iterator[Row]:
    # Strict: otherwise a quote that is not closed takes all the lines behind it into its field.
    reader = csv.DictReader(lines_in(file, newline=""), skipinitialspace=True, strict=True)
    line = 0
    try:
        column = _file_column(reader.fieldnames or ())
        line = reader.line_num
        for row in reader:
            line = reader.line_num
            if None in row:  # the cells beyond the columns
                cells = len(row) - 1 + len(row[None])
                raise ValueError(f"line {line}: {cells} cells, expected {len(row) - 1}; put what has a comma in quotes")
            if not row[column]:
                raise ValueError(f"line {line}: column {column} is empty; expected a file, or no such line")
            yield Row(row.get("image_id") or row[column], row[column], row.get("version") or None)
    except csv.Error as error:
        raise ValueError(f"line {line + 1}: {error}; are its quotes closed, and doubled within a field?") from error


def read_jsonl(file) -> Iterator[Row]:
    for number, line in enumerate(lines_in(file), 1):
        if not line.strip():
            continue
        try:
            row = json_object(line)
            column = _file_column(row)
            name, id_, version = row[column], row.get("image_id"), row.get("version")
            if not isinstance(name, str) or not name:
                raise ValueError(f"{column} is {shown(name)}, expected a file's name")
            for key, value in (("image_id", id_), ("version", version)):
                if not isinstance(value, str | int | None) or isinstance(value, bool):
                    raise ValueError(f"{key} is {shown(value)}, expected a string or a whole number")
            entry = Row(name if id_ in (None, "") else str(id_), name, None if version is None else str(version))
            refuse_halves(entry)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from error
        yield entry


def read_parquet(file) -> Iterator[Row]:
    parquet = pq.ParquetFile(file)
    names = parquet.schema_arrow.names
    column = _file_column(names)
    wanted = [name for name in ("image_id", "version", "problem") if name in names]
    refuse_twins(names, [column, *wanted])
    number = 0
    for batch in parquet.iter_batches(columns=[column, *wanted]):
        given = {name: batch[name].cast(pa.string()).to_pylist() for name in wanted}
        files = batch[column].cast(pa.string()).to_pylist()
        nothing = [None] * len(files)
        ids, versions, problems = (given.get(name, nothing) for name in ("image_id", "version", "problem"))
        for row in map(Row, ids, files, versions, problems):
            number += 1
            if not row.file:
                raise ValueError(f"row {number:,}: column {column} is empty; expected a file, or no such row")
            yield row if row.image_id else row._replace(image_id=row.file)


READERS = {".txt": read_names, ".csv": read_csv, ".jsonl": read_jsonl, ".parquet": read_parquet}
LISTINGS = tuple(READERS)


def _file_column(columns) -> str:
    for name in FILE_COLUMNS:
        if name in columns:
            return name
    raise ValueError(f"has no {', '.join(FILE_COLUMNS[:3])}; it has {', '.join(map(str, columns)) or 'nothing'}")


def refuse_twins(names: Sequence[str], wanted: Iterable[str]) -> None:
    """Refuse a table of which a ``wanted`` column is there more than once.

    Raises:
        ValueError: says which.
    """
    if twins := [name for name in wanted if names.count(name) > 1]:
        raise ValueError(f"has several columns {', '.join(twins)}; expected one of a name")


def saving(chunks: Iterable[pa.Table], path: str) -> Iterator[pa.Table]:
    """``chunks`` as they are, and a listing of them in the Parquet file ``path`` once the last one has passed.

    Raises:
        UserError: ``path`` has another suffix, and so could not be given as IMAGES.
    """
    if suffix_of(path) != ".parquet":
        raise UserError(f"--save-listing {path}: expected a name that ends in .parquet")
    return _saving(chunks, path)


def _saving(chunks: Iterable[pa.Table], path: str) -> Iterator[pa.Table]:
    folder, name = folder_and_name(path)
    schema = SCHEMA.with_metadata(SAVED)
    with Files.at(folder).replace(name) as sink, pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        for chunk in chunks:
            writer.write_table(chunk.cast(schema))
            yield chunk
