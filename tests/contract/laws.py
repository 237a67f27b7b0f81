"""The laws of ``rnncond.contract.System`` as functions of a case and a device, in float64 but for bfloat16's own.

``of(case)`` are the laws that a case must obey; what breaks one is an AssertionError.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn import functional

from rnncond.contract import Source, System, Unrolled, select
from rnncond.objectives import without_dropout
from rnncond.search import SearchOptions, search
from rnncond.text.special_tokens import BOS, PAD
from tests.contract.cases import VOCAB, Case, targets

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
EXAMPLES = 4
Law = Callable[[Case, str], None]


def of(case: Case) -> list[Law]:
    return LAWS + [attention_is_a_distribution_over_real_places] * case.attends


def forward_equals_the_looped_step(case: Case, device: str) -> None:
    for share in (1, 3):
        model, source, inputs, _ = prepare(case, device, share)
        looped = loop_step(model, source, inputs)
        torch.testing.assert_close(model(source, inputs), looped[0], rtol=0, atol=1e-12)
        weights = model.unroll(model.encode(source), inputs).attention
        assert (weights is None) == (looped[1] is None) == (not case.attends)
        if case.attends:
            torch.testing.assert_close(weights, looped[1], rtol=0, atol=1e-12)


def rows_of_one_example_equal_separate_examples(case: Case, device: str) -> None:
    """Memory is shared by an example's rows: the same numbers as with the example repeated."""
    model, source, inputs, _ = prepare(case, device, share=3)
    mask = None if source.mask is None else source.mask.repeat_interleave(3, 0)
    repeated = Source(source.values.repeat_interleave(3, 0), mask)
    torch.testing.assert_close(model(source, inputs), model(repeated, inputs), rtol=0, atol=1e-12)


def padding_and_batch_mates_change_nothing(case: Case, device: str) -> None:
    """Each row by itself, cut to its own length, source and target: the same logits, loss and regulariser. Where
    nothing is padding, a mask says nothing."""
    model, source, inputs, labels = prepare(case, device)
    logits, total = model(source, inputs), loss(model, source, inputs, labels)
    alone = 0
    for row in range(EXAMPLES):
        length = int((labels[row] != PAD).sum())
        one, words = cut(source, row), inputs[row : row + 1, :length]
        for same in (one, Source(one.values)):
            torch.testing.assert_close(model(same, words), logits[row : row + 1, :length], rtol=0, atol=1e-12)
        alone = alone + loss(model, one, words, labels[row : row + 1, :length])
    torch.testing.assert_close(alone, total, rtol=1e-12, atol=0)


def attention_is_a_distribution_over_real_places(case: Case, device: str) -> None:
    model, source, inputs, _ = prepare(case, device, share=2)
    weights = model.unroll(model.encode(source), inputs).attention
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))
    assert (weights >= 0).all()
    if source.mask is not None:
        assert not weights.masked_select(~source.mask.repeat_interleave(2, 0)[:, None]).any()


def every_parameter_gets_a_gradient(case: Case, device: str) -> None:
    model, source, inputs, labels = prepare(case, device, share=2)
    loss(model.train(), source, inputs, labels).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all() and parameter.grad.any(), name


def the_gradient_is_the_slope(case: Case, device: str) -> None:
    """Along a random direction through all parameters: a fused backward has no other independent witness."""
    model, source, inputs, labels = prepare(case, device, share=2)
    with without_dropout(model):
        loss(model, source, inputs, labels).backward()
    parameters = list(model.parameters())
    direction = [torch.randn_like(parameter) for parameter in parameters]
    expected = sum((parameter.grad * d).sum() for parameter, d in zip(parameters, direction, strict=True))

    def moved(by: float) -> Tensor:
        with torch.no_grad():
            for parameter, d in zip(parameters, direction, strict=True):
                parameter.add_(d, alpha=by)
            value = loss(model, source, inputs, labels)
            for parameter, d in zip(parameters, direction, strict=True):
                parameter.sub_(d, alpha=by)
            return value

    slope = (moved(1e-6) - moved(-1e-6)) / 2e-6
    torch.testing.assert_close(expected, slope, rtol=1e-6, atol=1e-6)


def eight_pairs_are_memorised(case: Case, device: str) -> None:
    generator = torch.Generator().manual_seed(5)
    source = case.sources(8, generator)
    floating = source.values.float() if source.values.is_floating_point() else source.values
    source = Source(floating, source.mask).to(device)
    inputs, labels = (words.to(device) for words in targets(8, generator))
    model = case.build(**dict.fromkeys({"embedding", "hidden", "readout"} & set(case.config), 32)).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03, fused=True)
    words = (labels != PAD).sum()
    for _ in range(20):
        for _ in range(10):
            optimizer.zero_grad()
            (loss(model.train(), source, inputs, labels) / words).backward()
            optimizer.step()
        with torch.no_grad():
            log_probs, _ = score(model, model.eval().unroll(model.encode(source), inputs), labels)
        nats = (-log_probs.sum() / words).item()
        if nats < 0.05:
            break
    assert nats < 0.05


