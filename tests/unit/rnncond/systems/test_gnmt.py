import numpy as np
import pytest

from rnncond.systems.gnmt import Config
from tests.worlds.equations import (
    SIZES,
    SOURCE,
    TARGET,
    additive,
    assert_logits,
    build,
    feedback_layer,
    layer,
    lstm,
    mean,
    output,
    read,
    read_both,
    weights,
)

HIDDEN = SIZES["hidden"]


@pytest.mark.parametrize("layers", [2, 3, 5])
def test_the_context_of_the_bottom_layer_enters_all_and_residuals_start_at_the_third(layers):
    """Wu et al. 2016, section 3."""
    model = build("gnmt", layers=layers, attention=4)
    w = weights(model)
    xs = [w["words.source_embedding.weight"][word] for word in SOURCE]
    xs, state = read_both("lstm", w, "encoder", xs, HIDDEN)
    states = [state]
    for number in range(2, layers + 1):
        outputs, state = read("lstm", layer(w, f"upper_encoder.layers.{number - 2}"), xs, HIDDEN)
        xs = [x + out for x, out in zip(xs, outputs, strict=True)] if number >= 3 else outputs
        states.append(state)
    expected = []
    for word in TARGET:
        y = w["words.embedding.weight"][word]
        a = mean(additive(w, "decoder.attention", states[0][0], xs), xs)
        states[0] = lstm(feedback_layer(w, "decoder.cell"), np.concatenate([y, a]), states[0])
        z = states[0][0]
        for number in range(2, layers + 1):
            weight = layer(w, f"upper_decoder.layers.{number - 2}")
            states[number - 1] = lstm(weight, np.concatenate([z, a]), states[number - 1])
            z = states[number - 1][0] + (z if number >= 3 else 0)
        expected.append(output(w, z))
    assert_logits(model, SOURCE, TARGET, expected)


def test_one_layer_is_refused():
    with pytest.raises(ValueError, match="layers is 1; gnmt has at least 2"):
        Config(**SIZES, layers=1)
