"""show_attend_tell against its paper's equations, computed in numpy from the model's weights, word by word."""

import itertools

import numpy as np
import pytest
import torch

from rnncond.systems import find, show_attend_tell
from tests.worlds.equations import (
    CAPTIONS,
    PLACES,
    VOCAB,
    WIDTH,
    assert_follows,
    assert_same_gradients,
    features,
    linear,
    look,
    lstm_cell,
    make_captioner,
    sigmoid,
)


@pytest.mark.parametrize("projected", [False, True])
@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_show_attend_tell(kind, projected, monkeypatch):
    """Hard attention is evaluated at its expectation. Also where the places, not the contexts, are multiplied by the
    weights."""
    monkeypatch.setattr(show_attend_tell, "cheaper_projected", lambda *sizes: projected)
    model, w = make_captioner("show_attend_tell", attention=3, attention_kind=kind)

    def steps(places, words):
        h, c = (np.tanh(linear(w, name, places.mean(0))) for name in ("init_h", "init_c"))
        for word in words:
            y = w["embed.weight"][word]
            alpha, context = look(w, h, places)
            z = sigmoid(linear(w, "gate", h)) * context
            h, c = lstm_cell(w, "cell", np.concatenate([y, z]), h, c)
            yield linear(w, "output", y + linear(w, "deep_h", h) + linear(w, "deep_z", z)), alpha

    assert_follows(model, features(2, PLACES, WIDTH), steps)


@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_gradients_are_the_same_whichever_way_is_cheaper(kind, monkeypatch):
    model, _ = make_captioner("show_attend_tell", attention=3, attention_kind=kind, dropout=0.0)
    assert_same_gradients(show_attend_tell, model.train(), monkeypatch)


def test_doubly_stochastic_term():
    model, _ = make_captioner("show_attend_tell", attention=3, doubly_stochastic=0.7)
    unrolled = model.unroll(model.encode(features(2, PLACES, WIDTH)), CAPTIONS)
    mask = torch.tensor([[True, True, True], [True, False, False]])
    alpha = unrolled.attention.detach().numpy()
    expected = ((1 - alpha[0].sum(0)) ** 2).sum() + ((1 - alpha[1, 0]) ** 2).sum()
    found = model.regulariser(unrolled, torch.zeros(2, 3).double(), mask)
    assert found.item() == pytest.approx(0.7 * expected, rel=1e-12)


def test_doubly_stochastic_term_of_a_row_without_words_is_zero():
    model, _ = make_captioner("show_attend_tell", attention=3)
    unrolled = model.unroll(model.encode(features(2, PLACES, WIDTH)), CAPTIONS)
    assert model.regulariser(unrolled, torch.zeros(2, 3).double(), torch.zeros(2, 3).bool()).item() == 0


def hard_model(**options):
    model, _ = make_captioner("show_attend_tell", attention=3, attention_kind="hard", dropout=0.0, **options)
    return model.train(), features(2, PLACES, WIDTH)


def test_hard_attention_reads_one_place_or_the_expectation():
    """With L_z z alone in the readout, the first step's readout tells which annotation was read."""
    model, source = hard_model()
    with torch.no_grad():
        for parameter in (*model.embed.parameters(), *model.deep_h.parameters()):
            parameter.zero_()
    torch.manual_seed(1)
    memory, many = model.encode(source), 400
    unrolled = model.unroll(memory, CAPTIONS[:1, :1].expand(2 * many, 1))
    gate = torch.sigmoid(model.gate(memory["h"]))
    annotations = model.deep_z(memory["values"] * gate[:, None])
    share = torch.zeros(2, PLACES + 1)
    alpha = unrolled.attention[:, 0].view(2, many, PLACES)[:, 0].detach()
    expected = torch.cat([annotations, torch.einsum("bl,ble->be", alpha, annotations)[:, None]], 1)
    for example in range(2):
        readout = unrolled.readout[example * many : (example + 1) * many, 0]
        distance = (readout[:, None] - expected[example]).abs().amax(-1)
        assert distance.min(1).values.max() < 1e-12
        share[example] = torch.bincount(distance.argmin(1), minlength=PLACES + 1) / many
    drawn = unrolled.extras["drawn"].view(2, many).double().mean(1)
    torch.testing.assert_close(share[:, PLACES].double(), 1 - drawn, rtol=0, atol=1e-6)
    assert (drawn - 0.5).abs().max() < 0.1
    assert (share[:, :PLACES] - alpha * drawn[:, None]).abs().max() < 0.1


