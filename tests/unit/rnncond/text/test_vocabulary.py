# ruff: noqa: RUF001
"""Vocabularies: what is a word by hand, what comes back, and what is kept."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rnncond.text.special_tokens import BOS, EOS, PAD, UNK
from rnncond.text.vocabulary import LONGEST, Vocabulary

LEVELS = ["word", "bpe", "wordpiece", "unigram"]
CAPTIONS = ["A dog runs.", "A dog sleeps.", "The dog's owner, well-known, said: “Run!”"]
GERMAN = ["Zwei Hunde laufen über die grüne Wiese.", "Ein weißer Hund schläft."]
LONGER = [*CAPTIONS, *GERMAN] * 4


def words_of(text: str, **options) -> list[str]:
    vocabulary = Vocabulary.train([text], **options)
    return vocabulary.tokens(vocabulary.encode(text))


def test_special_ids_come_first_and_words_by_count():
    vocabulary = Vocabulary.train(CAPTIONS, punctuation="drop")
    assert vocabulary.tokens([PAD, BOS, EOS, UNK]) == ["<pad>", "<s>", "</s>", "<unk>"]
    assert vocabulary.encode("a dog") == [4, 5]
    assert len(vocabulary) == 4 + 10


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"punctuation": "split"}, ["the", "dog's", "well-known", ",", '"￭', "big", '￭"', "ball", "-", "50", "%", "!"]),
        ({"punctuation": "drop"}, ["the", "dog's", "well-known", "big", "ball", "50"]),
        ({"punctuation": "keep"}, ["the", "dog's", "well-known,", '"big"', "ball", "-", "50%!"]),
        (
            {"punctuation": "drop", "lowercase": False},
            ["The", "dog's", "well-known", "BIG", "ball", "50"],
        ),
    ],
    ids=str,
)
def test_words_by_hand(options, expected):
    assert words_of('The dog\'s  well-known,\t"BIG" ball - 50%!', **options) == expected


def test_unknown_words_are_unk_and_rare_ones_are_left_out():
    vocabulary = Vocabulary.train(CAPTIONS, punctuation="drop", min_count=2)
    assert vocabulary.tokens(range(4, len(vocabulary))) == ["a", "dog"]
    assert vocabulary.encode("a cat dog") == [4, UNK, 5]
    assert vocabulary.decode([4, UNK, 5]) == "a <unk> dog"
    assert len(Vocabulary.train(CAPTIONS, size=6)) == 6


def test_decode_stops_at_eos_and_passes_over_padding():
    vocabulary = Vocabulary.train(CAPTIONS, punctuation="drop")
    assert vocabulary.decode([BOS, 4, PAD, 5, EOS, 4, 4]) == "a dog"
    assert vocabulary.decode([EOS]) == vocabulary.decode([]) == ""


def test_an_id_outside_is_refused():
    with pytest.raises(ValueError, match="id 99 is outside"):
        Vocabulary.train(CAPTIONS).decode([4, 99])


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("text", [*CAPTIONS[:2], *GERMAN])
def test_known_text_comes_back(level, text):
    vocabulary = Vocabulary.train(LONGER, level=level, size=150)
    assert vocabulary.decode(vocabulary.encode(text)) == text.lower()
    cased = Vocabulary.train(LONGER, level=level, size=150, lowercase=False)
    assert cased.decode(cased.encode(text)) == text


@given(st.text(alphabet="abcdehikorst ", max_size=40), st.sampled_from(["bpe", "unigram", "wordpiece"]))
def test_subwords_spell_words_never_seen(text, level):
    """Every letter of the alphabet occurs inside and at the start of a word, so nothing is unknown."""
    alphabet = "abcdehikorst"
    taught = [letter for letter in alphabet] + [alphabet, alphabet[::-1]]
    vocabulary = _TAUGHT.setdefault(level, Vocabulary.train(taught, level=level, size=100))
    assert vocabulary.decode(vocabulary.encode(text)) == " ".join(text.split())


_TAUGHT: dict[str, Vocabulary] = {}


@given(st.text(max_size=40), st.sampled_from(LEVELS), st.sampled_from(["split", "drop", "keep"]))
def test_any_text_gives_ordinary_ids(text, level, punctuation):
    key = level + punctuation
    vocabulary = _TAUGHT.setdefault(key, Vocabulary.train(LONGER, level=level, size=150, punctuation=punctuation))
    ids = vocabulary.encode(text)
    assert all(UNK <= number < len(vocabulary) for number in ids)
    assert isinstance(vocabulary.decode(ids), str)


@given(st.lists(st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=8), min_size=1, max_size=6))
def test_words_of_any_script_come_back(words):
    text = " ".join(words)
    vocabulary = Vocabulary.train([text], lowercase=False)
    assert vocabulary.decode(vocabulary.encode(text)) == unicodedata.normalize("NFC", text)


SAMPLES = [
    "The ticket costs 1,000.5 euros ($5 and/or £3.50), and the train leaves at 10:30.",
    "AT&T of the U.S., e.g. on 1/2 — “quoted” ‘so’ «oui» 50 % and 50%!",
    "می\u200cخواهم कर्म\u200dय col·lecció צה״ל, 👩\u200d👧🇩🇪 ❤\ufe0f! Ça n'a pas été l'été ( non ) ?",
    "他说：“你好，世界。”（是） 안녕하세요? สวัสดี ¿Qué? ¡No! #hash @you a_b C++ 5€/3 =x <s> </s> ##",
]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("punctuation", ["split", "keep"])
@pytest.mark.parametrize("text", SAMPLES)
def test_a_sentence_comes_back_blank_for_blank(level, punctuation, text):
    vocabulary = Vocabulary.train(SAMPLES * 3, level=level, size=None if level == "word" else 400,
                                  lowercase=False, punctuation=punctuation)  # fmt: skip
    assert vocabulary.decode(vocabulary.encode(text)) == text


sentences = st.lists(
    st.sampled_from("aé1٣Ж中कไ한א_-'’·״.,;:!?%$/&#<>()[]{}\"“”«»¿…—👩👍🏽🇩\u200c\u200d\ufe0f\u0301") | st.just(" "),
    min_size=1,
    max_size=14,
).map(lambda line: " ".join("".join(line).split()))


@settings(max_examples=100)
@given(sentences.filter(bool), st.sampled_from(LEVELS), st.sampled_from(["split", "keep"]))
@example("#\u200d#", "wordpiece", "keep")
@example("<s>", "word", "keep")
@example("▁￭", "word", "split")
def test_any_sentence_comes_back_from_what_it_was_trained_on(text, level, punctuation):
    vocabulary = Vocabulary.train([text], level=level, size=None if level == "word" else 200,
                                  lowercase=False, punctuation=punctuation)  # fmt: skip
    expected = unicodedata.normalize("NFC", text).replace("▁", "_").replace("￭", "■")
    assert vocabulary.decode(vocabulary.encode(text)) == expected


@pytest.mark.parametrize("punctuation", ["split", "drop", "keep"])
def test_a_word_is_not_cut_at_what_is_not_seen(punctuation):
    for word in ("می\u200cخواهم", "ന്\u200d", "col·lecció", "צה״ל", "soft\u00adhyphen"):
        vocabulary = Vocabulary.train([f"{word} x"], punctuation=punctuation)
        assert vocabulary.tokens(vocabulary.encode(word)) == [word]


def test_a_mark_is_dropped_whole():
    assert words_of("a 👩\u200d👧 ❤\ufe0f\u200d🔥 #\ufe0f\u20e3 👍🏽 \u200b🇩🇪 b", punctuation="drop") == ["a", "b"]


def test_a_sentence_without_blanks_is_one_word_of_wordpiece():
    sentence = "คนสองคน" * (LONGEST // 7)
    vocabulary = Vocabulary.train(["คนสองคน"], level="wordpiece", size=60)
    assert vocabulary.decode(vocabulary.encode(sentence)) == sentence


OLD = json.loads((Path(__file__).parent / "data" / "vocabularies_0.1.0.json").read_text("utf-8"))


@pytest.mark.parametrize("old", OLD, ids=lambda old: "-".join(map(str, old["vocabulary"]["text"].values())))
def test_a_vocabulary_of_version_0_1_0_works_as_it_did(old):
    """What that version made of each sentence, kept with the vocabulary; format 1 is kept when it is saved again."""
    vocabulary = Vocabulary.from_json(json.dumps(old["vocabulary"]))
    for sentence in old["sentences"]:
        assert vocabulary.encode(sentence["text"]) == sentence["ids"]
        assert vocabulary.decode(sentence["ids"]) == sentence["decoded"]
    assert json.loads(vocabulary.to_json()) == old["vocabulary"]
    assert vocabulary.fingerprint == old["fingerprint"]


def test_two_spellings_of_one_letter_are_one():
    vocabulary = Vocabulary.train(["grüne"])
    assert vocabulary.encode(unicodedata.normalize("NFD", "GRÜNE")) == vocabulary.encode("grüne") == [4]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("punctuation", ["split", "keep"])
def test_text_that_spells_a_special_token_is_just_text(level, punctuation):
    text = "<s> a </s> b <unk> <pad>"
    vocabulary = Vocabulary.train([text] * 3, level=level, size=60, punctuation=punctuation)
    assert min(vocabulary.encode(text)) > UNK
    assert vocabulary.tokens(range(4)) == ["<pad>", "<s>", "</s>", "<unk>"]


@pytest.mark.parametrize("level", LEVELS)
def test_a_batch_is_its_texts(level):
    vocabulary = Vocabulary.train(LONGER, level=level, size=150)
    assert vocabulary.encode_batch([*LONGER, ""]) == [vocabulary.encode(text) for text in [*LONGER, ""]]


@pytest.mark.parametrize("level", LEVELS)
def test_what_is_kept_comes_back_equal(level):
    vocabulary = Vocabulary.train(LONGER, level=level, size=150, punctuation="split", lowercase=False)
    again = Vocabulary.from_json(vocabulary.to_json())
    assert again == vocabulary
    assert again.fingerprint == vocabulary.fingerprint
    assert hash(again) == hash(vocabulary)
    for text in LONGER:
        assert again.encode(text) == vocabulary.encode(text)
        assert again.decode(again.encode(text)) == text


def test_another_vocabulary_has_another_fingerprint():
    prints = {
        Vocabulary.train(CAPTIONS, **options).fingerprint
        for options in ({}, {"lowercase": False}, {"punctuation": "drop"}, {"punctuation": "keep"}, {"min_count": 2})
    }
    assert len(prints) == 5
    assert Vocabulary.train(CAPTIONS) != Vocabulary.train(GERMAN)
    assert Vocabulary.train(CAPTIONS) == Vocabulary.train(CAPTIONS)


def test_a_joint_vocabulary_knows_both_languages():
    joint = Vocabulary.train([*CAPTIONS, *GERMAN])
    assert UNK not in joint.encode("dog Hund")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": "letter"}, "word, bpe, wordpiece, unigram"),
        ({"punctuation": "strip"}, "split, drop, keep"),
        ({"normalise": "nfkc"}, "none, moses"),
        ({"size": 4}, "size is 4"),
        ({"min_count": 9}, "no words"),
    ],
    ids=str,
)
def test_a_vocabulary_that_cannot_be_made_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Vocabulary.train(CAPTIONS, **options)


def test_other_json_is_refused():
    content = json.loads(Vocabulary.train(CAPTIONS).to_json())
    with pytest.raises(ValueError, match="format is 3; this version reads 1 and 2"):
        Vocabulary.from_json(json.dumps(content | {"format": 3}))
    with pytest.raises(ValueError, match="not the JSON of a vocabulary"):
        Vocabulary.from_json("{}")
    for damaged in (None, {}, content["tokenizer"] | {"model": {"type": "BPE"}}):
        with pytest.raises(ValueError, match="tokenizer is damaged"):
            Vocabulary.from_json(json.dumps(content | {"tokenizer": damaged}))
