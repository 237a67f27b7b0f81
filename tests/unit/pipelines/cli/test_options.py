"""Options that several verbs share: declared once, and told in the same words."""

from __future__ import annotations

import importlib

import pytest
import typer

from feature_store import retry
from pipelines.cli import options
from pipelines.cli.commands import VERBS, app_of, call, parser_of
from pipelines.console import Outcome
from tests.worlds.command import rnncond


def commands() -> dict[str, typer.core.TyperCommand]:
    found = {}
    for verb in VERBS:
        parser = typer.main.get_command(app_of(verb))
        below = getattr(parser, "commands", {})
        found |= {f"{verb} {name}": command for name, command in below.items()} if below else {verb: parser}
    return found


def test_an_option_means_the_same_in_every_verb():
    """But for names that a verb's own module declares, such as --out."""
    shared = {
        "--beam", "--max-length", "--samples", "--temperature", "--tracking-uri", "--limit", "--dry-run", "--workers",
        "--gpus", "--retry-failed", "--takeover",
    }  # fmt: skip
    seen: dict[str, set[str]] = {}
    for command in (commands()[verb] for verb in ("features", "caption", "translate")):
        for param in command.params:
            for name in shared & set(param.opts):
                seen.setdefault(name, set()).add(param.help)
    assert shared == set(seen)
    assert {name: texts for name, texts in seen.items() if len(texts) > 1} == {}


def test_every_option_and_argument_has_a_text():
    bare = [
        f"{name} {param.name}"
        for name, command in commands().items()
        for param in command.params
        if not param.help and param.name != "overrides"
    ]
    assert bare == []


def test_the_options_of_a_search_are_those_given_and_a_beam():
    assert options.search_options(beam=None, max_length=None, seed=0) == {"beam": 5, "seed": 0}
    assert options.search_options(beam=2, min_length=0) == {"beam": 2, "min_length": 0}
    assert options.search_options(beam=None, samples=3) == {"beam": 1, "samples": 3}


@pytest.mark.parametrize("command", ["caption", "store info", "recipes show", "submit list"])
def test_dash_h_is_help_everywhere(command, capsys):
    assert rnncond(*command.split(), "-h") == 0
    assert "--help" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ["features", "photos", "--store", "store"],
        ["caption", "photos", "--model", "model", "--out", "captioned"],
        ["translate", "text", "--model", "model", "--out", "translated"],
    ],
    ids=lambda words: words[0],
)
def test_the_driver_asks_storage_again_for_as_long_as_the_workers(monkeypatch, words):
    """What it lists and what it reads: the budget holds from the first request on."""
    seen = []
    module = importlib.import_module(f"pipelines.verbs.{words[0]}")
    monkeypatch.setattr(module, "run", lambda *_, **__: seen.append(retry.SECONDS) or Outcome({}))
    before = retry.SECONDS
    parser, _ = parser_of(words)
    call(parser, words[0], [*words[1:], "--retry-seconds", "7"])
    assert seen == [7] and before == retry.SECONDS
