"""mrnn against its paper's equations, computed in numpy from the model's weights, word by word."""

import numpy as np
import pytest

from rnncond.systems import find
from tests.worlds.equations import VOCAB, WIDTH, assert_follows, features, linear, make_captioner


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


def test_the_defaults_are_the_papers_sizes():
    config = find("mrnn").Config(vocab_size=VOCAB, feature_size=WIDTH)
    sizes = {"embedding": 128, "hidden": 256, "multimodal": 512}
    assert {name: getattr(config, name) for name in sizes} == sizes
    with pytest.raises(ValueError, match="hidden is 0; it must be at least 1"):
        find("mrnn").Config(vocab_size=VOCAB, feature_size=WIDTH, hidden=0)
    with pytest.raises(ValueError, match=r"dropout is 1\.0; it must be at least 0 and below 1"):
        find("mrnn").Config(vocab_size=VOCAB, feature_size=WIDTH, dropout=1.0)