def test_the_estimator_is_the_gradient_of_the_expected_log_likelihood():
    """Every place once, weighed by its probability: d/dscores sum_s alpha_s log p(y | s), whatever the baseline."""
    model, _ = hard_model(entropy=0.0, reinforce=0.4)
    model.baseline.fill_(-2.5)
    scores = torch.randn(PLACES).double().requires_grad_()
    sentence = torch.tensor([-1.0, -7.0, -0.5, -3.0]).double()
    alpha = scores.softmax(0)
    extras = {"drawn": alpha.detach(), "log_prob": alpha.log()[:, None], "entropy": torch.zeros(PLACES, 1).double()}
    loss = model.estimator(extras, sentence, torch.ones(PLACES, 1).bool())
    found = torch.autograd.grad(-loss, scores, retain_graph=True)[0]
    expected = 0.4 * torch.autograd.grad((alpha * sentence).sum(), scores)[0]
    torch.testing.assert_close(found, expected)


def test_every_sample_of_hard_attention_by_its_probability_gives_the_exact_gradient(monkeypatch):
    """All 8 samples of two places at three steps, each forced: the gradient of sum_s p(s) log p(y | s).

    The fourth step has no word; its place counts nothing.
    """
    model, _ = hard_model(reinforce=1.0, entropy=0.0)
    source, inputs = features(1, 2, WIDTH), torch.tensor([[1, 7, 4, 0]])
    labels, mask = torch.tensor([7, 4, 2]), torch.tensor([[True, True, True, False]])
    monkeypatch.setattr(show_attend_tell, "EXPECTED", 0.0)
    expected, estimated, total = 0.0, 0.0, 0.0
    for sample in itertools.product((0, 1), repeat=3):
        places = iter([*sample, 0])
        monkeypatch.setattr(show_attend_tell, "draw", lambda weights, places=places: torch.tensor([next(places)]))
        unrolled = model.unroll(model.encode(source), inputs)
        words = model.project(unrolled.readout)[0, :3].log_softmax(-1)[range(3), labels]
        probability = unrolled.attention[0, range(3), sample].prod()
        expected = expected + probability * words.sum()
        model.baseline.fill_(-2.5)
        log_probs = torch.nn.functional.pad(words[None], (0, 1))
        loss = model.regulariser(unrolled, log_probs, mask) - words.sum()
        estimated = estimated + probability.detach() * loss
        total += probability.item()
    assert total == pytest.approx(1)
    parameters = list(model.parameters())
    for name, exact, found in zip(
        dict(model.named_parameters()),
        torch.autograd.grad(expected, parameters, retain_graph=True),
        torch.autograd.grad(-estimated, parameters),
        strict=True,
    ):
        torch.testing.assert_close(found, exact, rtol=1e-9, atol=1e-12, msg=lambda text, name=name: f"{name}: {text}")


def seen(model, unrolled, *sentences):
    """Let the estimator see sentences of these log-probabilities; a row of none is one of padding."""
    log_probs = torch.zeros(len(sentences), 3).double()
    for row, values in zip(log_probs, sentences, strict=True):
        row[: len(values)] = torch.tensor(values)
    model.regulariser(unrolled, log_probs, log_probs < 0)


def test_the_baseline_moves_by_a_tenth_once_a_step():
    """However many batches and ranks have the captions of the step, of which rows of padding are none."""
    model, source = hard_model()
    unrolled = model.unroll(model.encode(source), CAPTIONS)
    seen(model, unrolled, [-1.0, -2.0, -3.0], [])
    seen(model, unrolled, [-4.0], [-1.0, -1.0])
    assert model.baseline == 0
    of_another_rank = torch.tensor([-12.0, 1.0]).double()
    model.update_running(model.running_sums() + of_another_rank)
    assert model.baseline.item() == pytest.approx(0.1 * (-6 - 4 - 2 - 12) / 4)
    model.update_running(model.running_sums())
    assert model.baseline.item() == pytest.approx(0.1 * -6)
    seen(model, unrolled, [-5.0], [-5.0])
    model.update_running(model.running_sums())
    assert model.baseline.item() == pytest.approx(0.9 * -0.6 + 0.1 * -5)


def test_soft_attention_has_no_running_average():
    model, _ = make_captioner("show_attend_tell", attention=3)
    assert model.running_sums() is None


def test_the_entropy_of_hard_attention():
    model, source = hard_model(reinforce=0.0, entropy=1.0)
    unrolled = model.unroll(model.encode(source), CAPTIONS)
    alpha = unrolled.attention.detach().numpy()
    found = model.regulariser(unrolled, torch.zeros(2, 3).double(), torch.ones(2, 3).bool())
    assert found.item() == pytest.approx((alpha * np.log(alpha)).sum())


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"attention_kind": "firm"}, "attention_kind is 'firm'; it must be soft or hard"),
        ({"entropy": -1.0}, r"entropy is -1\.0; it must be 0 or more"),
    ],
)
def test_show_attend_tell_refuses(option, message):
    with pytest.raises(ValueError, match=message):
        find("show_attend_tell").Config(vocab_size=VOCAB, feature_size=WIDTH, **option)
