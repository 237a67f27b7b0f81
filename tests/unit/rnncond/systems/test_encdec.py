import numpy as np
import pytest
import torch

from rnncond.contract import Source
from rnncond.systems.encdec import Config
from tests.worlds.equations import (
    CELLS,
    SIZES,
    SOURCE,
    TARGET,
    assert_logits,
    build,
    gru,
    layer,
    maxout,
    output,
    read,
    weights,
)

HIDDEN = SIZES["hidden"]


@pytest.mark.parametrize("reverse", [True, False])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_the_states_of_each_layer_pass_to_the_decoder(cell, reverse):
    """Sutskever, Vinyals and Le 2014."""
    model = build("encdec", layers=2, cell=cell, reverse_source=reverse)
    w = weights(model)
    xs = [w["words.source_embedding.weight"][word] for word in (SOURCE[::-1] if reverse else SOURCE)]
    states = []
    for depth in range(2):
        xs, state = read(cell, layer(w, f"encoder.layers.{depth}"), xs, HIDDEN)
        states.append(state)
    expected = []
    for word in TARGET:
        x = w["words.embedding.weight"][word]
        for depth in range(2):
            states[depth] = CELLS[cell][0](layer(w, f"decoder.layers.{depth}"), x, states[depth])
            x = states[depth][0]
        expected.append(output(w, x))
    assert_logits(model, SOURCE, TARGET, expected)


def test_the_context_starts_the_decoder_and_is_fed_to_cell_and_output():
    """Cho et al. 2014, appendix A."""
    model = build("encdec", layers=1, cell="gru", feed_context=True, reverse_source=False)
    w = weights(model)
    xs = [w["words.source_embedding.weight"][word] for word in SOURCE]
    _, (summary,) = read("gru", layer(w, "encoder.layers.0"), xs, HIDDEN)
    c = np.tanh(w["summary.weight"] @ summary + w["summary.bias"])
    s = np.tanh(w["start.weight"] @ c + w["start.bias"])
    expected = []
    for word in TARGET:
        y = w["words.embedding.weight"][word]
        (s,) = gru(layer(w, "decoder.layers.0"), np.concatenate([y, c]), (s,))
        deep = w["deep_state.weight"] @ s + w["deep_state.bias"]
        deep = deep + w["deep_word.weight"] @ y + w["deep_context.weight"] @ c
        expected.append(output(w, maxout(deep)))
    assert_logits(model, SOURCE, TARGET, expected)


def test_only_real_words_are_reversed():
    model = build("encdec", layers=1)
    padded = torch.tensor([[5, 4, 9, 2, 0, 0]])
    mask = padded != 0
    alone = model.encode(Source(torch.tensor([SOURCE])))
    for name, part in model.encode(Source(padded, mask)).items():
        torch.testing.assert_close(part, alone[name], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"cell": "rnn"}, "cell is 'rnn'; it must be one of lstm, gru"),
        ({"layers": 0}, "layers is 0"),
        ({"dropout": 1.0}, r"dropout is 1\.0"),
        ({"feed_context": True, "hidden": 7}, "hidden is 7; .* must be even"),
        ({"share_embeddings": True}, "source_vocab_size is 11 and vocab_size is 10"),
        ({"tie_embeddings": True}, "embedding is 5 and the readout has 6 values"),
        ({"tie_embeddings": True, "feed_context": True}, "embedding is 5 and the readout has 3 values"),
    ],
)
def test_a_wrong_config_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Config(**{**SIZES, **wrong})
