"""encdec_image against its paper's equations, computed in numpy from the model's weights, word by word."""

import numpy as np
import pytest

from tests.worlds.equations import CELLS, WIDTH, assert_follows, features, layer, linear, make_captioner


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_encdec_image(cell):
    model, w = make_captioner("encdec_image", layers=2, cell=cell)
    step, parts = CELLS[cell]

    def steps(image, words):
        start = np.tanh(linear(w, "image", image)).reshape(parts, 2, 7)
        states = [tuple(start[:, index]) for index in (0, 1)]
        for word in words:
            x = w["embed.weight"][word]
            for index in (0, 1):
                states[index] = step(layer(w, f"decoder.layers.{index}"), x, states[index])
                x = states[index][0]
            yield linear(w, "output", x), None

    assert_follows(model, features(2, WIDTH), steps)
