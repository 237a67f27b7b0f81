import torch

from rnncond.contract import draw


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
