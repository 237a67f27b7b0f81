"""Options that several verbs share: declared once, and told in the same words."""

from __future__ import annotations

import pytest
import typer

from pipelines.cli import options
from pipelines.cli.commands import VERBS, app_of
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
