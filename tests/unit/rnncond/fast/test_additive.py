"""Additive attention's fractions at the limits of float32 and in parts; its formula is tried in ``test_attention``."""

import pytest
import torch

from rnncond.attention import AdditiveAttention
from rnncond.fast.additive import LARGEST
from tests.unit.rnncond.test_attention import MASK, values


def test_additive_attention_works_in_parts(monkeypatch):
    torch.manual_seed(0)
    attention, places = AdditiveAttention(5, 5, 7).double(), values()
    query = torch.randn(6, 5, dtype=torch.float64)

    def gradients():
        context, weights = attention(query, attention.keys(places), places, MASK)
        return torch.autograd.grad((context.sin().sum() + weights.square().sum()), [places, *attention.parameters()])

    at_once = gradients()
    monkeypatch.setattr("rnncond.fast.additive.SCRATCH", 60)  # of 2 rows x 4 places x 7: one example at a time
    torch.testing.assert_close(gradients(), at_once)


@pytest.mark.parametrize("key", [-3 * LARGEST, -LARGEST, 0.0, LARGEST, 3 * LARGEST])
@pytest.mark.parametrize("query", [-3 * LARGEST, -LARGEST, 0.0, LARGEST, 3 * LARGEST])
def test_additive_attention_at_its_limits(key, query):
    """In float32 scores stay finite and, while either is in range, those of tanh."""
    attention = AdditiveAttention(1, 1, 1)
    for parameter in attention.parameters():
        torch.nn.init.ones_(parameter)
    places = torch.tensor([[[key], [0.3]]], requires_grad=True)
    query = torch.tensor([[query]], requires_grad=True)
    context, weights = attention(query, attention.keys(places), places, None)
    if abs(key) <= LARGEST and abs(query.item()) <= LARGEST:
        expected = torch.tanh(query + places[0, :, 0]).softmax(1)
        torch.testing.assert_close(weights, expected)
    gradients = torch.autograd.grad(context.sum() + weights.square().sum(), [places, query])
    assert all(gradient.isfinite().all() for gradient in gradients)