def bfloat16_training_is_float32_training_but_for_rounding(case: Case, device: str) -> None:
    model, source, inputs, labels = prepare(case, device, share=2)
    model.float()
    values = source.values.float() if source.values.is_floating_point() else source.values
    source = Source(values / values.abs().max() if values.is_floating_point() else values, source.mask)
    results = []
    for enabled in (False, True):
        model.zero_grad()
        torch.manual_seed(2)
        with without_dropout(model), torch.autocast(device, torch.bfloat16, enabled=enabled):
            value = loss(model, source, inputs, labels)
        value.backward()
        results.append((value.item(), torch.cat([parameter.grad.flatten() for parameter in model.parameters()])))
    (in_float32, its_slope), (in_bfloat16, slope) = results
    assert in_bfloat16 == pytest.approx(in_float32, rel=0.02)
    assert torch.cosine_similarity(its_slope, slope, dim=0) > 0.98


def a_reloaded_model_gives_identical_logits(case: Case, device: str) -> None:
    model, source, inputs, _ = prepare(case, device)
    again = case.build().double().to(device).eval()
    with torch.no_grad():
        for parameter in again.parameters():
            parameter.zero_()
    again.load_state_dict(load(save({name: tensor.cpu() for name, tensor in model.state_dict().items()})))
    assert torch.equal(model(source, inputs), again(source, inputs))


def search_leaves_the_memory_and_scores_as_forward(case: Case, device: str) -> None:
    model, source, _, _ = prepare(case, device)
    memory = model.encode(source)
    before = {name: tensor.clone() for name, tensor in memory.items()}
    options = SearchOptions(beam=3, nbest=3, max_length=5)
    found = search(model.step, memory, model.init_state(memory), options, mask=source.mask)
    assert memory.keys() == before.keys()
    assert all(torch.equal(memory[name], before[name]) for name in before)
    labels = found.tokens.flatten(0, 1)
    inputs = torch.cat([torch.full_like(labels[:, :1], BOS), labels[:, :-1]], 1)
    log_probs, _ = score(model, model.unroll(memory, inputs), labels)
    torch.testing.assert_close(log_probs.sum(1).view_as(found.log_probs).float(), found.log_probs)


def a_step_projects_its_own_rows_alone(case: Case, device: str) -> None:
    """What depends on the condition alone, keys above all, is projected by ``encode``: no layer of a step reads more
    than the step's N rows, which the places of the source outnumber."""
    model, source, _, _ = prepare(case, device)
    memory = model.encode(source)
    rows, read = [], []

    def step(tokens, state, memory):
        rows.append(len(tokens))
        return model.step(tokens, state, memory)

    def watch(layer, inputs):
        read.append((inputs[0].shape[:-1].numel(), rows[-1], layer))

    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            layer.register_forward_pre_hook(watch)
    search(step, memory, model.init_state(memory), SearchOptions(beam=3, max_length=5))
    assert read or not case.attends
    assert not [layer for found, most, layer in read if found > most]


LAWS: list[Law] = [
    forward_equals_the_looped_step,
    rows_of_one_example_equal_separate_examples,
    padding_and_batch_mates_change_nothing,
    every_parameter_gets_a_gradient,
    the_gradient_is_the_slope,
    eight_pairs_are_memorised,
    bfloat16_training_is_float32_training_but_for_rounding,
    a_reloaded_model_gives_identical_logits,
    search_leaves_the_memory_and_scores_as_forward,
    a_step_projects_its_own_rows_alone,
]


def prepare(case: Case, device: str, share: int = 1) -> tuple[System, Source, Tensor, Tensor]:
    """A model in eval mode, EXAMPLES sources, and inputs and labels of ``share`` rows for each."""
    generator = torch.Generator().manual_seed(1)
    source = case.sources(EXAMPLES, generator).to(device)
    inputs, labels = (words.to(device) for words in targets(EXAMPLES * share, generator))
    return case.build().double().to(device).eval(), source, inputs, labels


def loop_step(model: System, source: Source, inputs: Tensor) -> tuple[Tensor, Tensor | None]:
    memory = model.encode(source)
    assert {len(tensor) for tensor in memory.values()} == {EXAMPLES}
    share = len(inputs) // EXAMPLES
    state = select(model.init_state(memory), torch.arange(EXAMPLES, device=inputs.device).repeat_interleave(share))
    before = {name: tensor.clone() for name, tensor in memory.items()}
    logits, weights = [], []
    for words in inputs.unbind(1):
        step = model.step(words, state, memory)
        state = step.state
        assert step.logits.shape == (len(inputs), VOCAB)
        assert {len(tensor) for tensor in state.values()} == {len(inputs)}
        logits.append(step.logits)
        weights.append(step.attention)
    assert all(torch.equal(memory[name], before[name]) for name in before)
    return torch.stack(logits, 1), None if weights[0] is None else torch.stack(weights, 1)


def score(model: System, unrolled: Unrolled, labels: Tensor) -> tuple[Tensor, Tensor]:
    mask = labels != PAD
    log_probs = functional.log_softmax(model.project(unrolled.readout), -1)
    return log_probs.gather(-1, labels[..., None])[..., 0].masked_fill(~mask, 0), mask


def loss(model: System, source: Source, inputs: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy and regulariser, summed over rows."""
    unrolled = model.unroll(model.encode(source), inputs)
    log_probs, mask = score(model, unrolled, labels)
    return model.regulariser(unrolled, log_probs, mask) - log_probs.sum()


def cut(source: Source, row: int) -> Source:
    """One example without its padding."""
    if source.mask is None:
        return Source(source.values[row : row + 1])
    length = int(source.mask[row].sum())
    return Source(source.values[row : row + 1, :length], source.mask[row : row + 1, :length])
