"""Mistakes on the command line of ``rnncond submit``, and in what it names."""

from __future__ import annotations

import pytest

from tests.worlds.command import check_mistake, make_mistaken_world

MISTAKES: list[tuple[list[str], str]] = [
    (["--", "fetaures", "x"], "no verb 'fetaures' | 'features'"),
    (["--", "train"], "'RECIPE'"),
    (["--", "store", "inf", "s"], "found inf"),
    (["--working-dir", "nowhere", "--", "store", "info", "s"], "nowhere"),
    (["--address", "ray://h:10001", "--", "store", "info", "s"], "ray://h:10001 | dashboard"),
    (["status"], "ID"),
    (["--env", "NOT_SET", "--", "store", "info", "s"], "NOT_SET"),
    (["--address", "http://[", "--", "store", "info", "s"], "http://["),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES, ids=[" ".join(words) for words, _ in MISTAKES])
def test_a_mistake_is_told_in_one_message(words, message, tmp_path, monkeypatch, capsys):
    make_mistaken_world(tmp_path)
    monkeypatch.chdir(tmp_path)
    check_mistake(["submit", *words], message, capsys)
