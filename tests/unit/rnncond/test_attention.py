import numpy as np
import pytest
import torch
from torch.nn import functional

from rnncond.attention import AdditiveAttention, DotAttention, GeneralAttention, cheaper_projected, mean_place
from rnncond.fast.fused import StepProducts, lstm_gates
from tests.worlds.equations import softmax

MASK = torch.tensor([[True, True, True, True], [True, False, False, False], [True, True, False, False]])
"""Three examples of four places; six rows share them."""


def values(size=5):
    return torch.randn(3, 4, size, dtype=torch.float64, requires_grad=True)


def plain(attention, query, places, mask):
    """One example and one query at a time, by the formula."""
    contexts, weights = [], []
    for row in range(len(query)):
        example = row // (len(query) // len(places))
        real = slice(None) if mask is None else mask[example]
        sums = attention.key(places[example][real]) + attention.query.weight @ query[row]
        alpha = torch.zeros(places.shape[1], dtype=torch.float64)
        alpha[real] = (torch.tanh(sums) @ attention.energy.weight[0]).softmax(0)
        contexts.append(alpha @ places[example])
        weights.append(alpha)
    return torch.stack(contexts), torch.stack(weights)


@pytest.mark.parametrize("mask", [None, MASK])
@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("used", ["both", "contexts", "weights"])
def test_additive_attention_follows_its_formula_forward_and_backward(many, mask, used):
    torch.manual_seed(0)
    attention, places = AdditiveAttention(5, 5, 7, bias=True).double(), values()
    queries = [torch.randn(6, 5, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    keys = attention.keys(places)
    over = attention.over(keys, places, mask)
    wanted = [places, *queries, *attention.parameters()]

    def objective(look):
        """A function of the contexts, of the weights, or of both, different in each of three steps."""
        looks = [look(query) for query in queries]
        contexts = sum(((step + 1) * c.sin()).sum() for step, (c, _) in enumerate(looks))
        weights = sum(((step + 1) * w**2).sum() for step, (_, w) in enumerate(looks))
        return {"both": contexts + weights, "contexts": contexts, "weights": weights}[used]

    found = objective(lambda q: over(attention.query(q)) if many else attention(q, keys, places, mask))
    expected = objective(lambda q: plain(attention, q, places, mask))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found, wanted), torch.autograd.grad(expected, wanted))


def test_half_precision_keys_are_widened():
    attention = AdditiveAttention(4, 5, 7).half()
    with torch.no_grad():
        assert attention.keys(torch.full((1, 2, 5), 9.0).half()).dtype == torch.float32


def test_mean_place_leaves_padding_out():
    places = values()
    expected = torch.stack([places[0].mean(0), places[1, 0], places[2, :2].mean(0)])
    torch.testing.assert_close(mean_place(places, MASK), expected)
    torch.testing.assert_close(mean_place(places, None), places.mean(1))


def test_step_products_are_linear_steps():
    torch.manual_seed(0)
    weight = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
    offsets = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)

    def run(product):
        x = torch.ones(2, 3, dtype=torch.float64)
        for step in range(4):
            x = product(step, x).tanh()
        return torch.autograd.grad(x.sum(), [weight, offsets])

    products = StepProducts(weight, offsets)
    expected = run(lambda step, x: functional.linear(x, weight) + offsets[:, step])
    torch.testing.assert_close(run(lambda step, x: products(x)), expected)


def test_lstm_gates_are_those_of_torch():
    torch.manual_seed(0)
    cell = torch.nn.LSTMCell(3, 4).double()
    x, h, c = (torch.randn(2, size, dtype=torch.float64, requires_grad=True) for size in (3, 4, 4))
    gates = functional.linear(x, cell.weight_ih, cell.bias_ih) + functional.linear(h, cell.weight_hh, cell.bias_hh)
    wanted = [x, h, c, *cell.parameters()]

    def gradients(h, c):
        return torch.autograd.grad(h.sin().sum() + (2 * c).cos().sum(), wanted)

    torch.testing.assert_close(lstm_gates(gates, c), cell(x, (h, c)))
    with torch.no_grad():
        torch.testing.assert_close(lstm_gates(gates, c), cell(x, (h, c)))
    torch.testing.assert_close(gradients(*lstm_gates(gates, c)), gradients(*cell(x, (h, c))))


@pytest.mark.parametrize("general", [False, True])
@pytest.mark.parametrize("shared", [1, 3])
def test_scores_of_luong_equation_8(general, shared):
    """Each row against its own example's places, the masked ones left out."""
    torch.manual_seed(4)
    width = 5 if general else 4
    attention = (GeneralAttention(4, width) if general else DotAttention()).double()
    query = torch.randn(2 * shared, 4, dtype=torch.float64)
    values = torch.randn(2, 3, width, dtype=torch.float64)
    mask = torch.tensor([[True, True, True], [True, True, False]])
    keys = attention.keys(values)
    context, weights = attention(query, keys, values, mask)
    matrix = attention.key.weight.detach().numpy() if general else np.eye(4)
    for row in range(2 * shared):
        places = values[row // shared, : 3 if row < shared else 2].numpy()
        expected = softmax(np.array([query[row].numpy() @ matrix @ place for place in places]))
        np.testing.assert_allclose(weights[row, : len(places)].detach().numpy(), expected, atol=1e-12)
        assert not weights[row, len(places) :].any()
        np.testing.assert_allclose(context[row].detach().numpy(), expected @ places, atol=1e-12)
    again = attention.over(keys, values, mask)(query)
    assert torch.equal(again[0], context)
    assert torch.equal(again[1], weights)


@pytest.mark.parametrize(
    ("places", "size", "width", "words", "expected"),
    [(49, 1280, 1280, 95, True), (49, 1280, 1280, 40, False), (196, 512, 7712, 80, False), (2, 3, 5, 100, True)],
)
def test_what_is_cheaper_is_what_takes_fewer_multiplications(places, size, width, words, expected):
    matrix, vectors = np.zeros((size, width)), np.zeros((places, size))
    projected = vectors.shape[0] * matrix.size + words * places * matrix.shape[1]
    direct = words * vectors.size + words * matrix.size
    assert cheaper_projected(places, size, width, words) == (projected < direct) == expected
