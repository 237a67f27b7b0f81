"""Products by oneDNN and by torch beside the same in double, whatever the processor has."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from rnncond.fast import onednn


@pytest.fixture(params=[float("inf"), 0], ids=["by oneDNN", "by torch"], autouse=True)
def chosen(request, monkeypatch):
    monkeypatch.setattr(onednn, "packed_rows", lambda device: request.param)


@pytest.mark.parametrize("rows", [0, 1, 9, 64])
@pytest.mark.parametrize("with_bias", [True, False])
def test_a_product_is_that_of_the_definition(rows, with_bias):
    torch.manual_seed(0)
    x, weight, bias = torch.randn(rows, 40), torch.randn(21, 40), torch.randn(21) if with_bias else None
    expected = x.double() @ weight.double().t() + (0 if bias is None else bias.double())
    torch.testing.assert_close(onednn.product(x, weight, bias).double(), expected, rtol=1e-5, atol=1e-5)


def test_a_product_of_what_is_transposed_or_cut_out():
    torch.manual_seed(0)
    x, weight = torch.randn(40, 9).t(), torch.randn(40, 50)[:, 7:28].t()
    expected = x.double() @ weight.double().t()
    torch.testing.assert_close(onednn.product(x, weight).double(), expected, rtol=1e-5, atol=1e-5)


def test_a_repeated_product_has_the_gradient_of_its_rows():
    """d sum(g * x W^T) / dx = g W."""
    torch.manual_seed(0)
    x, weight, grad = torch.randn(9, 40, requires_grad=True), torch.randn(21, 40), torch.randn(9, 21)
    repeated = onednn.RepeatedProduct(weight)
    found = repeated(x)
    torch.testing.assert_close(found.double(), x.double() @ weight.double().t(), rtol=1e-5, atol=1e-5)
    (slope,) = torch.autograd.grad(found, x, grad)
    torch.testing.assert_close(slope.double(), grad.double() @ weight.double(), rtol=1e-5, atol=1e-5)


def test_a_packed_matrix_multiplies_any_number_of_rows():
    torch.manual_seed(0)
    weight, bias = torch.randn(21, 40), torch.randn(21)
    multiply = onednn.packed(weight, bias)
    for rows in (1, 8, 13):
        x = torch.randn(rows, 40)
        torch.testing.assert_close(multiply(x), functional.linear(x, weight, bias), rtol=1e-4, atol=1e-5)
