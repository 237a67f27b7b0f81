# Marks that look alike are what this file is about.
# ruff: noqa: RUF001, RUF002
"""One spelling for each mark, as Moses gives it (``normalize-punctuation.perl``, ``replace-unicode-punctuation.perl``).

The steps are normalizers of the ``tokenizers`` library, so that a vocabulary keeps them. In their order:

====================================================  =========================================
soft hyphens, zero-width spaces, byte-order marks      nothing
full-width forms of marks and digits, CJK marks        their ASCII forms
several spaces in a row                                one
``„ “ ” ‟ ″`` and two single quotes in a row            ``"``
``« »``, with the spaces of French or without           ``"``
`` ` ´ ‘ ’ ‚ ‛ ‹ › ′``                                 ``'``
hyphens, figure and en dashes, minus                   ``-``
em dashes                                              ``-`` between spaces
``…``                                                  ``...``
a bracket that touches a word from outside             a space between them
spaces inside brackets and before ``. , : ; ! ? %``    nothing
====================================================  =========================================

Departures from Moses, and from its port sacremoses (compared with 0.2.0):

- Moses keeps a blank before ``. , ! ?``, and takes it away before ``: ;`` and between a digit and ``%``, or where it is
  a non-breaking one. Here none of them has a blank before it, as captions and corpora write both.
- Moses keeps plain blanks inside ``« »``; here they are those of French, as non-breaking ones are.
- Moses' scripts give a closing single quote at the end of a word as ``"``; here, as in sacremoses, it is ``'``, for it
  may be an apostrophe (the dogs’ owner).
- Moses moves a quote to the other side of a comma or full stop, and joins the digits of a number with a non-breaking
  space, both as its language has it. A Text does not know its language: quotes and digits stay as they are.
- Hyphens and minus signs of other code points are hyphens here; soft hyphens and zero-width spaces go (Moses: in
  ``remove-non-printing-char.perl``); marks of full width have the space behind them that the form contains; and » with
  no space inside opens, as in German books.
"""

from __future__ import annotations

import unicodedata

from tokenizers import Regex, normalizers

CJK = {"。": ". ", "、": ", ", "「": '"', "」": '"', "《": '"', "》": '"', "【": "[", "】": "]", "〈": "<", "〉": ">"}
WIDE_SPACED = ",.:;!?"
"""Marks that no space follows in full width, where the form itself is wide."""

RUNS = (r"\s{2,}", " ")
"""Before all patterns that begin with spaces: these try a run from each of its places, in the square of its length."""
QUOTES = (
    (r"(?<!\S)«\s+", '"'),  # French, « oui », opening; then closing
    (r"\s+»(?![\p{L}\p{N}])", '"'),
    (r"['`´‘’‚‛]{2}|[„“”‟″«»]", '"'),
    (r"[`´‘’‚‛‹›′]", "'"),
)
DASHES = (
    ("[\u2010-\u2013\u2212]", "-"),
    (r"\s*[\u2014\u2015]\s*", " - "),
)
SPACES = (
    (r"(?<=[\p{L}\p{N}])(?=\()", " "),
    (r"(?<=\))(?=[\p{L}\p{N}])", " "),
    (r"(?<=\()\s+|\s+(?=\))", ""),
    (r"\s+(?=[.,:;!?%]+(?:[\s\"')]|$))", ""),
)


def steps() -> list[normalizers.Normalizer]:
    """The normalizers, for text in normal form C."""
    rules = [("[\u00ad\u200b\u2060\ufeff]", "")]
    rules += [(wide, plain) for wide, plain in (full_width() | CJK).items()]
    rules += [RUNS, *QUOTES, *DASHES, ("…", "..."), *SPACES]
    return [normalizers.Replace(Regex(pattern), content) for pattern, content in rules]


def full_width() -> dict[str, str]:
    """Full-width marks and digits and what they are in ASCII."""
    forms = {chr(code): unicodedata.normalize("NFKC", chr(code)) for code in range(0xFF01, 0xFF5F)}
    return {
        wide: f"{plain} " if plain in WIDE_SPACED else plain for wide, plain in forms.items() if not plain.isalpha()
    }
