import pytest
import torch
from torch.nn import functional

from rnncond import products


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", [(3, 7), (2, 5, 7), (0, 7)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_is_torchs_forward_and_backward(dtype, shape, bias):
    torch.manual_seed(0)
    layer = products.Linear(7, 4, bias=bias).to(dtype)
    x = torch.randn(shape, dtype=dtype, requires_grad=True)
    wanted = [x, *layer.parameters()]
    expected = functional.linear(x, layer.weight, layer.bias)
    found = layer(x)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        torch.autograd.grad(found.sin().sum(), wanted), torch.autograd.grad(expected.sin().sum(), wanted)
    )


def test_linear_takes_views_and_leaves_them_as_they_are():
    torch.manual_seed(0)
    x, weight = torch.randn(7, 6)[:, :3].t(), torch.randn(7, 5).t()
    before = x.clone(), weight.clone()
    torch.testing.assert_close(products.linear(x, weight), x @ weight.t())
    assert torch.equal(x, before[0])
    assert torch.equal(weight, before[1])


def test_float32_goes_to_onednn_where_torch_has_it(monkeypatch):
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no oneDNN")
    shapes = []
    monkeypatch.setattr(products, "_product", lambda x, weight, bias=None: shapes.append(x.shape) or x @ weight.t())
    products.linear(torch.ones(2, 3), torch.ones(4, 3))
    products.linear(torch.ones(2, 3).double(), torch.ones(4, 3).double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert products.linear(torch.ones(2, 3), torch.ones(4, 3)).dtype == torch.bfloat16
    assert shapes == [(2, 3)]
