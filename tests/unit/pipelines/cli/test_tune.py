"""Mistakes on the command line of ``rnncond tune``, and in what it names."""

from __future__ import annotations

import pytest

from tests.worlds.command import LONG, check_mistake, make_mistaken_world

MISTAKES: list[tuple[list[str], str]] = [
    ([], "'RECIPE'"),
    (["nowhere.yaml"], "nowhere.yaml"),
    (["show_tell.small", "data.store=s", "data.captions=captions.jsonl", "tune.trials=0"], "tune.trials"),
    (
        ["show_tell.small", "data.store=s", "data.captions=captions.jsonl", "tune.algorithm=girdsearch"],
        "tune.algorithm | girdsearch",
    ),
    (
        ["show_tell.small", "data.store=s", "data.captions=captions.jsonl", "tune.space.model.hiden={uniform: [1, 2]}"],
        "hiden",
    ),
    (["show_tell.small", "data.store=nowhere", "data.captions=captions.jsonl"], "nowhere"),
    ([LONG], "File name too long"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES, ids=[" ".join(words) for words, _ in MISTAKES])
def test_a_mistake_is_told_in_one_message(words, message, tmp_path, monkeypatch, capsys):
    make_mistaken_world(tmp_path)
    monkeypatch.chdir(tmp_path)
    check_mistake(["tune", *words], message, capsys)
