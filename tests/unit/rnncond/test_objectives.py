"""Scheduled sampling by the words that reach a toy system, self-critical training by enumeration of its sentences."""

from __future__ import annotations

import math
from itertools import product
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from rnncond import systems
from rnncond.contract import Source, Step, System, Unrolled, per_row
from rnncond.losses import TeacherForcing
from rnncond.objectives import Diverged, ScheduledSampling, SelfCritical
from rnncond.rewards import gleu
from rnncond.text.special_tokens import BOS, EOS, PAD

VOCAB, LONGEST = 6, 2
REFERENCES = torch.tensor([[BOS, 4, 5, 4, EOS], [BOS, 5, EOS, PAD, PAD]])


class Chain(System):
    """p(next | last) = softmax(table[last] + shift of the example); notes what it was fed."""

    takes = ("pooled",)

    def __init__(self, table=None):
        super().__init__(SimpleNamespace())
        generator = torch.Generator().manual_seed(0)
        self.table = nn.Parameter(torch.randn(VOCAB, VOCAB, generator=generator) if table is None else table)
        self.fed = None

    def encode(self, source):
        return {"shift": source.values}

    def init_state(self, memory):
        return {"nothing": torch.zeros(len(memory["shift"]), 1)}

    def step(self, tokens, state, memory):
        return Step(self.table[tokens] + per_row(memory["shift"], len(tokens)), state, None)

    def unroll(self, memory, inputs):
        self.fed = inputs
        return Unrolled(self.table[inputs] + per_row(memory["shift"], len(inputs))[:, None])

    def project(self, readout):
        return readout


def source(count=2):
    return Source(torch.linspace(0, 1, VOCAB).repeat(count, 1))


def counting_table():
    """After BOS comes 4, then 5, then 4 ... with certainty."""
    table = torch.full((VOCAB, VOCAB), -1e4)
    for last, following in ((BOS, 4), (4, 5), (5, 4)):
        table[last, following] = 0
    return table


# Scheduled sampling


def captioner(name="show_tell", **config):
    torch.manual_seed(0)
    sizes = {"vocab_size": 9, "feature_size": 3, "embedding": 4, "hidden": 5, "dropout": 0.5}
    return systems.build(name, sizes | config)


def pictures(name="show_tell", count=2):
    shape = (count, 3) if name == "show_tell" else (count, 2, 3)
    return Source(torch.randn(shape, generator=torch.Generator().manual_seed(1)))


def gradients(module, *arguments):
    module.zero_grad()
    torch.manual_seed(7)
    found = module(*arguments)
    found.objective.backward()
    return found, [parameter.grad.clone() for parameter in module.parameters()]


def test_reference_words_alone_are_teacher_forcing_bit_for_bit():
    system = captioner()
    forced, expected = gradients(TeacherForcing(system, 0.1), pictures(), REFERENCES)
    sampled, found = gradients(ScheduledSampling(system, 0.1), pictures(), REFERENCES, 1.0)
    assert sampled == forced
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_without_reference_words_the_system_reads_its_own_only():
    system = Chain(counting_table())
    tokens = torch.tensor([[BOS, 5, 5, 5, 5, EOS], [BOS, 5, 5, EOS, PAD, PAD]])
    sums = ScheduledSampling(system)(source(), tokens, 0.0)
    # The last input of the second sentence is its EOS, after which there is nothing to learn.
    assert system.fed.tolist() == [[BOS, 4, 5, 4, 5], [BOS, 4, 5, EOS, PAD]]
    assert sums.words == 5 + 3


def test_each_own_word_follows_the_words_fed_before_it():
    system = Chain(counting_table())
    torch.manual_seed(0)
    references = torch.tensor([[BOS, 4, 4, 5, 5, 4, 4, EOS]]).repeat(200, 1)
    ScheduledSampling(system)(source(200), references, 0.5)
    following = {BOS: 4, 4: 5, 5: 4}
    differ = 0
    for line, words in zip(system.fed.tolist(), references.tolist(), strict=True):
        for t in range(1, len(line)):
            assert line[t] in (words[t], following[line[t - 1]])
            differ += line[t] != words[t]
    assert differ > 200


def test_own_words_come_as_often_as_asked_and_as_the_system_says():
    system, count, probability = Chain(), 20_000, 0.3
    torch.manual_seed(0)
    ScheduledSampling(system)(source(count), REFERENCES[:1].repeat(count, 1), probability)
    own = (system.table[BOS] + source().values[0]).softmax(-1).detach()
    expected = (1 - probability) * own
    expected[4] += probability
    found = torch.bincount(system.fed[:, 1], minlength=VOCAB) / count
    assert ((found - expected).abs() < 4 * (expected * (1 - expected) / count).sqrt()).all()


