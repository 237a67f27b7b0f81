"""Mistakes on the command line of ``rnncond translate``, and in what it names."""

from __future__ import annotations

import pytest

from tests.worlds.command import LONG, check_mistake, make_mistaken_world

MISTAKES: list[tuple[list[str], str]] = [
    (["lines.en", "--out", "o"], "'--model'"),
    (["nowhere.en", "--model", "model", "--out", "o"], "nowhere.en"),
    (["lines.en", "--model", "nowhere", "--out", "o"], "nowhere"),
    (["lines.en", "--model", "model", "--out", "o"], "model"),
    (["empty", "--model", "model", "--out", "o"], "no file empty"),
    (["lines.en", "--model", "model", "--out", "o", "--too-long", "cur"], "'cur'"),
    (["lines.en", "--model", "model", "--out", "o", "--beam", "0"], "'--beam'"),
    ([LONG, "--model", "model", "--out", "o"], "File name too long"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES, ids=[" ".join(words) for words, _ in MISTAKES])
def test_a_mistake_is_told_in_one_message(words, message, tmp_path, monkeypatch, capsys):
    make_mistaken_world(tmp_path)
    monkeypatch.chdir(tmp_path)
    check_mistake(["translate", *words], message, capsys)
