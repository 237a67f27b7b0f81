"""Choices that the command line offers and that code far below it makes. Imports nothing heavy."""

from __future__ import annotations

from typing import Literal

LengthPenalty = Literal["none", "average", "gnmt"]
TooLong = Literal["cut", "refuse"]
"""What happens to a sentence that is longer than what is read of one."""
Tokenizer = Literal["auto", "ptb", "simple"]
"""How captions are split into words before they are scored."""
ScoredKind = Literal["captions", "text"]
