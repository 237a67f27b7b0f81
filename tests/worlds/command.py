"""The command ``rnncond`` in this process, and the mistakes that its users make."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from pipelines.cli import main
from pipelines.cli.commands import app_of
from pipelines.console import Outcome


def rnncond(verb: str, *words: object) -> int:
    """Run a verb as from the command line, and return the exit code. A defect is raised."""
    return main.run(app_of(verb), f"rnncond {verb}", [str(word) for word in words])


def run_hint(outcome: Outcome, codes: tuple[int, ...] = (0,)) -> list[str]:
    """Run every command that a verb's hint has, as it is printed, and return their verbs; each has to end with one of
    ``codes``: 3 where the pictures of a small world are no files, which a report tells."""
    lines = [line.strip().removeprefix("Next: ").strip() for line in (outcome.hint or "").splitlines()]
    commands = [shlex.split(line)[1:] for line in lines if line.startswith("rnncond ")]
    for verb, *words in commands:
        assert rnncond(verb, *words) in codes, (verb, words)
    return [verb for verb, *_ in commands]


LONG = "long" * 75
"""A name that no file system takes."""


def make_mistaken_world(folder: Path) -> None:
    """Files that are not what a verb expects of them, under the names that the lists of mistakes use."""
    (folder / "empty").mkdir()
    (folder / "nothing.jsonl").touch()
    (folder / "noise.bin").write_bytes(bytes(range(256)) * 4)
    (folder / "half.json").write_text('{"images": [{"file_name": "a.jpg"')
    (folder / "list.yaml").write_text("- a\n- b\n")
    (folder / "broken.yaml").write_text("data: {store: [\n")
    (folder / "lines.en").write_text("one\ntwo\nthree\n")
    (folder / "lines.de").write_text("eins\nzwei\n")
    (folder / "captions.jsonl").write_text('{"image_id": "1", "file": "1.jpg", "split": "train", "captions": ["a"]}\n')
    model = folder / "model"
    model.mkdir()
    (model / "model.json").write_text("{}")
    (model / "model.safetensors").write_bytes(b"nothing")
    torn = folder / "torn"
    torn.mkdir()
    (torn / "run.json").write_text('{"status": "fin')
    (torn / "metrics.jsonl").write_text('{"epoch": ')


def told_mistakes(verb: str, mistakes: list[tuple[str, str]]) -> Any:
    """A test that each of ``mistakes`` is told: words behind ``verb``, as a shell splits them, and what the message
    has; see ``check_mistake``."""

    @pytest.mark.parametrize(("words", "message"), mistakes, ids=[words or "nothing" for words, _ in mistakes])
    def test(words: str, message: str, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
        make_mistaken_world(tmp_path)
        monkeypatch.chdir(tmp_path)
        check_mistake([verb, *shlex.split(words)], message, capsys)

    return test


def check_mistake(words: list[str], message: str, capsys: Any) -> None:
    """A mistake is told in one message that has all words of ``message``, with exit code 2, and without a traceback."""
    assert rnncond(*words) == 2
    told = capsys.readouterr()
    assert "Traceback" not in told.err + told.out
    line = " ".join(told.err.split())
    assert [word for word in message.split(" | ") if word not in line] == [], line
