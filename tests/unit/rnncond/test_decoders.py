"""The parts of translators of one attention, each against its equation, and the configs that they refuse."""

import numpy as np
import pytest
import torch

from rnncond.contract import Source
from rnncond.decoders import AttentionalDecoder, ContextCell, ContextDecoder, Readout, make_decoder
from rnncond.systems.encdec_attention import Config
from tests.worlds.equations import (
    CELLS,
    SIZES,
    SOURCE,
    TARGET,
    additive,
    build,
    feedback_layer,
    linear,
    maxout,
    mean,
    weights,
)

ANNOTATIONS, HIDDEN = 4, SIZES["hidden"]


@pytest.mark.parametrize("pairs", [False, True], ids=["tanh", "maxout"])
@pytest.mark.parametrize("words", [0, 5], ids=["without words", "with words"])
def test_the_readout_is_its_equation(words, pairs):
    torch.manual_seed(1)
    readout = Readout(6, words, 3, pairs).double()
    w, state, word = weights(readout), torch.randn(6).double(), torch.randn(words).double() if words else None
    context = torch.randn(readout.width).double()
    total = linear(w, "state", state.numpy()) + context.numpy()
    if words:
        total = total + w["words.weight"] @ word.numpy()
    found = readout(readout.state(state), word, context).detach().numpy()
    assert found.shape == (3,)
    np.testing.assert_allclose(found, maxout(total) if pairs else np.tanh(total), rtol=0, atol=1e-12)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_context_cell_looks_with_its_last_state_and_then_moves(cell):
    """Two sentences about one source of three annotations, word by word and all at once."""
    torch.manual_seed(2)
    layer = ContextCell(Config(**{**SIZES, "cell": cell, "attention": 4}), ANNOTATIONS).double()
    w, (step, parts) = weights(layer), CELLS[cell]
    words, annotations = torch.randn(2, 3, SIZES["embedding"]).double(), torch.randn(1, 3, ANNOTATIONS).double()
    start = {name: torch.randn(2, HIDDEN).double() for name in ("h", "c")[:parts]}
    memory = layer.precompute(annotations)
    outputs, attention = layer.run(words, start, memory)
    for row in range(2):
        state = tuple(part[row].numpy() for part in start.values())
        for t, word in enumerate(words[row].numpy()):
            alpha = additive(w, "attention", state[0], annotations[0].numpy())
            read = np.concatenate([word, mean(alpha, annotations[0].numpy())])
            state = step(feedback_layer(w, "cell"), read, state)
            np.testing.assert_allclose(attention[row, t].detach(), alpha, rtol=0, atol=1e-12)
            np.testing.assert_allclose(outputs[row, t].detach(), state[0], rtol=0, atol=1e-12)
    state = start
    for t in range(3):
        state, alpha = layer.step(words[:, t], state, memory)
        torch.testing.assert_close(state["h"], outputs[:, t], rtol=0, atol=1e-12)
        torch.testing.assert_close(alpha, attention[:, t], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("score", "kind"),
    [("additive", ContextDecoder), ("general", AttentionalDecoder), ("concat", AttentionalDecoder)],
)
def test_the_score_chooses_the_decoder(score, kind):
    decoder = make_decoder(Config(**{**SIZES, "score": score}), layers=3)
    assert type(decoder) is kind
    assert len(decoder.upper.layers) == 2


@pytest.mark.parametrize("score", ["dot", "concat"])
def test_dropout_acts_on_what_the_output_layer_reads_and_not_on_what_is_fed(score):
    """Each readout is, where it is not dropped, twice what it is without dropout: so those before it were fed whole."""
    model = build("encdec_attention", score=score, cell="lstm", layers=2, attention=4, readout=50, maxout=False)
    memory = model.encode(Source(torch.tensor([SOURCE])))
    words = model.words.target(torch.tensor([TARGET]))
    expected = 2 * model.decoder.unroll(words, memory)[0]
    model.decoder.dropout.p = 0.5
    model.train()
    torch.manual_seed(1)
    unrolled, _ = model.decoder.unroll(words, memory)
    state, stepped = model.init_state(memory), []
    for word in words.unbind(1):
        readout, state, _ = model.decoder.step(word, state, memory)
        stepped.append(readout)
    for found in (unrolled, torch.stack(stepped, 1)):
        kept = found != 0
        assert 0.3 < kept.double().mean() < 0.7
        torch.testing.assert_close(found, expected * kept)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"score": "cosine"}, "score is 'cosine'; it must be one of additive, dot, general, concat"),
        ({"input_feeding": False}, "'additive' always feeds its context"),
        ({"attention": 0}, "attention is 0"),
        ({"tie_embeddings": True}, "the readout has 500 values"),
    ],
)
def test_a_wrong_config_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Config(**{**SIZES, **wrong})
