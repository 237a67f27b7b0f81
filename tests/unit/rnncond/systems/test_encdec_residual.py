import numpy as np

from tests.worlds.equations import (
    SIZES,
    SOURCE,
    TARGET,
    additive,
    assert_logits,
    build,
    feedback_layer,
    gru,
    maxout,
    mean,
    output,
    read_both,
    weights,
)


def test_each_layer_but_the_first_adds_to_its_input():
    model = build("encdec_residual", layers=3, attention=4, readout=3)
    w = weights(model)
    xs = [w["words.source_embedding.weight"][word] for word in SOURCE]
    for depth in range(3):
        outputs, first = read_both("gru", w, f"encoder.{depth}", xs, SIZES["hidden"])
        xs = [x + out for x, out in zip(xs, outputs, strict=True)] if depth else outputs
    state = (np.tanh(w["start.weight"] @ first[0] + w["start.bias"]),)
    expected = []
    for word in TARGET:
        y = w["words.embedding.weight"][word]
        c = mean(additive(w, "decoder.bottom.attention", state[0], xs), xs)
        state = gru(feedback_layer(w, "decoder.bottom.cell"), np.concatenate([y, c]), state)
        deep = w["decoder.readout.state.weight"] @ state[0] + w["decoder.readout.state.bias"]
        deep = deep + w["decoder.readout.words.weight"] @ y + w["decoder.context.weight"] @ c
        expected.append(output(w, maxout(deep)))
    assert_logits(model, SOURCE, TARGET, expected)
