import numpy as np
import pytest

from rnncond.systems.encdec_bidirectional import Config
from tests.worlds.equations import (
    CELLS,
    SIZES,
    SOURCE,
    TARGET,
    additive,
    assert_logits,
    build,
    feedback_layer,
    lstm,
    maxout,
    mean,
    output,
    read_both,
    softmax,
    weights,
)

HIDDEN = SIZES["hidden"]


def encode(w, cell):
    """Annotations, and tanh(W_s <-h_1) as h and, for an LSTM, c."""
    xs = [w["words.source_embedding.weight"][word] for word in SOURCE]
    annotations, first = read_both(cell, w, "encoder", xs, HIDDEN)
    start = np.tanh(w["start.weight"] @ first[0] + w["start.bias"])
    return annotations, tuple(np.split(start, CELLS[cell][1]))


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_rnnsearch(cell):
    """Bahdanau, Cho and Bengio 2015, appendix A.2."""
    model = build("encdec_bidirectional", cell=cell, attention=4, readout=3)
    w = weights(model)
    annotations, state = encode(w, cell)
    expected = []
    for word in TARGET:
        y = w["words.embedding.weight"][word]
        c = mean(additive(w, "decoder.bottom.attention", state[0], annotations), annotations)
        state = CELLS[cell][0](feedback_layer(w, "decoder.bottom.cell"), np.concatenate([y, c]), state)
        deep = w["decoder.readout.state.weight"] @ state[0] + w["decoder.readout.state.bias"]
        deep = deep + w["decoder.readout.words.weight"] @ y + w["decoder.context.weight"] @ c
        expected.append(output(w, maxout(deep)))
    assert_logits(model, SOURCE, TARGET, expected)


def test_luongs_decoder_over_both_directions():
    model = build("encdec_bidirectional", score="general", cell="lstm", readout=3, maxout=False)
    w = weights(model)
    annotations, state = encode(w, "lstm")
    readout, expected = np.zeros(3), []
    for word in TARGET:
        x = np.concatenate([w["words.embedding.weight"][word], readout])
        state = lstm(feedback_layer(w, "decoder.cell"), x, state)
        alpha = softmax(np.array([state[0] @ w["decoder.attention.key.weight"] @ h for h in annotations]))
        sums = w["decoder.readout.state.weight"] @ state[0] + w["decoder.readout.state.bias"]
        readout = np.tanh(sums + w["decoder.context.weight"] @ mean(alpha, annotations))
        expected.append(output(w, readout))
    assert_logits(model, SOURCE, TARGET, expected)


def test_dot_is_refused_as_the_annotations_are_twice_as_wide():
    with pytest.raises(ValueError, match="state of 6 values with annotations of 12; use 'general'"):
        Config(**SIZES, score="dot")
