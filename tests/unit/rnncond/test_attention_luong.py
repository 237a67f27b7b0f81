import numpy as np
import pytest
import torch

from rnncond.attention import DotAttention, GeneralAttention


def softmax(x):
    return np.exp(x) / np.exp(x).sum()


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
