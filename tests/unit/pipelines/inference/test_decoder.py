"""The search that a recipe asks for, and captions cut into the parts that their tokens are."""

import dataclasses

import pytest

from pipelines.errors import UserError
from pipelines.inference import decoder
from rnncond.text import Vocabulary
from tests.worlds import captioner


def test_the_search_of_the_recipe_with_changes(tmp_path):
    trained = captioner.make_model(tmp_path / "model", "0" * 16)
    options = decoder.search_options(trained, beam=4)
    assert (options.beam, options.max_length, options.blocked) == (4, 6, (3,))
    assert decoder.unusual(dataclasses.asdict(options)) == {"beam": 4, "max_length": 6}
    assert decoder.unusual({"beam": 1, "blocked": [3, 4], "attention": True}) == {"beam": 1, "blocked": (3, 4)}
    with pytest.raises(UserError, match="nbest is 4, more than beam 2"):
        decoder.search_options(trained, beam=2, nbest=4)


TEXT = ["the dog's big ball, it bounces!", 'a sign says "stop here" (twice).', "unrelated words: well-known"]


@pytest.mark.parametrize("level", ["word", "bpe", "wordpiece", "unigram"])
def test_pieces_are_one_a_token_and_together_the_text(level):
    vocabulary = Vocabulary.train(TEXT * 3, level=level, size=None if level == "word" else 60)
    for text in TEXT[::2]:
        tokens = vocabulary.encode(text)
        found = decoder.pieces(vocabulary, tokens)
        assert len(found) == len(tokens)
        assert "".join(found) == vocabulary.decode(tokens)
    tokens = vocabulary.encode(TEXT[1])
    assert "".join(decoder.pieces(vocabulary, tokens)).replace(" ", "") == TEXT[1].replace(" ", "")
