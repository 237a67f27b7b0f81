"""top_down against its paper's equations, computed in numpy from the model's weights, word by word."""

import numpy as np
import pytest

from rnncond.systems import top_down
from tests.worlds.equations import (
    PLACES,
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
