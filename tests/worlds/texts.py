"""Files of text, and what a corpus makes of them."""

from __future__ import annotations

import pytest

from pipelines.errors import UserError
from pipelines.inputs.corpus import Corpus

EN, DE = ["a dog", "", "two cats\u2028run"], ["ein Hund", "", "zwei Katzen"]


def read(*arguments, **settings) -> list[tuple]:
    corpus = Corpus(*map(str, arguments), **settings)
    return [tuple(row.values()) for chunk in corpus.chunks() for row in chunk.to_pylist()]


def lines(path, sentences):
    path.write_text("".join(f"{sentence}\n" for sentence in sentences), encoding="utf-8")
    return path


def refused(*arguments, **settings) -> str:
    with pytest.raises(UserError) as error:
        read(*arguments, **settings)
    return str(error.value)


EXPECTED = [(f"{n:09d}", *pair) for n, pair in enumerate(zip(EN, DE, strict=True))]
MARK = "\ufeff".encode()
