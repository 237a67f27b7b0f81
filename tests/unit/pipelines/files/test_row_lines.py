"""Rows as CSV, TSV, JSON lines and plain text."""

from __future__ import annotations

import csv
import gzip
import json
import re

import pytest

from pipelines.errors import UserError
from pipelines.files.row_lines import refuse_unwritable, write_rows
from pipelines.inputs.corpus import Corpus

ROWS = [
    {"id": "a", "caption": 'a "red", big dog', "score": -1.5},
    {"id": "b", "caption": "ein Hund\nläuft\tweg", "score": None},
    {"id": "c", "caption": "", "score": 0.0},
]


def write(path) -> None:
    write_rows(str(path), [ROWS[:2], ROWS[2:]], ("id", "caption"), "--text", "store")


def test_a_table_of_commas_is_read_by_csv(tmp_path):
    write(tmp_path / "x.csv")
    with open(tmp_path / "x.csv", newline="", encoding="utf-8") as file:
        assert list(csv.DictReader(file)) == [
            {name: "" if value is None else str(value) for name, value in row.items()} for row in ROWS
        ]


def test_a_table_of_tabs_has_a_line_for_each_row(tmp_path):
    write(tmp_path / "x.TSV")
    lines = (tmp_path / "x.TSV").read_text().splitlines()
    assert lines[0] == "id\tcaption\tscore"
    assert [line.split("\t") for line in lines[1:]] == [
        ["a", 'a "red", big dog', "-1.5"],  # as it is: who reads tabs knows no quotes
        ["b", "ein Hund läuft weg", ""],
        ["c", "", "0.0"],
    ]


@pytest.mark.parametrize("name", ["x.tsv", "x.csv.gz", "x.jsonl"])
def test_what_is_written_is_read_as_text(tmp_path, name):
    write(tmp_path / name)
    corpus = Corpus(str(tmp_path / name), columns=("caption", "none"))
    read = [row["source"] for chunk in corpus.chunks() for row in chunk.to_pylist()]
    assert [re.sub(r"\s", " ", text) for text in read] == [re.sub(r"\s", " ", str(row["caption"])) for row in ROWS]


def test_json_lines_are_the_rows(tmp_path):
    write(tmp_path / "x.jsonl.gz")
    with gzip.open(tmp_path / "x.jsonl.gz", "rt", encoding="utf-8") as file:
        assert [json.loads(line) for line in file] == ROWS


def test_plain_text_has_a_line_for_each_row(tmp_path):
    write(tmp_path / "x.txt")
    assert (tmp_path / "x.txt").read_text().splitlines() == ['a\ta "red", big dog', "b\tein Hund läuft weg", "c\t"]


def test_what_cannot_be_written_is_told_before_and_after(tmp_path):
    for path in (tmp_path / "nowhere" / "x.csv", tmp_path):
        with pytest.raises(UserError, match=r"--text .*no file can be written there"):
            refuse_unwritable(str(path), "--text")
    with pytest.raises(UserError, match="kept in store; run the same command with --text ANOTHER"):
        write(tmp_path / "nowhere" / "x.csv")
    refuse_unwritable(None, "--text")
    refuse_unwritable("s3://bucket/x.csv", "--text")
