"""Choices that the command line offers and that code far below it makes. Imports nothing heavy."""

from __future__ import annotations

import re
from importlib import resources
from typing import Literal

LengthPenalty = Literal["none", "average", "gnmt"]
DecodingPrecision = Literal["float32", "bfloat16", "int8"]
"""What decoding multiplies in."""
Decoding = Literal["local", "cluster"]
"""Where pictures become pixels: on the CPUs of the worker that needs them, or on free ones of other nodes, too."""
TooLong = Literal["cut", "refuse"]
"""What happens to a sentence that is longer than what is read of one."""
Tokenizer = Literal[
    "auto", "ptb", "simple",
    "13a", "intl", "zh", "ja-mecab", "ko-mecab", "char", "flores101", "flores200", "spBLEU-1K", "none",
]  # fmt: skip
"""What cuts text into the words that scores count: the first three captions; the others, sacrebleu's, anything."""
ScoredKind = Literal["captions", "text"]
RECIPES = resources.files("pipelines") / "recipes"
"""The recipes that come with the project."""


def recipe_names() -> list[str]:
    """The names of those recipes, sorted."""
    return sorted(file.name.removesuffix(".yaml") for file in RECIPES.iterdir() if file.name.endswith(".yaml"))


def purpose_of(recipe: str) -> str:
    """The first sentence of the comment at the head of one of them."""
    text = (RECIPES / f"{recipe}.yaml").read_text("utf-8")
    lines = [line.lstrip("# ") for line in text.splitlines() if line.startswith("#")]
    return re.split(r"(?<!al\.)(?<=[.:])\s", " ".join(lines), maxsplit=1)[0].rstrip(".:")
