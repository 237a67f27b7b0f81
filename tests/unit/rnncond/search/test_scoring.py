"""Length and coverage penalties by the formulas of Wu et al. 2016, equation 14, on numbers done by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rnncond.fast import kernels
from rnncond.search import SearchOptions, scoring
from rnncond.search.scoring import coverage_penalty, length_penalty, normaliser, score_upper_bound


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"length_penalty": "none"}, [1, 1, 1]),
        ({"length_penalty": "average"}, [1, 7, 19]),
        ({"length_penalty": "gnmt", "alpha": 0.5}, [1, math.sqrt(2), 2]),
        ({"length_penalty": "gnmt", "alpha": 0}, [1, 1, 1]),
    ],
    ids=str,
)
def test_length_penalties(options, expected):
    penalties = [length_penalty(length, SearchOptions(**options)) for length in (1, 7, 19)]
    assert penalties == pytest.approx(expected)


def test_the_coverage_penalty_counts_what_was_looked_at_too_little():
    """Places that got 1/2, 1/4 and 3: 0.2 (log 1/2 + log 1/4 + log 1); the padding, which got nothing, is left out."""
    coverage = torch.tensor([[[0.5, 0.25, 3.0, 0.0], [1.0, 1.0, 1.0, 0.0]]])
    mask = torch.tensor([[True, True, True, False]])
    penalties = coverage_penalty(coverage, mask, SearchOptions(coverage_beta=0.2))
    assert penalties[0].tolist() == pytest.approx([0.2 * math.log(1 / 8), 0])
    without_mask = coverage_penalty(coverage, None, SearchOptions(coverage_beta=0.2))
    assert without_mask.isfinite().all()
    assert (without_mask < -10).all()


@given(
    log_probs=st.lists(st.floats(-30, 0, width=32), min_size=1, max_size=4),
    lost=st.floats(0, 20),
    more_words=st.integers(0, 8),
    penalty=st.sampled_from(["none", "average", "gnmt"]),
)
def test_no_continuation_scores_above_the_bound(log_probs, lost, more_words, penalty):
    """A continuation loses log-probability, or none, and is at most ``max_length`` words and EOS long."""
    options = SearchOptions(length_penalty=penalty, alpha=0.7, max_length=9)
    bound = score_upper_bound(torch.tensor([log_probs]), options).item()
    length = 2 + more_words
    divisor = {"none": 1, "average": length, "gnmt": ((5 + length) / 6) ** 0.7}[penalty]
    for log_prob in log_probs:
        assert (log_prob - lost) / divisor <= bound + 1e-5
    longest = {"none": 1, "average": 10, "gnmt": (15 / 6) ** 0.7}[penalty]
    assert bound == pytest.approx(max(log_probs) / longest, abs=1e-5)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("height", [-500.0, 0.0, 500.0])
def test_the_normaliser_is_the_log_sum_exp_compiled_or_not(compiled, height, monkeypatch):
    """Of logits that are all ``height`` it is height + log V."""
    monkeypatch.setattr(scoring, "COMPILED", 1)
    kernels.enable(compiled)
    try:
        found = normaliser(torch.full((3, 40), height))
        torch.testing.assert_close(found, torch.full((3, 1), height + math.log(40)))
        logits = torch.randn(5, 70) * 20
        expected = logits.double().exp().sum(1, keepdim=True).log()
        torch.testing.assert_close(normaliser(logits).double(), expected, rtol=1e-6, atol=1e-5)
    finally:
        kernels.enable(False)
