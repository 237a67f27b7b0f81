"""Mistakes on the command line of ``rnncond evaluate``, and in what it names."""

from __future__ import annotations

import pytest

from tests.worlds.command import LONG, check_mistake, make_mistaken_world

MISTAKES: list[tuple[list[str], str]] = [
    ([], "Say one of --model"),
    (["--captions", "a", "--translations", "b"], "Say one of --model"),
    (["--hypotheses", "lines.en"], "Say --references"),
    (["--hypotheses", "lines.en", "--references", "lines.de"], "3 | 2"),
    (["--hypotheses", "lines.en", "--references", "nowhere"], "nowhere"),
    (["--hypotheses", "half.json", "--references", "half.json", "--kind", "captions"], "half.json"),
    (["--hypotheses", "lines.en", "--references", "noise.bin"], "noise.bin"),
    (["--model", "nowhere"], "nowhere"),
    (["--captions", "nowhere", "--data", "captions.jsonl"], "nowhere"),
    (["--model", LONG], "File name too long"),
    (["--hypotheses", "lines.en", "--references", "lines.en", "--out", "noise.bin"], "--out ANOTHER"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES, ids=[" ".join(words) for words, _ in MISTAKES])
def test_a_mistake_is_told_in_one_message(words, message, tmp_path, monkeypatch, capsys):
    make_mistaken_world(tmp_path)
    monkeypatch.chdir(tmp_path)
    check_mistake(["evaluate", *words], message, capsys)
