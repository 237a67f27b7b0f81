"""Mistakes on the command line of ``rnncond status``."""

from __future__ import annotations

import pytest

from tests.worlds.command import check_mistake, make_mistaken_world

MISTAKES: list[tuple[list[str], str]] = [
    ([], "OUT"),
    (["nowhere"], "nowhere"),
    (["noise.bin"], "noise.bin"),
    (["torn"], "run.json | damaged"),
    (["empty", "--total", "-1"], "'--total'"),
    (["empty", "--watch", "--every", "0"], "'--every'"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES, ids=[" ".join(words) for words, _ in MISTAKES])
def test_a_mistake_is_told_in_one_message(words, message, tmp_path, monkeypatch, capsys):
    make_mistaken_world(tmp_path)
    monkeypatch.chdir(tmp_path)
    check_mistake(["status", *words], message, capsys)
