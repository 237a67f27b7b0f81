"""Mistakes on the command line of ``rnncond features``, and in what it names."""

from __future__ import annotations

import pytest

from tests.worlds.command import LONG, check_mistake, make_mistaken_world

MISTAKES: list[tuple[list[str], str]] = [
    (["nowhere", "--store", "s"], "nowhere"),
    (["empty"], "--store"),
    (["empty", "--store", "s", "--workers", "0"], "'--workers'"),
    (["captions.jsonl", "--store", "s", "--backbone", "resnet50"], "timm/NAME or torchvision/NAME"),
    (
        ["captions.jsonl", "--store", "s", "--backbone", "torchvision/resent50", "--weights", "random"],
        "resent50 | resnet50",
    ),
    (
        ["captions.jsonl", "--store", "s", "--backbone", "torchvision/squeezenet1_0", "--weights", "noise.bin"],
        "noise.bin",
    ),
    (
        [
            "captions.jsonl",
            "--store",
            "s",
            "--backbone",
            "torchvision/squeezenet1_0",
            "--weights",
            "random",
            "--outputs",
            "grids",
        ],
        "grids | grid",
    ),
    (["noise.bin", "--store", "s", "--weights", "random"], "noise.bin"),
    ([LONG, "--store", "s"], "File name too long"),
    (
        ["captions.jsonl", "--store", "noise.bin", "--backbone", "torchvision/squeezenet1_0", "--weights", "random"],
        "noise.bin",
    ),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES, ids=[" ".join(words) for words, _ in MISTAKES])
def test_a_mistake_is_told_in_one_message(words, message, tmp_path, monkeypatch, capsys):
    make_mistaken_world(tmp_path)
    monkeypatch.chdir(tmp_path)
    check_mistake(["features", *words], message, capsys)
