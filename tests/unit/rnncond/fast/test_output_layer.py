import pytest
import torch
from torch.nn import functional

from rnncond.fast import onednn, output_layer


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", [(3, 7), (2, 5, 7), (0, 7)])
@pytest.mark.parametrize("words", [32, 37])
@pytest.mark.parametrize("most_rows", [0, float("inf")], ids=["by torch", "by oneDNN"])
def test_the_output_layer_is_torchs_forward_and_backward(dtype, shape, words, most_rows, monkeypatch):
    monkeypatch.setattr(onednn, "packed_rows", lambda device: most_rows)
    torch.manual_seed(0)
    layer = output_layer.OutputLayer(7, words).to(dtype)
    x = torch.randn(shape, dtype=dtype, requires_grad=True)
    wanted = [x, *layer.parameters()]
    expected = functional.linear(x, layer.weight, layer.bias)
    found = layer(x)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        torch.autograd.grad(found.sin().sum(), wanted), torch.autograd.grad(expected.sin().sum(), wanted)
    )


def test_each_row_of_mkls_output_begins_at_a_line_of_the_cache(monkeypatch):
    monkeypatch.setattr(output_layer, "always_faster", lambda x: False)
    logits = output_layer.output_product(torch.ones(2, 3, 5), torch.ones(37, 5), torch.zeros(37))
    assert logits.shape == (2, 3, 37)
    assert logits.stride() == (144, 48, 1)


@pytest.mark.parametrize(
    ("half", "supported"), [(torch.bfloat16, False), (torch.bfloat16, True), (torch.float16, None)], ids=str
)
def test_an_lstm_in_half_precision_whatever_the_processor_has(monkeypatch, half, supported):
    if supported and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("this processor has no bfloat16")
    if supported is not None:
        monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: supported)
    torch.manual_seed(0)
    layer, x = output_layer.LSTM(3, 4), torch.randn(5, 2, 3)
    expected, _ = layer(x)
    with torch.autocast("cpu", half):
        found, _ = layer(x)
    torch.testing.assert_close(found.float(), expected, atol=0.02, rtol=0.02)
