"""mrnn against its paper's equations, computed in numpy from the model's weights, word by word."""

import numpy as np

from tests.worlds.equations import WIDTH, assert_follows, features, linear, make_captioner


def test_mrnn():
    model, w = make_captioner("mrnn", multimodal=8)

    def steps(image, words):
        r = np.zeros(7)
        for word in words:
            x = linear(w, "embed_again", w["embed.weight"][word])
            r = np.maximum(w["recurrent.weight"] @ r + x, 0)
            met = linear(w, "from_words", x) + linear(w, "from_recurrent", r) + linear(w, "from_image", image)
            yield linear(w, "output", 1.7159 * np.tanh(2 / 3 * met)), None

    assert_follows(model, features(2, WIDTH), steps)
