"""Captions by several models at once, and what a model that cannot do it is not asked."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipelines.errors import UserError
from pipelines.inference.captioner import prepare
from rnncond.contract import Source
from rnncond.text.special_tokens import BOS, EOS
from tests.worlds.captioner import make_model, model_reading

RECIPE = {"backbone": "test/none", "outputs": {"grid": [2, 3, 4], "pooled": [4]}}
GRIDS = np.random.default_rng(0).normal(size=(3, 2, 3, 4)).astype(np.float16)


@pytest.fixture
def first(tmp_path):
    return model_reading(tmp_path / "first", "show_attend_tell", "grid", RECIPE)


@pytest.fixture
def second(tmp_path):
    """Of other weights."""
    trained = model_reading(tmp_path / "second", "show_attend_tell", "grid", RECIPE)
    torch.manual_seed(1)
    for parameter in trained.model.parameters():
        parameter.data += 0.5 * torch.randn_like(parameter)
    return trained


def test_an_ensemble_of_one_model_twice_is_that_model(first):
    alone = prepare([first], ["m"], beam=3, attention=True)(GRIDS)
    twice = prepare([first, first], ["m", "m"], beam=3, attention=True)(GRIDS)
    for one, both in zip(alone, twice, strict=True):
        assert one["caption"] == both["caption"]
        assert one["log_prob"] == pytest.approx(both["log_prob"], rel=1e-4)
        np.testing.assert_allclose(np.array(one["attention"]), np.array(both["attention"]), atol=2e-3)
        assert both["model"] == f"{first.model_id}+{first.model_id}"


def test_an_ensemble_says_what_its_mean_says(first, second):
    """The log-probability of a greedy caption is that of the mean of the models' probabilities."""
    rows = prepare([first, second], ["m", "n"], beam=1)(GRIDS)
    for row, grid in zip(rows, GRIDS, strict=True):
        words = [first.vocabulary.tokenizer.token_to_id(word) for word in row["caption"].split()]
        source = Source(torch.from_numpy(grid).float().view(1, 6, 4))
        with torch.no_grad():
            logits = [one.model(source, torch.tensor([[BOS, *words]])) for one in (first, second)]
        mean = torch.stack([one.softmax(-1) for one in logits]).mean(0)[0]
        expected = mean.gather(1, torch.tensor([*words, EOS])[:, None]).log().sum().item()
        assert row["log_prob"] == pytest.approx(expected, rel=1e-4)


def test_a_coverage_penalty_lowers_the_score_by_what_was_not_looked_at(first):
    """Wu et al. (2016), equation 14: beta times the sum over places of log min(sum over words of attention, 1)."""
    (plain,) = prepare([first], ["m"], beam=1, attention=True)(GRIDS[:1])
    (row,) = prepare([first], ["m"], beam=1, coverage_beta=0.3)(GRIDS[:1])
    trained_on = Source(torch.from_numpy(GRIDS[:1]).float().view(1, 6, 4))
    words = [first.vocabulary.tokenizer.token_to_id(word) for word in row["caption"].split()]
    unrolled = first.model.unroll(first.model.encode(trained_on), torch.tensor([[BOS, *words]]))
    penalty = 0.3 * unrolled.attention[0].sum(0).clamp(max=1).log().sum().item()
    assert row["caption"] == plain["caption"] and penalty < -0.01
    assert row["score"] == pytest.approx(plain["score"] + penalty, rel=1e-3)


@pytest.mark.parametrize(
    ("asked", "named"), [({"attention": True}, "--attention"), ({"coverage_beta": 0.2}, "--coverage-penalty")]
)
def test_attention_of_a_system_without_it_is_refused(asked, named, tmp_path):
    blind = model_reading(tmp_path / "blind", "show_tell", "pooled", RECIPE)
    with pytest.raises(UserError, match=f"show_tell, which does not attend; leave out {named}"):
        prepare([blind], ["m"], **asked).check((4,))
    with pytest.raises(UserError, match=f"ensemble show_tell . show_tell not every model attends; leave out {named}"):
        prepare([blind, blind], ["m", "n"], **asked).check((4,))


def test_models_of_other_words_or_features_are_no_ensemble(first, tmp_path):
    other = make_model(tmp_path / "other", "0" * 16)
    assert len(other.vocabulary) != len(first.vocabulary)
    with pytest.raises(UserError, match=f"vocabulary of runs/other has {len(other.vocabulary)} entries"):
        prepare([first, other], ["runs/first", "runs/other"])
    blind = model_reading(tmp_path / "blind", "show_tell", "pooled", RECIPE)
    expected = "runs/blind was trained on pooled of [0-9a-f]+, runs/first on grid of [0-9a-f]+"
    with pytest.raises(UserError, match=expected):
        prepare([first, blind], ["runs/first", "runs/blind"])