def test_a_seed_repeats_a_step():
    module = ScheduledSampling(captioner())
    (first, before), (second, after) = (gradients(module, pictures(), REFERENCES, 0.5) for _ in range(2))
    assert first == second
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


@pytest.mark.parametrize("name", ["show_attend_tell", "top_down"])
def test_systems_with_attention_learn_from_their_own_words(name):
    system = captioner(name, attention=4)
    _, found = gradients(ScheduledSampling(system), pictures(name), REFERENCES, 0.2)
    assert all(grad.any() for grad in found)


# Self-critical


def worth(hypotheses, references):
    """A reward without structure: of the words at each place, and 0 where there is no reference."""
    places = torch.arange(1, hypotheses.shape[2] + 1)
    values = (hypotheses * places * 0.7 + (hypotheses == 5) * hypotheses.roll(1, 2)).sum(2).sin()
    values = values + (hypotheses == EOS).float().argmax(2)
    return values * (references != PAD).any(2).any(1)[:, None]


def sentences():
    """Every sentence of at most ``LONGEST`` words, padded: (S, LONGEST + 1)."""
    lines = [[*body, EOS] for length in range(LONGEST + 1) for body in product((4, 5), repeat=length)]
    return torch.tensor([line + [PAD] * (LONGEST + 1 - len(line)) for line in lines])


def expected_reward(system):
    """By enumeration, with gradient: of what may be said, EOS, 4 or 5, and EOS for certain after ``LONGEST`` words."""
    may = torch.tensor([EOS, 4, 5])
    table = (system.table + source().values[0])[:, may].log_softmax(-1)
    hypotheses = sentences()
    before = torch.cat([torch.full((len(hypotheses), 1), BOS), hypotheses[:, :-1]], 1)[:, :LONGEST]
    chosen = hypotheses[:, :LONGEST]
    place = (chosen[..., None] == may).float().argmax(-1)
    log_probs = (table[before, place] * (chosen != PAD)).sum(1)
    assert log_probs.exp().sum().item() == pytest.approx(1)
    return (log_probs.exp() * worth(hypotheses[None], REFERENCES[None, :1, 1:])[0]).sum()


@pytest.mark.parametrize(("baseline", "samples"), [("greedy", 1), ("greedy", 3), ("others", 2)])
def test_the_mean_gradient_is_that_of_the_expected_reward(baseline, samples):
    system, rounds, count = Chain(), 20, 1000
    module = SelfCritical(system, worth, samples=samples, baseline=baseline, max_length=LONGEST)
    estimates = []
    for seed in range(rounds):
        torch.manual_seed(seed)
        system.zero_grad()
        module(source(count), REFERENCES[:1].repeat(count, 1)).objective.backward()
        estimates.append(-system.table.grad / count)
    (exact,) = torch.autograd.grad(expected_reward(system), system.table)
    found = torch.stack(estimates)
    error = found.std(0) / math.sqrt(rounds)
    assert exact.abs().max() > 0.1
    assert error.max() < 0.01
    assert ((found.mean(0) - exact).abs() <= 4 * error + 1e-6).all()


@pytest.mark.heavy
@pytest.mark.parametrize("baseline", ["greedy", "others"])
def test_training_raises_the_expected_reward(baseline):
    system = Chain()
    module = SelfCritical(system, worth, baseline=baseline, max_length=LONGEST)
    optimizer = torch.optim.Adam(system.parameters(), lr=0.1)
    before = expected_reward(system).item()
    for step in range(100):
        torch.manual_seed(step)
        module(source(), REFERENCES).objective.backward()
        optimizer.step()
        optimizer.zero_grad()
    best = worth(sentences()[None], REFERENCES[None, :1, 1:]).max().item()
    assert before < 0.6 * best
    assert expected_reward(system).item() > 0.95 * best


