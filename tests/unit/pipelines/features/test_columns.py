"""Features between a store and a system: arrays of one shape, and lists of regions."""

import numpy as np
import pytest
import torch

from pipelines.features.columns import as_column, joined, of_column, pad_regions, source_of

CHANCE = np.random.default_rng(0)
POOLED = CHANCE.normal(size=(3, 4)).astype(np.float16)
GRID = CHANCE.normal(size=(3, 2, 5, 4)).astype(np.float16)
REGIONS = [CHANCE.normal(size=(length, 4)).astype(np.float16) for length in (2, 1, 3)]


@pytest.mark.parametrize("values", [POOLED, GRID, REGIONS], ids=["pooled", "grid", "regions"])
def test_a_column_gives_back_what_it_was_made_of(values):
    again = of_column(as_column(values))
    assert type(again) is type(values) and len(again) == len(values)
    assert all(np.array_equal(one, other) for one, other in zip(again, values, strict=True))


@pytest.mark.parametrize("values", [POOLED, REGIONS], ids=["pooled", "regions"])
def test_batches_are_joined_in_their_order(values):
    whole = joined([values[:1], values[1:]])
    assert all(np.array_equal(one, other) for one, other in zip(whole, values, strict=True))


def test_a_system_is_given_places_in_rows():
    assert torch.equal(source_of(POOLED).values, torch.from_numpy(POOLED))
    source = source_of(GRID)
    assert source.values.shape == (3, 10, 4) and source.mask is None
    assert torch.equal(source.values[1, 7], torch.from_numpy(GRID[1, 1, 2]))


def test_regions_are_padded_to_the_longest_and_masked():
    for source in (pad_regions(REGIONS), source_of(REGIONS)):
        assert source.values.shape == (3, 3, 4)
        assert source.mask.sum(1).tolist() == [2, 1, 3]
        for row, (values, mask) in enumerate(zip(source.values, source.mask, strict=True)):
            assert np.array_equal(values[mask], REGIONS[row])
            assert not values[~mask].any()
