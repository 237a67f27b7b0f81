"""Mistakes on the command line of ``rnncond run``, and in what it names."""

from __future__ import annotations

import pytest

from tests.worlds.command import LONG, check_mistake, make_mistaken_world

MISTAKES: list[tuple[list[str], str]] = [
    ([], "'PIPELINE'"),
    (["nowhere.yaml"], "nowhere.yaml"),
    (["list.yaml"], "list.yaml"),
    (["broken.yaml"], "broken.yaml"),
    (["captions.jsonl"], "captions.jsonl"),
    (["noise.bin"], "noise.bin"),
    (["empty"], "empty"),
    ([LONG], "File name too long"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES, ids=[" ".join(words) for words, _ in MISTAKES])
def test_a_mistake_is_told_in_one_message(words, message, tmp_path, monkeypatch, capsys):
    make_mistaken_world(tmp_path)
    monkeypatch.chdir(tmp_path)
    check_mistake(["run", *words], message, capsys)
