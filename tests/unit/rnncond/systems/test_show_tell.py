"""show_tell against its paper's equations, computed in numpy from the model's weights, word by word."""

import numpy as np

from tests.worlds.equations import WIDTH, assert_follows, features, layer, linear, lstm, make_captioner


def test_show_tell():
    model, w = make_captioner("show_tell")

    def steps(image, words):
        state = lstm(layer(w, "lstm"), linear(w, "image", image), (np.zeros(7), np.zeros(7)))
        for word in words:
            state = lstm(layer(w, "lstm"), w["embed.weight"][word], state)
            yield linear(w, "output", state[0]), None

    assert_follows(model, features(2, WIDTH), steps)
