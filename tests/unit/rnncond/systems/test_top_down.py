"""top_down against its paper's equations, computed in numpy from the model's weights, word by word."""

import numpy as np
import pytest

from rnncond.systems import find, top_down
from tests.worlds.equations import (
    PLACES,
    VOCAB,
    WIDTH,
    assert_follows,
    assert_same_gradients,
    features,
    linear,
    look,
    lstm_cell,
    make_captioner,
)


@pytest.mark.parametrize("projected", [False, True])
def test_top_down(projected, monkeypatch):
    """Also where the regions, not the contexts, are multiplied by the weights."""
    monkeypatch.setattr(top_down, "cheaper_projected", lambda *sizes: projected)
    model, w = make_captioner("top_down", attention=3)

    def steps(places, words):
        h1 = c1 = h2 = c2 = np.zeros(7)
        for word in words:
            seen = np.concatenate([h2, places.mean(0), w["embed.weight"][word]])
            h1, c1 = lstm_cell(w, "attention_cell", seen, h1, c1)
            alpha, context = look(w, h1, places)
            h2, c2 = lstm_cell(w, "language_cell", np.concatenate([context, h1]), h2, c2)
            yield linear(w, "output", h2), alpha

    assert_follows(model, features(2, PLACES, WIDTH), steps)


def test_gradients_are_the_same_whichever_way_is_cheaper(monkeypatch):
    assert_same_gradients(top_down, make_captioner("top_down", attention=3)[0], monkeypatch)


def test_the_defaults_are_the_papers_sizes():
    config = find("top_down").Config(vocab_size=VOCAB, feature_size=WIDTH)
    sizes = {"embedding": 1000, "hidden": 1000, "attention": 512}
    assert {name: getattr(config, name) for name in sizes} == sizes
    with pytest.raises(ValueError, match="hidden is 0; it must be at least 1"):
        find("top_down").Config(vocab_size=VOCAB, feature_size=WIDTH, hidden=0)
    with pytest.raises(ValueError, match=r"dropout is 1\.0; it must be at least 0 and below 1"):
        find("top_down").Config(vocab_size=VOCAB, feature_size=WIDTH, dropout=1.0)
