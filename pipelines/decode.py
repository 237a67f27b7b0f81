"""What every verb that decodes shares: the search that was asked for, and captions cut into their tokens' parts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from pipelines.console import UserError
from rnncond.checkpoint import Trained
from rnncond.search import SearchOptions
from rnncond.text import Vocabulary


def search_options(trained: Trained, **changes: Any) -> SearchOptions:
    """The search that the model's recipe asks for, with ``changes``.

    Raises:
        UserError: the changes do not fit together.
    """
    asked = trained.info.get("recipe", {}).get("search", {}) | changes
    asked = {name: tuple(value) if isinstance(value, list) else value for name, value in asked.items()}
    try:
        return SearchOptions(**asked)
    except ValueError as error:
        raise UserError(f"The search cannot be done: {error}") from None


def pieces(vocabulary: Vocabulary, tokens: Sequence[int]) -> list[str]:
    """The part of the decoded text that each token adds, blanks included, so that together they are the text."""
    texts = [vocabulary.decode(tokens[:count]) for count in range(len(tokens) + 1)]
    parts = []
    for (before, after), token in zip(pairwise(texts), tokens, strict=True):
        # A closing quote may move the blank before an opening one: then the token itself, and the text is nearly so.
        fits = after.startswith(before)
        parts.append(after[len(before) :] if fits else " " + vocabulary.tokens([token])[0])
    return parts


def unusual(search: Mapping[str, Any]) -> dict[str, Any]:
    """Of a search's options those that are not as they are by default; the beam always."""
    usual = dataclasses.asdict(SearchOptions()) | {"attention": search.get("attention")}
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in search.items()}
    return {name: value for name, value in given.items() if name == "beam" or value != usual[name]}
