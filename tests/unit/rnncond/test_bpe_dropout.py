"""BPE-dropout: the text stays, the cuts change as often as the paper's procedure says, and a seed gives them again."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnncond.bpe_dropout import CUTS, BpeDropout
from rnncond.contract import EOS, PAD, UNK
from rnncond.text import Vocabulary

TEXTS = [
    "zwei hunde laufen über die grüne wiese.",
    "der hund „rex“-schild, gut-bekannt - 1,5 hunde",
    "hunde, hunde!",
] * 4


def vocabulary(punctuation: str = "split", texts: list[str] = TEXTS, size: int = 120) -> Vocabulary:
    return Vocabulary.train(texts, level="bpe", size=size, punctuation=punctuation)


def cut(words: Vocabulary, text: str, probability: float, seed: int = 1, draw: int = 0) -> list[int]:
    return BpeDropout(words, probability, seed)(np.array(words.encode(text), np.int32), np.random.default_rng(draw))


@given(st.lists(st.sampled_from(" ".join(TEXTS)), max_size=40).map("".join))
@pytest.mark.parametrize("punctuation", ["split", "drop", "keep"])
def test_with_nothing_left_out_the_cut_is_that_of_the_vocabulary(punctuation, text):
    words = KNOWN[punctuation]
    assert cut(words, text, 0) == words.encode(text)


@given(st.lists(st.sampled_from(" ".join(TEXTS)), max_size=40).map("".join), st.floats(0, 0.99))
@pytest.mark.parametrize("punctuation", ["split", "drop", "keep"])
def test_a_sentence_keeps_its_text(punctuation, text, probability):
    words = KNOWN[punctuation]
    assert words.decode(cut(words, text, probability)) == words.decode(words.encode(text))


KNOWN = {punctuation: vocabulary(punctuation) for punctuation in ("split", "drop", "keep")}


def test_pairs_are_left_out_as_often_as_asked():
    p = 0.3
    words = vocabulary(texts=["abc abc", "ab ab ab", "b c", "a"] * 5, size=4 + 4 + 3)
    assert words.tokens(words.encode("abc")) == ["▁abc"]
    dropout = BpeDropout(words, p, 1)
    merges = sorted(dropout.ranks, key=dropout.ranks.__getitem__)
    assert [a + b for a, b in merges][-1] == "▁abc"
    chance = np.random.default_rng(0)
    lengths = (
        np.bincount([len(dropout.cut_anew(words.encode("abc"), chance)) for _ in range(4000)], minlength=5)[1:] / 4000
    )
    expected = probabilities(tuple("▁abc"), dropout.ranks, p)
    assert np.abs(lengths - expected).max() < 4 * np.sqrt(0.25 / 4000)


def probabilities(pieces, ranks, p) -> np.ndarray:
    """Of ending with 1, 2, ... pieces: every pair that can be joined is kept or left out in turn, and all ways are
    summed."""
    found = np.zeros(4)
    places = [place for place in range(len(pieces) - 1) if pieces[place : place + 2] in ranks]
    places.sort(key=lambda place: (ranks[pieces[place : place + 2]], place))
    for order, place in enumerate(places):  # the first that is kept is joined
        joined = (*pieces[:place], pieces[place] + pieces[place + 1], *pieces[place + 2 :])
        found += p**order * (1 - p) * probabilities(joined, ranks, p)
    found[len(pieces) - 1] += p ** len(places)
    return found


def test_a_seed_gives_the_same_cuts_again_and_another_seed_others():
    text = " ".join(TEXTS)
    assert cut(KNOWN["split"], text, 0.5) == cut(KNOWN["split"], text, 0.5)
    assert cut(KNOWN["split"], text, 0.5) != cut(KNOWN["split"], text, 0.5, seed=2)
    assert cut(KNOWN["split"], text, 0.5) != cut(KNOWN["split"], text, 0.5, draw=1)


def test_the_order_in_which_words_are_met_changes_no_cut():
    dropout, other = (BpeDropout(KNOWN["split"], 0.5, 1) for _ in range(2))
    words = [np.array(KNOWN["split"].encode(word), np.int32) for word in ("hunde", "laufen")]
    asked = [(word, draw) for word in words for draw in range(CUTS)]
    before = [dropout.cut(*each) for each in asked]
    assert [other.cut(*each) for each in reversed(asked)] == before[::-1]
    assert len({tuple(tokens) for tokens in before[:CUTS]}) > 1


def test_special_entries_and_words_with_unknown_signs_stay():
    words = KNOWN["split"]
    unknown = words.encode("hunde x漢hunde")
    assert UNK in unknown
    dropout = BpeDropout(words, 0.9, 1)
    tokens = np.array([*unknown, EOS, PAD], np.int32)
    anew = dropout(tokens, np.random.default_rng(0))
    after = tokens.tolist().index(UNK)
    assert anew[anew.index(UNK) :] == tokens[after:].tolist()
    assert dropout(np.array([], np.int32), np.random.default_rng(0)) == []


@pytest.mark.parametrize(("level", "probability", "message"), [("word", 0.1, "needs bpe"), ("bpe", 1, "below 1")])
def test_what_cannot_be_is_refused(level, probability, message):
    words = Vocabulary.train(TEXTS, level=level, size=120)
    with pytest.raises(ValueError, match=message):
        BpeDropout(words, probability, 1)
