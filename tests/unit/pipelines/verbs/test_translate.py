"""``rnncond translate -``: standard input to standard output, line by line, without Ray."""

from __future__ import annotations

import io
import os
from types import SimpleNamespace

import pytest
import ray

from pipelines.api import load_translator
from pipelines.verbs.translate import waiting_lines
from tests.worlds.command import check_mistake, rnncond
from tests.worlds.translator import PAIRS, make_translator


@pytest.fixture
def model(tmp_path, monkeypatch):
    make_translator(tmp_path / "model")
    monkeypatch.chdir(tmp_path)


def give(monkeypatch, data: bytes) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(data)))


def test_every_line_has_its_line(model, monkeypatch, capsys):
    of_others = ray.is_initialized()  # by a test before this one
    sentences = [*PAIRS, "", "the dog"]
    give(monkeypatch, "\r\n".join(sentences).encode())  # the last has no line break
    assert rnncond("translate", "-", "--model", "model") == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [one.text for one in load_translator("model").translate(sentences)]
    assert shown.err == ""
    assert ray.is_initialized() == of_others


def test_a_line_without_translation_is_empty_and_told(model, monkeypatch, capsys):
    give(monkeypatch, b"a red dog runs\na\n")
    words = ["-", "--model", "model", "--max-source-length", 2, "--too-long", "refuse"]
    assert rnncond("translate", *words) == 3
    shown = capsys.readouterr()
    assert shown.out.splitlines() == ["", load_translator("model").translate("a").text]
    assert "line 1: 4 tokens" in shown.err


def test_no_line_gives_no_line(model, monkeypatch, capsys):
    give(monkeypatch, b"")
    assert rnncond("translate", "-", "--model", "model") == 0
    assert capsys.readouterr().out == ""


def test_a_program_may_wait_for_each_answer():
    """A line is given before the next one has come; what is there already comes together."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as file, os.fdopen(writing, "wb", buffering=0) as ours:
        lines = waiting_lines(file, 3)
        for number in range(3):
            ours.write(b"line %d\n" % number)
            assert next(lines) == [f"line {number}"]
        ours.close()
        assert list(lines) == []
    many = list(waiting_lines(io.BytesIO(b"a\n" * 10), 3))
    assert sum(map(len, many)) == 10
    assert max(map(len, many)) <= 3


def test_what_is_wrong_is_told(model, monkeypatch, capsys):
    give(monkeypatch, b"a dog\n\xff\n")
    check_mistake(["translate", "-", "--model", "model"], "Line 2 of standard input is no UTF-8", capsys)
    check_mistake(["translate", "-", "--model", "model", "--out", "o"], "--out: | standard output", capsys)
    check_mistake(["translate", "lines.en", "--model", "model"], "Say --out DIR | lines.en", capsys)
