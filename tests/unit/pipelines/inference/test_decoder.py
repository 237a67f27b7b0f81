"""The search that a recipe asks for, and captions cut into the parts that their tokens are."""

import dataclasses
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import UserError
from pipelines.inference import decoder
from rnncond.contract import Source
from rnncond.text import marks
from rnncond.text.vocabulary import Text, Vocabulary
from tests.worlds import captioner


def test_the_search_of_the_recipe_with_changes(tmp_path):
    trained = captioner.make_model(tmp_path / "model", "0" * 16)
    options = decoder.search_options(trained, beam=4)
    assert (options.beam, options.max_length, options.blocked) == (4, 6, (3,))
    assert decoder.unusual(dataclasses.asdict(options)) == {"beam": 4, "max_length": 6}
    assert decoder.unusual({"beam": 1, "blocked": [3, 4], "attention": True}) == {"beam": 1, "blocked": (3, 4)}
    with pytest.raises(UserError, match="nbest is 4, more than beam 2"):
        decoder.search_options(trained, beam=2, nbest=4)


def test_another_search_has_the_weights_that_are_prepared(tmp_path, monkeypatch):
    """Also where the first batch is the other search's, as of a server, whose requests have searches of their own."""
    prepared = []
    monkeypatch.setattr(decoder, "lean", lambda model, precision: prepared.append(precision) or model)
    trained = captioner.make_model(tmp_path / "model", "0" * 16)
    first = decoder.Decoder([trained], decoder.search_options(trained))
    source = Source(torch.randn(2, 3, trained.model.config.feature_size))
    for beam in (1, 2, 3):
        other = first.with_options(decoder.search_options(trained, beam=beam, nbest=beam))
        assert other.decode(source, other.options).tokens.shape[:2] == (2, beam)
    assert first.options.beam == decoder.search_options(trained).beam
    assert first.decode(source, first.options).tokens.shape[0] == 2
    assert prepared == ["float32"]
    assert pickle.loads(pickle.dumps(first)).models == [], "each worker prepares its own"


TEXT = ["the dog's big ball, it bounces!", 'a sign says "stop here" (twice).', "unrelated words: well-known"]


@pytest.mark.parametrize("level", ["word", "bpe", "wordpiece", "unigram"])
def test_pieces_are_one_a_token_and_together_the_text(level):
    vocabulary = Vocabulary.train(TEXT * 3, level=level, size=None if level == "word" else 60)
    for text in TEXT[::2]:
        tokens = vocabulary.encode(text)
        found = decoder.pieces(vocabulary, tokens)
        assert len(found) == len(tokens)
        assert "".join(found) == vocabulary.decode(tokens)


VOCABULARIES = [
    Vocabulary(one.tokenizer, one.text, version)
    for level in ("word", "bpe", "wordpiece", "unigram")
    for one in [Vocabulary.train(TEXT * 3, level=level, size=None if level == "word" else 60)]
    for version in (1, 2)
]


@given(st.data())
def test_pieces_of_whatever_a_model_may_write_are_its_text_without_signs(data):
    """Any tokens in any order, as no text has them; in format 1 a closing quote moves the blank of the opening one."""
    vocabulary, entries = data.draw(st.sampled_from(VOCABULARIES)), st.integers(0, 10**6)
    tokens = [token % len(vocabulary) for token in data.draw(st.lists(entries, max_size=12))]
    pieces = decoder.pieces(vocabulary, tokens)
    assert len(pieces) == len(tokens)
    assert "".join(pieces) == vocabulary.decode(tokens)
    if vocabulary.format > 1:
        assert not {marks.GLUE, marks.SPACE} & set("".join(pieces))


def test_pieces_of_marks_by_hand():
    vocabulary = Vocabulary.train(['$5 and/or ( "a b" )'], lowercase=False)
    expected = ["$", "5", " and", "/", "or", " (", ' "', "a", " b", '"', " )"]
    assert decoder.pieces(vocabulary, vocabulary.encode('$5 and/or ( "a b" )')) == expected
    first = Vocabulary(Vocabulary.train(["say “ a b ”"], punctuation="keep").tokenizer, Text(), 1)
    tokens = first.encode("say “ a b ”")
    assert decoder.pieces(first, tokens) == ["say", " “", "a", " b", "”"]
