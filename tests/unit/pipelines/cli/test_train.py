"""Mistakes on the command line of ``rnncond train``, and in what it names."""

from __future__ import annotations

import pytest

from tests.worlds.command import LONG, check_mistake, make_mistaken_world

MISTAKES: list[tuple[list[str], str]] = [
    ([], "'RECIPE'"),
    (["show_tel.small"], "show_tel.small | show_tell.small"),
    (["list.yaml"], "list.yaml"),
    (["broken.yaml"], "broken.yaml"),
    (["show_tell.small", "data.store=nowhere", "data.captions=captions.jsonl"], "nowhere"),
    (
        ["show_tell.small", "data.store=s", "data.captions=captions.jsonl", "training.epoch=3"],
        "training.epoch | epochs",
    ),
    (
        ["show_tell.small", "data.store=s", "data.captions=captions.jsonl", "training.epochs=many"],
        "training.epochs | many | number",
    ),
    (
        [
            "encdec_bidirectional.small",
            "data.source=lines.en",
            "data.target=lines.de",
            "data.validation_source=lines.en",
            "data.validation_target=lines.en",
        ],
        "lines.de",
    ),
    ([LONG], "File name too long"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES, ids=[" ".join(words) for words, _ in MISTAKES])
def test_a_mistake_is_told_in_one_message(words, message, tmp_path, monkeypatch, capsys):
    make_mistaken_world(tmp_path)
    monkeypatch.chdir(tmp_path)
    check_mistake(["train", *words], message, capsys)