def test_reward_and_baseline_are_means_of_examples_summed():
    system = Chain()
    tokens = torch.stack([REFERENCES, torch.full_like(REFERENCES, PAD)]).flatten(0, 1)
    module = SelfCritical(system, worth, samples=3, max_length=LONGEST)
    torch.manual_seed(0)
    found = module(source(), tokens)
    memory = system.encode(source())
    torch.manual_seed(0)
    hypotheses = module.decode(memory, samples=3, seed=int(torch.randint(2**62, ())))
    there = REFERENCES[None, :, 1:]
    assert found.examples == 1
    assert found.reward.item() == pytest.approx(worth(hypotheses[:1], there).mean().item())
    assert found.baseline.item() == pytest.approx(worth(module.decode(memory)[:1], there).item())
    assert found.loss is None


def test_an_example_weighs_as_many_sentences_as_it_has_references():
    module = SelfCritical(Chain(), worth, max_length=LONGEST)
    once, _ = gradients(module, source(), REFERENCES)
    padded = torch.cat([REFERENCES[:1], REFERENCES[:1], REFERENCES[1:], torch.full_like(REFERENCES[1:], PAD)])
    twice, _ = gradients(module, source(), padded)
    only_second, _ = gradients(module, source(), torch.where(torch.tensor([[0], [1]]) == 1, REFERENCES, PAD))
    assert twice.objective.item() == pytest.approx(2 * once.objective.item() - only_second.objective.item(), rel=1e-4)


def test_references_may_be_learnt_as_well():
    system = Chain()
    options = {"samples": 2, "max_length": LONGEST}
    plain, _ = gradients(SelfCritical(system, worth, **options), source(), REFERENCES)
    forced = TeacherForcing(system, 0.1)(source(), REFERENCES)
    mixed, _ = gradients(SelfCritical(system, worth, cross_entropy=0.3, smoothing=0.1, **options), source(), REFERENCES)
    assert mixed.loss == forced.loss
    expected = plain.objective + 0.3 * forced.objective
    assert mixed.objective.item() == pytest.approx(expected.item(), rel=1e-5)


ATTEND = {"attention": 4}
SYSTEMS = [
    ("show_tell", {}), ("show_attend_tell", ATTEND), ("show_attend_tell", ATTEND | {"attention_kind": "hard"}),
    ("top_down", ATTEND),
]  # fmt: skip


@pytest.mark.parametrize(("name", "config"), SYSTEMS)
def test_samples_and_gradients_know_no_dropout_and_modes_come_back(name, config):
    with_dropout, without = captioner(name, **config), captioner(name, **config, dropout=0.0)
    without.load_state_dict(with_dropout.state_dict())
    found, grads = gradients(SelfCritical(with_dropout, gleu), pictures(name), REFERENCES)
    expected, expected_grads = gradients(SelfCritical(without, gleu), pictures(name), REFERENCES)
    assert found.objective == expected.objective
    assert all(torch.equal(one, other) for one, other in zip(grads, expected_grads, strict=True))
    assert all(grad.any() for grad in grads)
    assert all(module.training for module in with_dropout.modules())


def test_a_translator_is_rewarded_for_its_pairs():
    torch.manual_seed(0)
    sizes = {"embedding": 4, "hidden": 5, "attention": 4, "readout": 4, "dropout": 0.5}
    system = systems.build("encdec_bidirectional", {"source_vocab_size": 9, "vocab_size": 9, **sizes})
    words = Source(torch.tensor([[4, 5, EOS], [6, EOS, PAD]]), torch.tensor([[True] * 3, [True, True, False]]))
    found, grads = gradients(SelfCritical(system, gleu, baseline="others"), words, REFERENCES)
    assert 0 < found.reward <= 2
    assert found.reward == pytest.approx(found.baseline)
    assert all(grad.any() for grad in grads)


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_distributed_data_parallel_gives_the_same_gradients(tmp_path, weight):
    module = SelfCritical(captioner(), gleu, cross_entropy=weight)
    found, expected = gradients(module, pictures(), REFERENCES)
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        again, grads = gradients(nn.parallel.DistributedDataParallel(module), pictures(), REFERENCES)
    finally:
        torch.distributed.destroy_process_group()
    assert again == found
    assert all(torch.equal(one, other) for one, other in zip(grads, expected, strict=True))


def test_a_system_that_has_diverged_is_no_crash():
    model = captioner().train()
    for weight in model.parameters():
        weight.data.fill_(math.nan)
    tokens = torch.tensor([[BOS, 4, 5, EOS], [BOS, 5, EOS, PAD]])
    assert ScheduledSampling(model)(pictures(), tokens, 0.5).objective.isnan()
    for baseline in ("greedy", "others"):
        with pytest.raises(Diverged):
            SelfCritical(model, gleu, samples=2, baseline=baseline)(pictures(), tokens)
