"""The command ``rnncond`` in this process."""

from __future__ import annotations

from pipelines.cli import main
from pipelines.cli.commands import app_of


def rnncond(verb: str, *words: object) -> int:
    """Run a verb as from the command line, and return the exit code."""
    return main.run(app_of(verb), f"rnncond {verb}", [str(word) for word in words])
