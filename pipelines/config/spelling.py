"""The nearest spelling of a word. A module of its own, so that the command's help loads none of the recipe's types."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def near(word: str, options: Iterable[str]) -> str:
    """The end of a message about ``word``: the nearest of ``options``; empty where none is like it."""
    close = difflib.get_close_matches(word, list(options), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
