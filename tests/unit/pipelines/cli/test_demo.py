"""Mistakes on the command line of ``rnncond demo``, and in what it names."""

from __future__ import annotations

import pytest

from tests.worlds.command import LONG, check_mistake, make_mistaken_world

MISTAKES: list[tuple[list[str], str]] = [
    (["--data", "captions.jsonl"], "--data and --weights go together"),
    (["--weights", "w.pth"], "--data and --weights go together"),
    (["--seed", "-1"], "'--seed'"),
    (["--out", "noise.bin"], "noise.bin"),
    (["--out", "s3://bucket/demo"], "--out: found s3://bucket/demo, expected a folder of this machine"),
    (["world"], "unexpected extra argument"),
    (["--data", "nowhere.jsonl", "--weights", "noise.bin", "--out", "d"], "nowhere.jsonl"),
    (["--out", LONG], "File name too long"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES, ids=[" ".join(words) for words, _ in MISTAKES])
def test_a_mistake_is_told_in_one_message(words, message, tmp_path, monkeypatch, capsys):
    make_mistaken_world(tmp_path)
    monkeypatch.chdir(tmp_path)
    check_mistake(["demo", *words], message, capsys)
