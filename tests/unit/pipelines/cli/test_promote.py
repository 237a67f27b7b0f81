"""Mistakes on the command line of ``rnncond promote``, and in what it names."""

from __future__ import annotations

import pytest

from tests.worlds.command import check_mistake, make_mistaken_world

MISTAKES: list[tuple[list[str], str]] = [
    (["--model", "model"], "'--name'"),
    (["--model", "nowhere", "--name", "m"], "nowhere"),
    (["--model", "model", "--name", "a/b"], "--name"),
    (["--model", "model", "--name", "m"], "model"),
    (["--model", "model", "--name", "m", "--split", "test"], "--data"),
    (["--model", "model", "--name", "m", "--allow-uri", "bytes://x"], "--allow-uri"),
    (["--model", "torn", "--name", "m"], "no model.json"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES, ids=[" ".join(words) for words, _ in MISTAKES])
def test_a_mistake_is_told_in_one_message(words, message, tmp_path, monkeypatch, capsys):
    make_mistaken_world(tmp_path)
    monkeypatch.chdir(tmp_path)
    check_mistake(["promote", *words], message, capsys)
