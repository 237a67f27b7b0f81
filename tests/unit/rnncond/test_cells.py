import pytest
import torch
from torch import nn
from torch.autograd import gradcheck

from rnncond.cells import Stack, advance, make_layer, real_lengths, reverse, run_layer, stack_states
from rnncond.fast.fused import gru_gates

CELLS = ["lstm", "gru"]
TORCH = {"lstm": nn.LSTM, "gru": nn.GRU}


@pytest.fixture(autouse=True)
def float64():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(2)
    yield
    torch.set_default_dtype(before)


def start(cell, rows, layers, hidden):
    return {part: torch.randn(rows, layers, hidden) for part in (("h", "c") if cell == "lstm" else ("h",))}


def close(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("cell", CELLS)
def test_a_stack_is_torchs_deep_layer(cell):
    stack, deep = Stack(cell, 3, 4, 2), TORCH[cell](3, 4, num_layers=2, batch_first=True)
    for depth, layer in enumerate(stack.layers):
        for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(deep, f"{kind}_l{depth}").data.copy_(getattr(layer, f"{kind}_l0"))
    x, state = torch.randn(5, 6, 3), start(cell, 5, 2, 4)
    parts = [part.transpose(0, 1).contiguous() for part in state.values()]
    expected, final = deep(x, tuple(parts) if cell == "lstm" else parts[0])
    outputs, after = stack.run(x, state)
    close(outputs, expected)
    close(after["h"].transpose(0, 1), final[0] if cell == "lstm" else final)


@pytest.mark.parametrize("residual", [None, 2, 3])
@pytest.mark.parametrize("cell", CELLS)
def test_running_a_stack_is_stepping_it(cell, residual):
    stack = Stack(cell, 3, 4, 3, residual_from=residual, context=2)
    x, context, before = torch.randn(5, 6, 3), torch.randn(5, 6, 2), start(cell, 5, 3, 4)
    outputs, after = stack.run(x, before, context=context)
    state = before
    for t in range(6):
        out, state = stack.step(x[:, t], state, stack.context_gates(context[:, t]))
        close(out, outputs[:, t])
    for part in state:
        close(state[part], after[part])


def test_residuals_add_what_a_layer_reads():
    stack = Stack("gru", 4, 4, 2, residual_from=1)
    x = torch.randn(2, 3, 4)
    middle = stack.layers[0](x)[0] + x
    close(stack.run(x)[0], stack.layers[1](middle)[0] + middle)


def test_no_layers_change_nothing():
    stack, x, state = Stack("lstm", 4, 4, 0), torch.randn(2, 3, 4), start("lstm", 2, 0, 4)
    assert stack.run(x, state) == (x, state)
    assert stack.step(x[:, 0], state)[1] is state


def test_dropout_acts_on_what_each_layer_reads_and_not_on_the_recurrence():
    stack = Stack("lstm", 4, 4, 2, dropout=0.999999)
    x, silent = torch.randn(2, 3, 4), torch.zeros(2, 3, 4)
    dropped, _ = stack.train().run(x)
    assert not torch.allclose(dropped, stack.eval().run(x)[0])
    close(dropped, stack.layers[1](silent)[0])


def test_gates_are_those_of_torchs_cells():
    layers = {cell: make_layer(cell, 3, 4) for cell in CELLS}
    x, h, c = torch.randn(5, 3), torch.randn(5, 4), torch.randn(5, 4)
    for cell, layer in layers.items():
        w, u, b, a = layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, layer.bias_hh_l0
        state = {"h": h, "c": c} if cell == "lstm" else {"h": h}
        after = advance(x @ w.T + b, h @ u.T + a, state)
        if cell == "lstm":
            expected_h, expected_c = torch.lstm_cell(x, (h, c), w, u, b, a)
            close(after["c"], expected_c)
        else:
            expected_h = torch.gru_cell(x, h, w, u, b, a)
        close(after["h"], expected_h)


def test_the_backward_of_gru_gates_is_its_slope():
    shapes = [(3, 6), (3, 6), (3, 2)]
    assert gradcheck(gru_gates, [torch.randn(shape, requires_grad=True) for shape in shapes])


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_a_layer_reads_real_words_only(cell, bidirectional):
    layer, x = make_layer(cell, 3, 4, bidirectional), torch.randn(3, 5, 3)
    lengths = torch.tensor([2, 5, 1])
    outputs, final = run_layer(layer, x, lengths=lengths)
    assert outputs.shape == (3, 5, 8 if bidirectional else 4)
    for row, length in enumerate(lengths):
        alone, last = run_layer(layer, x[row : row + 1, :length])
        close(outputs[row, :length], alone[0])
        assert not outputs[row, length:].any()
        for part in final:
            close(final[part][row], last[part][0])


def test_the_state_of_both_directions_is_the_backward_one_at_the_first_word():
    outputs, final = run_layer(make_layer("gru", 3, 4, bidirectional=True), torch.randn(2, 5, 3))
    close(final["h"], outputs[:, 0, 4:])


def test_lengths_come_from_the_mask():
    assert real_lengths(None) is None
    assert real_lengths(torch.ones(2, 3, dtype=torch.bool)) is None
    mask = torch.tensor([[True, True, False], [True, False, False]])
    assert real_lengths(mask).tolist() == [2, 1]


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ([[True, True], [False, False]], "source sentence 1 of the batch has no words"),
        ([[True, True], [False, True]], "padding before a word; pad on the right"),
    ],
)
def test_a_mask_that_cannot_be_read_is_refused(mask, message):
    with pytest.raises(ValueError, match=message):
        real_lengths(torch.tensor(mask))


def test_reversal_leaves_padding_where_it_is():
    tokens = torch.tensor([[4, 5, 6, 2], [7, 2, 0, 0]])
    assert reverse(tokens, torch.tensor([4, 2])).tolist() == [[2, 6, 5, 4], [2, 7, 0, 0]]
    assert reverse(tokens[:1], None).tolist() == [[2, 6, 5, 4]]


def test_a_pile_has_rows_on_axis_0():
    layers = [{"h": torch.full((5, 2), float(depth))} for depth in range(3)]
    stacked = stack_states(layers)["h"]
    assert stacked.shape == (5, 3, 2)
    assert stacked[0, :, 0].tolist() == [0, 1, 2]
