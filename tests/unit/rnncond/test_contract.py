from functools import partial

import pytest
import torch

from rnncond.contract import draw, exact_of
from rnncond.systems import find


@pytest.mark.parametrize(
    ("system", "sizes"),
    [
        ("encdec_image", {"embedding": 512, "hidden": 512, "layers": 1}),
        ("mrnn", {"embedding": 128, "hidden": 256, "multimodal": 512}),
        ("show_attend_tell", {"embedding": 512, "hidden": 1800, "attention": 512}),
        ("show_tell", {"embedding": 512, "hidden": 512}),
        ("top_down", {"embedding": 1000, "hidden": 1000, "attention": 512}),
    ],
)
def test_sizes_are_the_papers_by_default_and_others_are_checked(system, sizes):
    make = partial(find(system).Config, vocab_size=11, feature_size=5)
    assert {name: getattr(make(), name) for name in sizes} == sizes
    with pytest.raises(ValueError, match="hidden is 0; it must be at least 1"):
        make(hidden=0)
    with pytest.raises(ValueError, match=r"dropout is 1\.0; it must be at least 0 and below 1"):
        make(dropout=1.0)


def test_draws_are_as_probable_as_said():
    torch.manual_seed(0)
    probabilities = torch.tensor([[0.1, 0.2, 0.7], [0.0, 1.0, 0.0]])
    draws = draw(probabilities.repeat(20_000, 1)).view(-1, 2)
    shares = draws[:, 0].bincount(minlength=3) / len(draws)
    torch.testing.assert_close(shares, probabilities[0], atol=0.015, rtol=0)  # four standard deviations
    assert (draws[:, 1] == 1).all()


def test_rows_that_are_no_numbers_are_drawn_from_evenly_and_change_no_other_row():
    torch.manual_seed(0)
    wrong = torch.tensor([torch.nan, torch.nan, torch.nan, torch.nan])
    probabilities = torch.stack([wrong, torch.tensor([0.0, 0.0, 1.0, 0.0])]).repeat(8_000, 1)
    draws = draw(probabilities).view(-1, 2)
    shares = draws[:, 0].bincount(minlength=4) / len(draws)
    torch.testing.assert_close(shares, torch.full((4,), 0.25), atol=0.02, rtol=0)
    assert (draws[:, 1] == 2).all()


def test_other_logits_have_none():
    assert exact_of(torch.zeros(6, 9)) is None
