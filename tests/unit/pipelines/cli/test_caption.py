"""Mistakes on the command line of ``rnncond caption``, and in what it names."""

from __future__ import annotations

import pytest

from tests.worlds.command import LONG, check_mistake, make_mistaken_world

MISTAKES: list[tuple[list[str], str]] = [
    (["--model", "model", "--out", "o"], "Say what to caption"),
    (["empty", "--store", "s", "--model", "model", "--out", "o"], "Say what to caption"),
    (["captions.jsonl", "--out", "o"], "'--model'"),
    (["captions.jsonl", "--model", "nowhere", "--out", "o"], "nowhere"),
    (["captions.jsonl", "--model", "model", "--out", "o"], "model"),
    (["captions.jsonl", "--model", "empty", "--out", "o"], "empty"),
    (
        ["captions.jsonl", "--model", "models:/m@champion", "--out", "o", "--tracking-uri", "sqlite:///none/mlflow.db"],
        "no database",
    ),
    (["--store", "s", "--save-listing", "l.parquet", "--model", "model", "--out", "o"], "--save-listing"),
    (["captions.jsonl", "--model", "model", "--out", "o", "--length-penalty", "gnm"], "'gnm'"),
    (["captions.jsonl", "--model", LONG, "--out", "o"], "File name too long"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES, ids=[" ".join(words) for words, _ in MISTAKES])
def test_a_mistake_is_told_in_one_message(words, message, tmp_path, monkeypatch, capsys):
    make_mistaken_world(tmp_path)
    monkeypatch.chdir(tmp_path)
    check_mistake(["caption", *words], message, capsys)
