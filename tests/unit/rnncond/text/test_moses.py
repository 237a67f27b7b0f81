# ruff: noqa: RUF001
"""Marks are spelt in one way: what Moses' scripts say by hand, and where this departs from them."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import normalizers

from rnncond.text import Vocabulary, moses


def pattern_of(step):
    return json.loads(step.__getstate__())["pattern"]["Regex"]


NORMALISE = normalizers.Sequence(moses.steps()).normalize_str
WITH_RUNS = normalizers.Sequence([step for step in moses.steps() if pattern_of(step) != moses.RUNS[0]]).normalize_str
"""The steps but for the one that makes several spaces one."""


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        ("„Ja“, sagte er.", '"Ja", sagte er.'),
        ("“Yes”, she said.", '"Yes", she said.'),
        ("ein „Open“-Schild", 'ein "Open"-Schild'),
        ("« Oui » , dit-il", '"Oui", dit-il'),
        ("er sagte »ja« und ging", 'er sagte "ja" und ging'),
        ("``quoted''", '"quoted"'),
        ("a man\u2019s dog, the dogs’ owner", "a man's dog, the dogs' owner"),
        ("l´ami ‚einfach‘ don`t", "l'ami 'einfach' don't"),
        ("well\u2010known, 5–6, −3", "well-known, 5-6, -3"),
        ("ein Hund — nass—schläft", "ein Hund - nass - schläft"),
        ("wait … what…", "wait... what..."),
        ("eine Frau , die lacht .", "eine Frau, die lacht."),
        ("Quoi ? Non ! Si ; et : 50 %", "Quoi? Non! Si; et: 50%"),
        ("Quoi\u00a0? 50\u202f%", "Quoi? 50%"),
        ("Hund(e) ( zwei ) .", "Hund (e) (zwei)."),
        ("(red)ball", "(red) ball"),
        ("你好，世界。１２％", "你好, 世界. 12%"),
        ("soft\u00adhyphen zero\u200bwidth\ufeff", "softhyphen zerowidth"),
        ("it costs .5 or 1.5, A.B. said: 10:30", "it costs .5 or 1.5, A.B. said: 10:30"),
        ('he said, "yes."', 'he said, "yes."'),
        ("Ｆull-width letters stay, é and ½ too", "Ｆull-width letters stay, é and ½ too"),
    ],
)
def test_marks_by_hand(text, normalised):
    assert NORMALISE(text).strip() == normalised


@settings(max_examples=100)
@given(st.text("ab1 „“”‘’'\"«»`´–—…().,!?%，。\u00a0\u00ad", max_size=12))
def test_no_other_spelling_is_left(text):
    left = set(NORMALISE(text)) & set("„“”‘’«»`´–—…，。\u00ad")
    assert not left


@pytest.mark.parametrize("gap", [" ", "\u3000", "\u200b \t", "\u00ad\n"])
def test_no_pattern_tries_a_long_run_of_spaces(gap):
    runs = gap * 500
    text = f"a{runs}.{runs}—{runs}({runs}b{runs}» 。{runs}!"
    for step in moses.steps():
        pattern = pattern_of(step)
        if r"\s" in pattern and pattern != moses.RUNS[0]:
            assert not re.search(r"\s{3}", text), pattern
        text = step.normalize_str(text)
    assert text.split() == ["a.", "-", '(b".!']


@settings(max_examples=100)
@given(st.text("ab1 \t\n\u3000«»'—().!%，。", max_size=16))
def test_several_spaces_are_as_one(text):
    assert NORMALISE(text).split() == WITH_RUNS(text).split()


@pytest.mark.parametrize("level", ["word", "bpe", "wordpiece", "unigram"])
def test_both_spellings_are_one_text_also_after_saving(level):
    plain = '"Ja", sagte der Mann - ein Hund\'s Freund...'
    vocabulary = Vocabulary.train([plain] * 3, level=level, size=80, normalise="moses")
    again = Vocabulary.from_json(vocabulary.to_json())
    fancy = "„Ja“ , sagte der Mann — ein Hund’s\u00a0Freund…"
    assert again.encode(fancy) == vocabulary.encode(plain)
    assert again.text.normalise == "moses"
    untouched = Vocabulary.train([plain] * 3, level=level, size=80)
    assert untouched.encode(fancy) != untouched.encode(plain)


def test_a_normalised_mark_cannot_become_a_special_entry():
    vocabulary = Vocabulary.train(["〈s> a 〈/s>"] * 3, normalise="moses")
    assert min(vocabulary.encode("〈s> a 〈/s>")) > 3


def test_a_vocabulary_from_before_there_was_a_choice_is_read():
    vocabulary = Vocabulary.train(["“a” dog"])
    content = json.loads(vocabulary.to_json())
    del content["text"]["normalise"]
    assert Vocabulary.from_json(json.dumps(content)) == vocabulary
