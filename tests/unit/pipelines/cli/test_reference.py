"""The pages of the verbs in docs/ are those that their command lines make."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.cli.commands import VERBS, app_of
from pipelines.cli.reference import page, write

DOCS = Path(__file__).parents[4] / "docs" / "verbs"


@pytest.mark.parametrize("verb", VERBS)
def test_the_page_in_the_repository_is_up_to_date(verb):
    """Where it is not: ``python -m pipelines.cli.reference docs/verbs``."""
    assert (DOCS / f"{verb}.md").read_text(encoding="utf-8") == page(verb)


def test_there_is_no_other_page(tmp_path):
    write(tmp_path)
    assert {path.name for path in DOCS.iterdir()} == {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("verb", VERBS)
def test_a_page_has_every_option_of_the_help(verb):
    from typer.main import get_command

    parser = get_command(app_of(verb))
    text = page(verb)
    commands = [*getattr(parser, "commands", {}).values()] or [parser]
    options = [option for command in commands for param in command.params for option in param.opts]
    assert [option for option in options if option.startswith("--") and option not in text] == []
    assert "--json" in text and "--log-level" in text
