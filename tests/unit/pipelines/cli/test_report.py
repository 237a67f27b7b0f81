"""Mistakes on the command line of ``rnncond report``, and in what it names."""

from __future__ import annotations

import pytest

from tests.worlds.command import LONG, check_mistake, make_mistaken_world

MISTAKES: list[tuple[list[str], str]] = [
    ([], "'OUT'"),
    (["nowhere"], "nowhere"),
    (["empty"], "empty"),
    (["noise.bin"], "noise.bin"),
    (["torn"], "torn"),
    (["empty", "--count", "0"], "'--count'"),
    (["empty", "--to", "s3://bucket/page.html"], "--to FILE"),
    ([LONG], "File name too long"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES, ids=[" ".join(words) for words, _ in MISTAKES])
def test_a_mistake_is_told_in_one_message(words, message, tmp_path, monkeypatch, capsys):
    make_mistaken_world(tmp_path)
    monkeypatch.chdir(tmp_path)
    check_mistake(["report", *words], message, capsys)
