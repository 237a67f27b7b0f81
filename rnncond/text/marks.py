"""Where a word ends and a mark begins, and how words and marks become a sentence again.

A word is letters, digits and underscores with what combines with them, and with apostrophes, hyphens, middle dots and
gershayim that stand between two of these (``don't``, ``well-known``, ``col·lecció``), as Unicode has it (UAX #29, rules
WB4 to WB7c). Zero-width joiners and non-joiners belong to the word before them. All else but white space is a mark; an
emoji sequence is one mark.

Vocabularies of whole words and of WordPiece keep no blanks. ``separate`` sets a blank between all tokens, in such a way
that ``join`` knows which blanks were there before. A blank stands between two tokens unless the second is a closing
mark or the first an opening bracket, and a mark that stands otherwise says so by a sign at its own side:

=====================  ==================================  =================================
text                   tokens                              what is marked
=====================  ==================================  =================================
``Yes, he said.``      ``Yes`` ``,`` ``he`` ``said`` ``.``  nothing: all stand as usual
``$5 and/or 1.50``     ``$￭ 5 and ￭/￭ or 1 .￭ 50``           no blank on that side (``GLUE``)
``Quoi ? ( oui )``     ``Quoi ▁? (▁ oui ▁)``                a blank on that side (``SPACE``)
=====================  ==================================  =================================

The signs are on marks alone, so that a word is the same token wherever it stands; those of most marks are never needed.
"""

from __future__ import annotations

import re

from tokenizers import Regex, normalizers

SPACE = "▁"
"""A blank: at the side of a mark that usually has none, and at the beginning of a word's first BPE or unigram piece."""
GLUE = "￭"
"""No blank, at the side of a mark that usually has one (the sign of OpenNMT's tokenizer)."""

CLOSING = r".,;:!?…%)\]}"
"""Marks that usually have no blank before them."""
OPENING = r"(\[{¿¡"
"""Marks that usually have no blank behind them."""

_WORD = r"\p{L}\p{M}\p{N}_\u05f3\u055a-\u055c\u055e"
_EXTENDS = r"\u200c\u200d\x{1f3fb}-\x{1f3ff}\x{e0020}-\x{e007f}"
"""What belongs to the character before it, whatever that is: zero-width (non-)joiners, skin colours, tags of flags."""
_LETTER = r"[\p{L}\p{N}_]"
_INSIDE = rf"[{_WORD}{_EXTENDS}]"
_JOINT = r"['\u2019\-\u2010\u2011\u00b7\u0387\u055f\u05f4\u2027[\p{Cf}&&[^\u200b-\u200d\x{e0020}-\x{e007f}]]]"
"""What is part of a word between two of its characters: apostrophes, hyphens, middle dots, gershayim, soft hyphens."""
_FLAG = r"[\x{1f1e6}-\x{1f1ff}]"
_CONTINUES = rf"(?<=\u200d)\p{{So}}|(?<={_FLAG}){_FLAG}"
"""The rest of an emoji sequence: a sign after a joiner, the second letter of a flag."""
_GERSHAYIM = r'(?<=\p{Hebrew})"(?=\p{Hebrew})'
_MARK = (
    rf"(?:(?<!{_INSIDE}){_JOINT}|{_JOINT}(?!{_INSIDE})|(?<!\S)[{_EXTENDS}]"
    rf"|(?!{_JOINT}|{_INSIDE}|{_CONTINUES}|{_GERSHAYIM}|{SPACE}|{GLUE})\S)"
)
"""The first character of a mark."""
MARK = rf"{_MARK}(?:[\p{{M}}{_EXTENDS}]|{_CONTINUES})*"
"""A mark with all that belongs to it."""

_SEPARATE = (
    (rf" (?=[{CLOSING}])", f" {SPACE}"),
    (rf"(?<=[{OPENING}]) ", f"{SPACE} "),
    # A mark after something that it touches.
    (rf"(?<=[^\s{SPACE}])(?=[{CLOSING}])", " "),
    (rf"(?<=[{OPENING}])(?={_MARK})", " "),
    (rf"(?<=[^\s{SPACE}{GLUE}])(?={_MARK})", f" {GLUE}"),
    # A word after a mark that it touches.
    (rf"(?<=[{OPENING}])(?={_INSIDE})", " "),
    (rf"(?<=[^\s{_WORD}{_EXTENDS}{SPACE}{GLUE}{_JOINT}])(?<!\p{{Hebrew}}\")(?={_LETTER})", f"{GLUE} "),
    (rf"(?<={_JOINT})(?<!{_INSIDE}{_JOINT})(?={_INSIDE})", f"{GLUE} "),
    (rf"(?<=[^\s{_WORD}{_EXTENDS}][\ufe0f\u20e3\x{{1f3fb}}-\x{{1f3ff}}])(?={_LETTER})", f"{GLUE} "),
)


def own_signs() -> list[normalizers.Normalizer]:
    """Steps that give the text's own ``SPACE`` and ``GLUE`` another form, ``_`` and ``■``."""
    return [normalizers.Replace(SPACE, "_"), normalizers.Replace(GLUE, "■")]


def separate() -> list[normalizers.Normalizer]:
    """Steps that set a blank between all words and marks of a text without ``own_signs`` or runs of white space."""
    return [normalizers.Replace(Regex(pattern), content) for pattern, content in _SEPARATE]


def join(separated: str) -> str:
    """The text that ``separate`` was given."""
    text = re.sub(rf"(?<=[{OPENING}]) | (?=[{CLOSING}])", "", separated)
    text = re.sub(rf" ?{GLUE} ?", "", text)
    return re.sub(rf"[ {SPACE}]*{SPACE}[ {SPACE}]*", " ", text)


def guess(spaced: str) -> str:
    """The text of words and marks with a blank between each, where nothing says which were there (format 1).

    ``he said , " yes " ( twice ) .`` gives ``he said, "yes" (twice).``
    """
    text = re.sub(r" ([.,;:!?…%)\]}])", r"\1", spaced)
    text = re.sub(r"([(\[{¿¡]) ", r"\1", text)
    return re.sub(r'(["“„«]) ([^"“”„«»]*) (["”“»])', r"\1\2\3", text)
