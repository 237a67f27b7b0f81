import numpy as np
import pytest

from tests.worlds.equations import (
    CELLS,
    SIZES,
    SOURCE,
    TARGET,
    additive,
    assert_logits,
    build,
    feedback_layer,
    gru,
    layer,
    maxout,
    mean,
    output,
    read,
    softmax,
    weights,
)

HIDDEN = SIZES["hidden"]


def encode(w, cell, layers):
    xs, states = [w["words.source_embedding.weight"][word] for word in SOURCE], []
    for depth in range(layers):
        xs, state = read(cell, layer(w, f"encoder.layers.{depth}"), xs, HIDDEN)
        states.append(state)
    return xs, states


@pytest.mark.parametrize("layers", [1, 2])
def test_the_additive_score_asks_with_the_last_state(layers):
    """Bahdanau, Cho and Bengio 2015; a second layer reads the first's states."""
    model = build("encdec_attention", layers=layers, attention=4, readout=3)
    w = weights(model)
    annotations, states = encode(w, "gru", layers)
    expected = []
    for word in TARGET:
        y = w["words.embedding.weight"][word]
        c = mean(additive(w, "decoder.bottom.attention", states[0][0], annotations), annotations)
        states[0] = gru(feedback_layer(w, "decoder.bottom.cell"), np.concatenate([y, c]), states[0])
        for depth in range(1, layers):
            states[depth] = gru(layer(w, f"decoder.upper.layers.{depth - 1}"), states[depth - 1][0], states[depth])
        deep = w["decoder.readout.state.weight"] @ states[-1][0] + w["decoder.readout.state.bias"]
        deep = deep + w["decoder.readout.words.weight"] @ y + w["decoder.context.weight"] @ c
        expected.append(output(w, maxout(deep)))
    assert_logits(model, SOURCE, TARGET, expected)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("score", ["dot", "general", "concat"])
def test_the_other_scores_ask_with_the_new_state_and_feed_the_readout(score, cell):
    """Luong, Pham and Manning 2015, two layers."""
    model = build("encdec_attention", score=score, cell=cell, layers=2, attention=4, readout=3, maxout=False)
    w, step = weights(model), CELLS[cell][0]
    annotations, states = encode(w, cell, 2)
    readout, expected = np.zeros(3), []
    for word in TARGET:
        y = w["words.embedding.weight"][word]
        states[0] = step(feedback_layer(w, "decoder.cell"), np.concatenate([y, readout]), states[0])
        states[1] = step(layer(w, "decoder.upper.layers.0"), states[0][0], states[1])
        s = states[1][0]
        if score == "concat":
            alpha = additive(w, "decoder.attention", s, annotations)
        else:
            matrix = w["decoder.attention.key.weight"] if score == "general" else np.eye(HIDDEN)
            alpha = softmax(np.array([s @ matrix @ h for h in annotations]))
        joined = np.concatenate([w["decoder.context.weight"], w["decoder.readout.state.weight"]], 1)
        c = mean(alpha, annotations)
        readout = np.tanh(joined @ np.concatenate([c, s]) + w["decoder.readout.state.bias"])
        expected.append(output(w, readout))
    assert_logits(model, SOURCE, TARGET, expected)


def test_without_input_feeding_the_cell_reads_words_alone():
    model = build("encdec_attention", score="dot", cell="lstm", readout=3, maxout=False, input_feeding=False)
    w = weights(model)
    annotations, (state,) = encode(w, "lstm", 1)
    expected = []
    for word in TARGET:
        state = CELLS["lstm"][0](layer(w, "decoder.stack.layers.0"), w["words.embedding.weight"][word], state)
        c = mean(softmax(np.array([state[0] @ h for h in annotations])), annotations)
        sums = w["decoder.readout.state.weight"] @ state[0] + w["decoder.readout.state.bias"]
        expected.append(output(w, np.tanh(sums + w["decoder.context.weight"] @ c)))
    assert_logits(model, SOURCE, TARGET, expected)
