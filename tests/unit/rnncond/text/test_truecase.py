"""Case is given back as most of the text that was learned from has it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnncond.text import Vocabulary
from rnncond.text.truecase import Truecaser, words

GERMAN = [
    "Ein Mann im T-Shirt geht mit Anna nach Berlin.",
    "Anna sieht einen Mann. Der Mann sieht Anna.",
    "Die NASA hat 3.50 Euro.",
]


def test_a_word_has_the_form_that_it_has_most_often_within_sentences():
    truecaser = Truecaser.learn(GERMAN)
    assert truecaser("ein mann und anna in berlin.") == "Ein Mann und Anna in Berlin."
    assert truecaser("der mann. die nasa!") == "Der Mann. Die NASA!"  # each sentence of a text begins with a capital
    # What begins sentences only has no form of its own: "Ein", "Die".
    assert truecaser.forms == {name.lower(): name for name in ("Anna", "Berlin", "Euro", "Mann", "NASA", "T-Shirt")}


def test_the_first_word_gets_a_capital_only_where_sentences_have_one():
    lower = Truecaser.learn(["a dog named Rex", "two dogs and Rex", "3 cats"])
    assert not lower.initial and lower("a cat and rex") == "a cat and Rex"
    assert Truecaser.learn(["A dog", "Two dogs", "a cat"]).initial
    assert Truecaser.learn(["狗在跑", "123"]).initial is False  # a script without case


def test_hyphens_join_known_words():
    truecaser = Truecaser.learn(["Der FC Bayern und der T-Shirt Laden"])
    assert truecaser("x fc-bayern x t-shirt") == "X FC-Bayern x T-Shirt"


def test_a_number_and_a_point_within_are_no_end_of_a_sentence():
    assert [(match.group(), first) for match, first in words("a 3.5 b. 4 c? d")] == [
        ("a", True), ("b", False), ("c", False), ("d", True)
    ]  # fmt: skip


@given(st.lists(st.text(max_size=30), max_size=5), st.text(max_size=40))
def test_only_case_changes(texts, text):
    """The words of a sentence stay where they are, for attention is drawn over them."""
    result = Truecaser.learn(texts)(text.lower())
    assert len(result) == len(text.lower()) and result.lower() == text.lower().lower()


def test_equal_counts_prefer_lower_case():
    assert Truecaser.learn(["x Sie und sie"]).forms == {}


@pytest.mark.parametrize("level", ["word", "bpe", "wordpiece", "unigram"])
def test_a_vocabulary_decodes_with_case(level):
    size = None if level == "word" else 90
    plain = Vocabulary.train(GERMAN * 3, level=level, size=size)
    cased = plain.truecasing(GERMAN)
    assert cased.decode(cased.encode(GERMAN[0])) == GERMAN[0]
    assert plain.decode(plain.encode(GERMAN[0])) == GERMAN[0].lower()
    assert (plain.lowers, cased.lowers) == (True, False)
    back = Vocabulary.from_json(cased.to_json())
    assert back == cased and back.decode(back.encode(GERMAN[1])) == GERMAN[1]
    assert "truecaser" not in json.loads(plain.to_json())  # nor another fingerprint than before there was any


def test_a_vocabulary_with_capitals_is_refused():
    with pytest.raises(ValueError, match="keeps case"):
        Vocabulary.train(GERMAN, lowercase=False).truecasing(GERMAN)
