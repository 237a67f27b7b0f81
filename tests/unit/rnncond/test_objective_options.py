"""Decays by their formulas, and options that mean nothing."""

import math

import pytest

from rnncond.objective_options import Decay, check_samples


def test_decays_by_formula():
    linear = Decay(k=0.9, c=0.1, lowest=0.25)
    assert [linear(step) for step in (0, 1, 6, 7, 100)] == pytest.approx([0.9, 0.8, 0.3, 0.25, 0.25])
    exponential = Decay(kind="exponential", k=0.5)
    assert [exponential(step) for step in (0, 1, 3)] == [1, 0.5, 0.125]
    sigmoid = Decay(kind="inverse_sigmoid", k=10)
    assert sigmoid(0) == pytest.approx(10 / 11)
    assert sigmoid(10 * math.log(10)) == pytest.approx(0.5)
    assert sigmoid(10**9) == pytest.approx(0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "slow"}, "kind is 'slow'; it can be linear, exponential, inverse_sigmoid"),
        ({}, "c is None and kind linear; linear needs c above 0"),
        ({"c": -1.0}, r"c is -1.0 and kind linear"),
        ({"k": 1.5, "c": 0.1}, "k is 1.5; for linear it must be from 0 to 1"),
        ({"kind": "exponential"}, "k is 1.0; for exponential it must be above 0 and below 1"),
        ({"kind": "exponential", "k": 0.9, "c": 0.1}, "c is 0.1 and kind exponential"),
        ({"kind": "inverse_sigmoid", "k": 0.5}, "k is 0.5; for inverse_sigmoid it must be at least 1"),
        ({"c": 0.1, "lowest": 1.0}, "lowest is 1.0"),
    ],
)
def test_decays_that_mean_nothing_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Decay(**settings)


def test_too_few_samples_for_a_baseline_are_refused():
    with pytest.raises(ValueError, match="samples is 1; the baseline 'others' needs at least 2"):
        check_samples(1, "others")
    with pytest.raises(ValueError, match="samples is 0; the baseline 'greedy' needs at least 1"):
        check_samples(0, "greedy")
    with pytest.raises(ValueError, match="baseline is 'mean'; it can be greedy, others"):
        check_samples(5, "mean")
