"""A model's steps by lean products, beside the same steps in float32."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from rnncond.attention import AdditiveAttention
from rnncond.contract import Source, exact_of
from rnncond.fast import lean as module
from rnncond.fast.lean import LeanWeight, lean, screen, supported
from rnncond.fast.output_layer import output_product
from rnncond.text.special_tokens import BOS
from tests.contract.cases import Case
from tests.contract.test_laws import CASES

SIZES = {"embedding": 32, "hidden": 32, "attention": 24, "readout": 32, "multimodal": 40}
WORDS = [5, 7, 4, 6]


@pytest.fixture(params=[64, 0, float("inf")], ids=["few rows by oneDNN", "none", "all"])
def rows(request, monkeypatch):
    monkeypatch.setattr(module, "packed_rows", lambda device: request.param)


def logits_of(case: Case, precision: str, wider: bool = True) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The logits of three steps by the model itself and by its lean copy, and what the latter give as exact."""
    model = case.build(**{name: SIZES[name] for name in SIZES if wider and name in case.config}).eval()
    source = case.sources(len(WORDS), torch.Generator().manual_seed(2))
    if source.values.is_floating_point():
        source = Source(source.values.float().clamp(-3, 3), source.mask)
    results, again = [], []
    with torch.no_grad():
        for stepper in (model, lean(model, precision)):
            memory = stepper.encode(source)
            state, words, found = model.init_state(memory), torch.full((len(WORDS),), BOS), []
            for _ in range(3):
                logits, state, _ = stepper.step(words, state, memory)
                found.append(logits)
                if exact := exact_of(logits):
                    again.append(exact(torch.arange(logits.shape[1]).expand(logits.shape)))
                words = torch.tensor(WORDS)
            results.append(torch.stack(found))
    return results[0], results[1], torch.stack(again) if again else torch.empty(0)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_packed_float32_is_float32(case, rows):
    exact, found, _ = logits_of(case, "float32")
    torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(not supported("int8", torch.device("cpu")), reason="no int8 here")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_int8_is_near_and_gives_the_exact_logits_where_asked(case, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    exact, found, again = logits_of(case, "int8")
    assert not torch.equal(found, exact)
    assert (found - exact).square().mean().sqrt() < 0.1 * exact.std()
    torch.testing.assert_close(again, exact, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(not supported("bfloat16", torch.device("cpu")), reason="no bfloat16 here")
def test_the_words_that_bfloat16_leaves_equal_have_exact_logits():
    """Neighbours of 8 bits between 256 and 512 are 2 apart: 300.25 and 300.75 are equal in bfloat16."""
    x, weight = torch.tensor([[1.0]]), torch.tensor([[300.25], [300.75], [1.0]])
    found = output_product(x, LeanWeight(weight, "bfloat16"), torch.zeros(3))
    assert found[0, 0] == found[0, 1]
    exact = exact_of(found)
    assert exact is not None
    assert exact(torch.tensor([[0, 1]])).tolist() == [[300.25, 300.75]]


@pytest.mark.skipif(not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="no bfloat16 here")
@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_lstms_encode_in_bfloat16_and_give_float32(precision, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    case = next(case for case in CASES if case.id.startswith("encdec_bidirectional") and "lstm" in case.id)
    model = case.build(**{name: size for name, size in SIZES.items() if name in case.config}).eval()
    source = case.sources(len(WORDS), torch.Generator().manual_seed(2))
    with torch.no_grad():
        exact, found = model.encode(source), lean(model, precision).encode(source)
    off = 0.0
    for name, values in exact.items():
        assert found[name].dtype is values.dtype
        torch.testing.assert_close(found[name], values, rtol=2**-5, atol=2**-5)
        off = max(off, float((found[name] - values).abs().max())) if values.is_floating_point() else off
    assert off > 1e-4


@pytest.mark.parametrize("biased", [True, False])
def test_exact_logits_are_the_products_of_their_rows_and_words(biased):
    torch.manual_seed(0)
    x, weight = torch.randn(6, 5), torch.randn(9, 5)
    bias = torch.randn(9) if biased else None
    logits = torch.zeros(6, 9)
    exact = exact_of(screen(logits, x, weight, bias))
    assert exact is not None and not logits.any()
    words = torch.randint(9, (6, 3))
    expected = (x.double() @ weight.double().T + (0 if bias is None else bias.double())).gather(1, words)
    torch.testing.assert_close(exact(words), expected.float())
    without_bias = torch.zeros(()) if bias is None else bias[words]
    torch.testing.assert_close(module.products_of.function(x, weight, words), expected.float() - without_bias)


def test_packing_for_one_engine_leaves_torchs_own_as_it_was():
    before = torch.backends.quantized.engine
    with pytest.raises(RuntimeError), module.engine("onednn"):
        raise RuntimeError
    assert torch.backends.quantized.engine == before


@pytest.mark.parametrize("narrow", [True, False], ids=["seven bits of x", "eight, if there is VNNI"])
def test_int8_is_as_near_as_its_steps(narrow, monkeypatch):
    """By the largest value of a row of W and of x: each is off by half a step at most (of x, a 127th or a 255th)."""
    if narrow:
        monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    steps = 127 if not torch.cpu._is_vnni_supported() else 255
    torch.manual_seed(0)
    x, weight, bias = torch.randn(6, 40), torch.randn(9, 40), torch.randn(9)
    found = output_product(x, LeanWeight(weight, "int8"), bias)
    exact = functional.linear(x.double(), weight.double(), bias.double())
    step_w, step_x = weight.abs().amax(1) / 127, (x.max() - x.min()) / steps
    # The zero of x is moved to a whole step, which may cost half a step more at the ends.
    bound = (x.abs() @ torch.ones(40, 9)) * step_w / 2 + weight.abs().sum(1) * step_x
    assert ((found - exact).abs() <= bound).all()


@pytest.mark.parametrize("has", [True, False])
def test_beside_an_output_layer_in_int8_products_are_bfloat16_or_float32(has, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has)
    torch.manual_seed(0)
    x, weight, bias = torch.randn(6, 40), torch.randn(9, 40), torch.randn(9)
    found = functional.linear(x, LeanWeight(weight, "int8"), bias)
    off = (found - functional.linear(x.double(), weight.double(), bias.double())).abs().max()
    # Of 40 products of about 1, each with two factors rounded at 8 bits, or at 24.
    assert 1e-4 < off < 0.2 if has else off < 1e-4
    assert exact_of(found) is None


def test_bfloat16_rounds_to_eight_bits():
    torch.manual_seed(0)
    x, weight, bias = torch.randn(6, 40), torch.randn(9, 40), torch.randn(9)
    found = functional.linear(x, LeanWeight(weight, "bfloat16"), bias)
    assert found.dtype is torch.float32
    expected = functional.linear(x.bfloat16().double(), weight.bfloat16().double(), bias.double())
    torch.testing.assert_close(found.double(), expected, rtol=2**-7, atol=2**-7)


def test_a_precision_without_instructions_is_float32(monkeypatch):
    monkeypatch.setattr(module, "supported", lambda precision, device: precision == "float32")
    monkeypatch.setattr(module, "packed_rows", lambda device: 0)
    model = CASES[0].build()
    assert lean(model, "bfloat16") is model


def test_the_copy_shares_the_weights_and_attention_keeps_its_own_precision():
    case = next(case for case in CASES if case.id == "top_down grid")
    model = case.build().eval()
    copy = lean(model, "int8")
    for (name, own), other in zip(model.named_parameters(), copy.parameters(), strict=True):
        assert own.data_ptr() == other.data_ptr(), name
        assert type(own) is nn.Parameter
    assert {type(weight) for weight in copy.parameters() if weight.ndim == 2} == {LeanWeight}
    assert {weight.precision for weight in copy.attend.parameters()} == {"float32"}
    assert isinstance(copy.attend, AdditiveAttention) and copy.output.weight.precision == "int8"


class Products(TorchDispatchMode):
    """The products by matrices that torch itself makes, while it is entered."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default):
            self.found.append([tuple(x.shape) for x in args])
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_no_product_of_a_step_is_left_out(case, monkeypatch):
    """Whether ``functional.linear`` gets its weight by place or by name, for rows or for rows of steps."""
    monkeypatch.setattr(module, "packed_rows", lambda device: float("inf"))
    model = case.build().eval()
    with torch.no_grad():
        memory = model.encode(case.sources(len(WORDS), torch.Generator().manual_seed(2)))
        with Products() as products:
            lean(model, "float32").step(torch.tensor(WORDS), model.init_state(memory), memory)
    assert not products.found


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_words_come_from_a_table_once_as_many_have_been_multiplied(precision):
    torch.manual_seed(0)
    embedding, weight, bias = LeanWeight(torch.randn(9, 8), precision), torch.randn(12, 8), torch.randn(12)
    words = torch.tensor([3, 0, 8, 3])
    expected = LeanWeight(weight, precision).product(embedding.data[words], bias)
    lean_weight = LeanWeight(weight, precision)
    for multiplied in (4, 8, 12, 12):
        found = functional.linear(functional.embedding(words, embedding), lean_weight, bias)
        torch.testing.assert_close(found, expected)
        assert lean_weight.seen == multiplied
    assert lean_weight.table[2].shape == (9, 12)
    # What is not the embedding's row as it is has a product of its own, and so has another embedding.
    half = functional.linear(0.5 * functional.embedding(words, embedding), lean_weight, None)
    torch.testing.assert_close(half, LeanWeight(weight, precision).product(0.5 * embedding.data[words], None))
    other = LeanWeight(torch.randn(9, 8), precision)
    found = functional.linear(functional.embedding(words, other), lean_weight, bias)
    torch.testing.assert_close(found, LeanWeight(weight, precision).product(other.data[words], bias))


def test_a_table_that_would_be_too_large_is_not_made(monkeypatch):
    monkeypatch.setattr(module, "TABLE", 9 * 12 - 1)
    embedding, weight = LeanWeight(torch.randn(9, 8), "float32"), LeanWeight(torch.randn(12, 8), "float32")
    for _ in range(4):
        functional.linear(functional.embedding(torch.arange(9), embedding), weight)
    assert weight.table is None


def test_a_part_of_a_matrix_is_made_once():
    weight = LeanWeight(torch.randn(6, 8), "float32")
    first, second = weight.split([3, 5], 1)
    again, _ = weight.split([3, 5], 1)
    assert first is again and isinstance(second, LeanWeight)
    assert weight[:, :3] is weight[:, :3]
    assert torch.equal(weight[:, 3:].data, second.data)
