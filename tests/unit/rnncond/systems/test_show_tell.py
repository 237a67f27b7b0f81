"""show_tell against its paper's equations, computed in numpy from the model's weights, word by word."""

import numpy as np
import pytest

from rnncond.systems import find
from tests.worlds.equations import VOCAB, WIDTH, assert_follows, features, layer, linear, lstm, make_captioner


def test_show_tell():
    model, w = make_captioner("show_tell")

    def steps(image, words):
        state = lstm(layer(w, "lstm"), linear(w, "image", image), (np.zeros(7), np.zeros(7)))
        for word in words:
            state = lstm(layer(w, "lstm"), w["embed.weight"][word], state)
            yield linear(w, "output", state[0]), None

    assert_follows(model, features(2, WIDTH), steps)


def test_the_defaults_are_the_papers_sizes():
    config = find("show_tell").Config(vocab_size=VOCAB, feature_size=WIDTH)
    sizes = {"embedding": 512, "hidden": 512}
    assert {name: getattr(config, name) for name in sizes} == sizes
    with pytest.raises(ValueError, match="hidden is 0; it must be at least 1"):
        find("show_tell").Config(vocab_size=VOCAB, feature_size=WIDTH, hidden=0)
    with pytest.raises(ValueError, match=r"dropout is 1\.0; it must be at least 0 and below 1"):
        find("show_tell").Config(vocab_size=VOCAB, feature_size=WIDTH, dropout=1.0)
