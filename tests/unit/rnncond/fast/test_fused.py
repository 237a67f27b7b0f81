"""What a fused part keeps in memory; that its numbers and gradients are right is a law (``tests/contract``)."""

from __future__ import annotations

import pytest
import torch

from rnncond.contract import Source
from rnncond.fast import fused
from rnncond.fast.fused import StepProducts
from rnncond.losses import TeacherForcing
from rnncond.systems import build, names

VOCAB, ROWS, SIZE = 12, 2, 96
POOLED, PLACES = Source(torch.randn(ROWS, SIZE)), Source(torch.randn(ROWS, 3, SIZE))
SENTENCES = Source(torch.randint(4, VOCAB, (ROWS, 3)))
SIZES = {"vocab_size": VOCAB, "embedding": SIZE, "hidden": SIZE, "dropout": 0.0}
PICTURE = {**SIZES, "feature_size": SIZE}
LOOKING = {**PICTURE, "attention": SIZE}
PLAIN = {**SIZES, "source_vocab_size": VOCAB, "layers": 2}
ATTENDING = {**PLAIN, "attention": SIZE}
ONE_LAYER = {name: value for name, value in ATTENDING.items() if name != "layers"}
CASES = {
    "encdec": (SENTENCES, PLAIN),
    "encdec fed": (SENTENCES, {**PLAIN, "feed_context": True}),
    "encdec_attention": (SENTENCES, ATTENDING),
    "encdec_attention general": (SENTENCES, {**ATTENDING, "layers": 3, "score": "general", "cell": "lstm"}),
    "encdec_attention concat": (SENTENCES, {**ATTENDING, "score": "concat"}),
    "encdec_attention unfed": (SENTENCES, {**ATTENDING, "score": "dot", "input_feeding": False}),
    "encdec_bidirectional": (SENTENCES, ONE_LAYER),
    "encdec_residual": (SENTENCES, ATTENDING),
    "gnmt": (SENTENCES, {**ATTENDING, "layers": 3}),
    "encdec_image": (POOLED, PICTURE),
    "mrnn": (POOLED, {**PICTURE, "multimodal": SIZE}),
    "show_tell": (POOLED, PICTURE),
    "show_attend_tell": (PLACES, LOOKING),
    "show_attend_tell hard": (PLACES, {**LOOKING, "attention_kind": "hard"}),
    "top_down": (PLACES, LOOKING),
}


def kept(model: TeacherForcing, source: Source, words: int, dtype: torch.dtype | None) -> int:
    """Bytes that one forward pass over ``words`` words keeps for the backward pass, beside the model's own."""
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    storages = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None),
    ):
        model(source, torch.randint(4, VOCAB, (ROWS, words + 1)))
    return sum(storage.nbytes() for storage in storages.values())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("case", CASES)
def test_in_half_precision_a_word_keeps_what_it_keeps_in_float32(case, dtype):
    """No copy of a weight: the smallest, SIZE x SIZE in two bytes, outweighs what a word keeps."""
    source, config = CASES[case]
    model = TeacherForcing(build(case.split()[0], config)).train()
    more = {kind: kept(model, source, 8, kind) - kept(model, source, 4, kind) for kind in (None, dtype)}
    assert more[dtype] < 1.5 * more[None] + SIZE**2


def test_every_system_is_tried():
    assert {case.split()[0] for case in CASES} == set(names())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_the_weight_of_all_steps_is_cast_once(dtype):
    weight, offsets = torch.randn(6, 3, requires_grad=True), torch.randn(2, 4, 6)
    with torch.autocast("cpu", dtype):
        products = StepProducts(weight, offsets)
        assert products.weight.dtype is dtype
        results = [products(torch.randn(2, 3)) for _ in range(4)]
    torch.stack(results).sum().backward()
    assert weight.grad.dtype is torch.float32
    with torch.autocast("cpu", dtype):
        assert StepProducts(weight.double(), offsets.double()).weight.dtype is torch.float64


LSTM, GRU = [(3, 8), (3, 2)], [(3, 6), (3, 6), (3, 2)]


@pytest.mark.parametrize(
    ("plain", "loop", "shapes"),
    [
        (fused._lstm_forward, fused.lstm_forward, LSTM),
        (fused._lstm_next, fused.lstm_next, LSTM),
        (fused._lstm_backward, fused.lstm_backward, [(3, 8), *[(3, 2)] * 4]),
        (fused._gru_forward, fused.gru_forward, GRU),
        (fused._gru_backward, fused.gru_backward, [(3, 4), (3, 6), *[(3, 2)] * 3]),
    ],
    ids=["lstm", "lstm without gradient", "its gradient", "gru", "its gradient too"],
)
def test_the_loops_that_are_compiled_say_what_torchs_kernels_do(plain, loop, shapes):
    torch.manual_seed(0)
    values = [torch.randn(shape, dtype=torch.double) for shape in shapes]
    torch.testing.assert_close(loop.function(*values), plain(*values), rtol=1e-12, atol=1e-12)
