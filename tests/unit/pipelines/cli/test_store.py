"""Mistakes on the command line of ``rnncond store``, and in what it names."""

from __future__ import annotations

import pytest

from tests.worlds.command import LONG, check_mistake, make_mistaken_world

MISTAKES: list[tuple[list[str], str]] = [
    (["inf", "s"], "'inf'"),
    (["info"], "DIR"),
    (["info", "nowhere"], "nowhere"),
    (["verify", "noise.bin"], "noise.bin"),
    (["compact", "empty"], "empty"),
    (["compact", "empty", "--target-mb", "0"], "'--target-mb'"),
    (["vacuum", "nowhere", "--grace-hours", "-1"], "'--grace-hours'"),
    (["info", LONG], "File name too long"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES, ids=[" ".join(words) for words, _ in MISTAKES])
def test_a_mistake_is_told_in_one_message(words, message, tmp_path, monkeypatch, capsys):
    make_mistaken_world(tmp_path)
    monkeypatch.chdir(tmp_path)
    check_mistake(["store", *words], message, capsys)
