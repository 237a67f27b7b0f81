"""What a search may vary: a dimension's values, its neighbours, and the share that each value gets."""

import math
from collections import Counter

import numpy as np
import pytest
from pydantic import ValidationError

from pipelines.config.tuning_sections import Dimension
from pipelines.config.yaml_core import Written

SHARES = np.linspace(0, 1, 1001)[:-1]


def test_a_logarithmic_range_gives_each_power_of_ten_its_share():
    drawn = [Dimension(log=(1e-4, 1e-1)).at(share) for share in SHARES]
    assert (min(drawn), max(drawn)) == (pytest.approx(1e-4), pytest.approx(1e-1, rel=0.01))
    assert set(Counter(math.floor(math.log10(value) + 1e-9) for value in drawn).values()) <= {333, 334}


def test_steps_and_choices_come_equally_often():
    stepped = Counter(Dimension(uniform=(128, 512), step=128).at(share) for share in SHARES)
    assert stepped == {128: 250, 256: 250, 384: 250, 512: 250}
    assert all(isinstance(value, int) for value in stepped)
    assert Counter(Dimension(choices=["a", True]).at(share) for share in SHARES) == {"a": 500, True: 500}
    assert [Dimension(uniform=(2, 4)).at(share) for share in (0, 0.5)] == [2, 3]


@pytest.mark.parametrize(
    ("dimension", "values"),
    [
        ({"uniform": [0.1, 0.45], "step": 0.1}, [0.1, 0.2, 0.3, 0.4]),
        ({"uniform": [1, 3], "step": 1}, [1, 2, 3]),
        ({"log": [2, 16], "step": 7}, [2, 9, 16]),
        ([Written("1e-3"), "cosine", None, 2], [0.001, "cosine", None, 2]),
        ({"uniform": [0, 1]}, None),
    ],
)
def test_all_values_where_they_can_be_counted(dimension, values):
    assert Dimension.model_validate(dimension).values() == values


def test_a_value_is_settled_on_the_nearest_step_within_the_range():
    dimension = Dimension(uniform=(0.1, 0.5), step=0.1)
    assert [dimension.settle(value) for value in (0.0, 0.26, 0.31, 9)] == [0.1, 0.3, 0.3, 0.5]
    assert Dimension(log=(1, 9)).settle(10) == 9
    assert Dimension(choices=[3, 5]).settle(4) == 4


def test_neighbours_are_a_factor_or_a_step_away_and_stay_within():
    assert Dimension(log=(1e-4, 1e-2)).beside(1e-3, 1.2) == pytest.approx(1.2e-3)
    assert Dimension(log=(1e-4, 1e-2)).beside(1e-2, 1.2) == 1e-2
    assert Dimension(uniform=(0.1, 0.5), step=0.1).beside(0.2, 1.2) == 0.3
    assert Dimension(uniform=(0, 0.5), step=0.1).beside(0, 1.2) == 0.1
    assert [Dimension(choices=[1, 2, 4]).beside(2, factor) for factor in (0.8, 1.2)] == [1, 4]
    assert Dimension(choices=[1, 2, 4]).beside(4, 1.2) == 4


@pytest.mark.parametrize(("low", "high", "step"), [(0.2, 0.6, 0.9), (32, 64, 100)])
def test_a_step_that_is_too_long_is_told_with_the_ends_that_were_given(low, high, step):
    with pytest.raises(ValidationError, match=f"step is {step}, more than from {low} to {high}"):
        Dimension(uniform=(low, high), step=step)
    with pytest.raises(ValidationError, match=rf"uniform is \[{high}, {low}\], expected the lower number first"):
        Dimension(uniform=(high, low), step=step)
