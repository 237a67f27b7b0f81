"""Case for what a model without capitals writes: each word as it was written most often within sentences.

The statistical truecaser of Moses' scripts (Koehn et al. 2007), whose source is Lita et al. 2003, "tRuEcasIng": a word
has its most frequent form among those that do not begin a sentence, since there nearly all words have a capital; and
the first word of a sentence gets a capital, if sentences have one in the text that was learned from.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

WORD = re.compile(r"(?P<end>[.!?…][\"'»”)\]]*(?=\s))|(?P<word>[^\W\d_]+(?:['\u2019-][^\W\d_]+)*)|\d+")
"""The end of a sentence, a word with what apostrophes and hyphens join to it, or a number."""


@dataclass(frozen=True)
class Truecaser:
    """Gives text in lower case its capitals. No text gets longer or shorter by it.

    Attributes:
        forms: of the words that are not written in lower case within sentences, by the word in lower case.
        initial: whether sentences begin with a capital.
    """

    forms: dict[str, str]
    initial: bool

    @classmethod
    def learn(cls, texts: Iterable[str]) -> Truecaser:
        """From text as people wrote it."""
        counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        begins = Counter[bool]()
        for text in texts:
            for match, first in words(unicodedata.normalize("NFC", text)):
                form = match.group()
                lower = form.lower()
                if len(lower) != len(form):
                    continue
                if first:
                    begins[form[0] != lower[0]] += lower[0] != lower[0].upper()
                else:
                    counts[lower][form] += 1
        best = {lower: max(seen, key=lambda form: (seen[form], form == lower, form)) for lower, seen in counts.items()}
        forms = {lower: best[lower] for lower in sorted(best) if best[lower] != lower}
        return cls(forms, begins[True] > begins[False])

    def __call__(self, text: str) -> str:
        """``text``, which is in lower case, with its capitals."""
        pieces, end = [], 0
        for match, first in words(text):
            form = self.form(match.group())
            if first and self.initial and len(form[0].upper()) == 1:
                form = form[0].upper() + form[1:]
            pieces += [text[end : match.start()], form]
            end = match.end()
        return "".join([*pieces, text[end:]])

    def form(self, word: str) -> str:
        """A word within a sentence; of one that was never seen, each part that hyphens join."""
        if word in self.forms or "-" not in word:
            return self.forms.get(word, word)
        return "-".join(self.forms.get(part, part) for part in word.split("-"))

    def as_json(self) -> dict[str, Any]:
        return {"forms": self.forms, "initial": self.initial}


def words(text: str) -> Iterator[tuple[re.Match[str], bool]]:
    """The words of ``text``, and whether each begins a sentence."""
    first = True
    for match in WORD.finditer(text):
        if match["word"]:
            yield match, first
        first = bool(match["end"])
