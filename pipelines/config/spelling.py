"""What a misspelt word may have been. A module of its own: the command's help loads none of the recipe's types."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

ALL, NEAREST = 12, 5
"""How many options are all named, and of more how many are."""


def near(word: str, options: Iterable[str]) -> str:
    """The nearest of ``options`` as the end of a message about ``word``; empty where none is like it."""
    close = difflib.get_close_matches(word, list(options), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def instead_of(word: str, options: Iterable[str]) -> str:
    """The end of a message about ``word``, which is none of ``options``: the nearest, and then what there are, of many
    those that are most like it."""
    options = list(options)
    named = options
    if len(options) > ALL:
        named = difflib.get_close_matches(word, options, NEAREST, cutoff=0.3) or options[:NEAREST]
    more = f" and {len(options) - len(named)} more" if len(named) < len(options) else ""
    return f"{near(word, options)} There are {', '.join(named) or 'none'}{more}."
