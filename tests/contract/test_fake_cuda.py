"""Every system and the search on a GPU that is not there: torch's fake tensors have a device and no numbers.

An operation on tensors of two devices is an error there, as it is on a GPU, and so is a question for a number
(``.item()``, ``if tensor:``), for which a GPU would make the program wait. Tensors made of Python's numbers count as
the CPU's.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from rnncond.contract import Source
from rnncond.fast.lean import lean
from rnncond.search import Hypotheses, SearchOptions, loop, search
from rnncond.text.special_tokens import BOS
from tests.contract.cases import LONGEST, VOCAB, WIDTH, Case
from tests.contract.test_laws import CASES

pytestmark = pytest.mark.heavy

ROWS = 3
FAKED = [case for case in CASES if not any(isinstance(layer, nn.GRU) for layer in case.build().modules())]
"""All but those with a GRU of torch's, of which torch has no fake."""


@pytest.fixture
def gpu():
    """A mode in which every tensor is a fake one, and may be on a CUDA device."""
    # cuDNN's recurrent layers would look for the GPU themselves; torch's own are made of operations that fakes have.
    with FakeTensorMode(allow_non_fake_inputs=False) as mode, torch.backends.cudnn.flags(enabled=False):
        yield mode


@pytest.fixture
def without_end(monkeypatch):
    """The search reads the sentences at the end, once; what it does step by step is tried here."""
    monkeypatch.setattr(loop.Backpointers, "hypotheses", lambda self, count: Hypotheses(*[None] * 5))


def on_gpu(case: Case) -> tuple[torch.nn.Module, Source]:
    """The model and a batch without padding: with padding the translators' encoders ask for the lengths, once."""
    with torch.device("cuda"):  # a model of fake tensors cannot be moved
        model = case.build()
    if case.sources.__name__ == "sentences":
        return model, Source(torch.randint(4, VOCAB, (ROWS, LONGEST), device="cuda"))
    shape = (ROWS, WIDTH) if case.sources.__name__ == "pooled" else (ROWS, LONGEST, WIDTH)
    mask = torch.ones(ROWS, LONGEST, dtype=torch.bool, device="cuda") if case.sources.__name__ == "regions" else None
    return model, Source(torch.randn(*shape, device="cuda"), mask)


def test_the_fake_gpu_refuses_what_a_gpu_refuses(gpu):
    x = torch.ones(2, device="cuda")
    with pytest.raises(RuntimeError, match="device"):
        x + torch.ones(2)
    with pytest.raises(DataDependentOutputException):
        x.sum().item()


@pytest.mark.parametrize("case", FAKED, ids=lambda case: case.id)
def test_teacher_forcing(case, gpu):
    """Forward; the backward pass is driven by threads that look for a real GPU."""
    model, source = on_gpu(case)
    unrolled = model.train().unroll(model.encode(source), torch.full((2 * ROWS, 3), BOS, device="cuda"))
    log_probs = model.project(unrolled.readout).log_softmax(-1)[..., 5]
    total = model.regulariser(unrolled, log_probs, torch.ones_like(log_probs, dtype=torch.bool)) - log_probs.sum()
    assert total.device.type == "cuda"


SEARCHES = [{}, {"beam": 3, "nbest": 2}, {"samples": 2}, {"beam": 2, "length_penalty": "gnmt", "no_repeat_ngram": 2}]


@pytest.mark.parametrize(("options", "case"), [
    *(pytest.param(SEARCHES[1], case, id=case.id) for case in FAKED),
    *(pytest.param(options, CASES[0], id=str(options)) for options in SEARCHES),
])  # fmt: skip
def test_a_search_waits_for_nothing_between_its_looks_at_the_end(case, options, gpu, without_end, monkeypatch):
    monkeypatch.setattr(loop, "CHECK_EVERY", 100)
    model, source = on_gpu(case)
    with torch.no_grad():
        memory = model.eval().encode(source)
        search(model.step, memory, model.init_state(memory), SearchOptions(max_length=3, min_length=1, **options))


@pytest.mark.parametrize("case", FAKED, ids=lambda case: case.id)
def test_a_search_in_bfloat16(case, gpu, without_end, monkeypatch):
    monkeypatch.setattr(loop, "CHECK_EVERY", 100)
    model, source = on_gpu(case)
    with torch.no_grad():
        memory = model.eval().encode(source)
        search(lean(model, "bfloat16").step, memory, model.init_state(memory), SearchOptions(beam=2, max_length=2))


def test_it_looks_every_few_steps(gpu, without_end):
    model, source = on_gpu(CASES[0])
    with torch.no_grad(), pytest.raises(DataDependentOutputException):
        memory = model.eval().encode(source)
        search(model.step, memory, model.init_state(memory), SearchOptions(max_length=loop.CHECK_EVERY))


def test_what_comes_from_the_host_goes_by_page_locked_memory_and_what_is_there_stays(gpu, monkeypatch):
    pinned: list[int] = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: pinned.append(len(self)) or self)
    moved = Source(torch.ones(2, 3), torch.ones(2, dtype=torch.bool)).to("cuda")
    assert moved.values.device.type == moved.mask.device.type == "cuda"
    assert pinned == [2, 2]
    assert moved.to("cuda").values.device.type == "cuda" and pinned == [2, 2]
    assert Source(torch.ones(2, 3)).to("cpu").values.device.type == "cpu" and pinned == [2, 2]
