"""Files of translations and of references, sentence beside sentence: by their ids, or line by line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from pipelines import console
from pipelines.errors import UserError
from pipelines.inputs.corpus import Corpus
from pipelines.inputs.corpus_formats import FIELDS, column_names, kind_of, refuse_column
from pipelines.inputs.entries import naming

Item = TypeVar("Item")


def read_translations(path: str) -> list[tuple[str, list[str]]]:
    """Id and translation of each sentence: lines of text, or a table's column ``target``, or ``translation``, which is
    how ``translate --text`` names it."""
    written = "translation" in column_names(path)
    return read_references([path], "translation" if written else None, option="")


def read_references(
    paths: Sequence[str],
    column: str | None = None,
    most: int | None = None,
    option: str = "--column",
    usual: str = FIELDS[1],
) -> list[tuple[str, list[str]]]:
    """Id and references of each sentence: lines of text, or a column of tables.

    Args:
        column: of the tables, by the user's ``option``; None for the ``usual`` one.

    Raises:
        UserError: a table has no such column, a column is named and there is no table, or the files are not of one
            length.
    """
    if column:
        refuse_column(column, paths)
    column = column or usual
    files: list[list[tuple[str, str]]] = []
    for path in paths:
        corpus = Corpus.of_references(path, column, option)
        if remark := corpus.file.describe():
            console.tell(remark)
        rows = [row for chunk in corpus.chunks() for row in chunk.to_pylist()][:most]
        text = "target" if is_table(path) else "source"
        if absent := [row["id"] for row in rows if row[text] is None]:
            raise UserError(f"{path} has no {column!r}, the translation, of {naming(absent, 'row')}.")
        lines = [(row["id"], row[text]) for row in rows]
        first = files[0] if files else lines
        check_lengths(len(lines), path, len(first), paths[:1])
        files.append(in_order(lines, path, [name for name, _ in first], paths[0]))
    return [(lines[0][0], [text for _, text in lines]) for lines in zip(*files, strict=True)]


def in_order(lines: list[tuple[str, Item]], path: str, ids: Sequence[str], like: str) -> list[tuple[str, Item]]:
    """Lines of the file at ``path``, each with its id, in the order of the ``ids`` of the file ``like``.

    Where one of the two has no column ``id``, they stay as they are: ids are numbers of lines then.

    Raises:
        UserError: an id of the other file is not there.
    """
    with_ids = [name for name in (path, like) if "id" in column_names(name)]
    if path != like and len(with_ids) == 1:
        console.tell(f"Of {path} and {like} only {with_ids[0]} has a column id: they are matched line by line.")
    if path == like or len(with_ids) < 2:
        return lines
    known = dict(lines)
    if missing := [name for name in ids if name not in known]:
        raise UserError(
            f"{path} has no sentence {missing[0]!r}, which {like} has, and {len(missing):,} are missing in all. Both "
            "have a column id, by which they are matched. Give files of the same sentences, or leave one's ids out to "
            "match them line by line."
        )
    return [(name, known[name]) for name in ids]


def is_table(path: str) -> bool:
    return kind_of(path) != "lines"


def check_lengths(count: int, where: str, expected: int, references: Sequence[str]) -> None:
    if count != expected:
        raise UserError(
            f"{where} has {count:,} sentences and {references[0]} has {expected:,}; line by line they should be of the "
            "same sentences."
        )
