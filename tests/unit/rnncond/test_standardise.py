import torch

from rnncond.standardise import FLOOR, Standardise


def test_changes_nothing_before_fit():
    values = torch.randn(3, 2, 4)
    assert Standardise(4)(values).equal(values)


def test_standardises_each_channel():
    values = 7 + torch.randn(50, 4, 3) * torch.tensor([1.0, 10.0, 100.0])
    flat = values.flatten(0, 1)
    module = Standardise(3)
    module.fit(flat.mean(0), flat.std(0, correction=0))
    found = module(values.half()).flatten(0, 1)
    torch.testing.assert_close(found.mean(0), torch.zeros(3), atol=1e-3, rtol=0)
    # 1 is below FLOOR times the mean deviation, about 37, so the first channel stays small.
    torch.testing.assert_close(found.std(0)[1:], torch.ones(2), atol=0.02, rtol=0)
    torch.testing.assert_close(found.std(0)[0], 1 / (FLOOR * flat.std(0).mean()), atol=0.02, rtol=0)


def test_gives_each_channel_the_deviation_that_is_asked_for():
    values = 7 + torch.randn(50, 3)
    module = Standardise(3, deviation=0.1)
    module.fit(values.mean(0), values.std(0, correction=0))
    torch.testing.assert_close(module(values).std(0, correction=0), torch.full((3,), 0.1))


def test_channels_that_never_move_become_zero():
    module = Standardise(2)
    module.fit(torch.tensor([5.0, 5.0]), torch.zeros(2))
    assert module(torch.full((1, 2), 5.0)).eq(0).all()


def test_is_saved_with_the_weights():
    module, other = Standardise(2), Standardise(2)
    module.fit(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0]))
    other.load_state_dict(module.state_dict())
    assert other(torch.ones(1, 2)).equal(module(torch.ones(1, 2)))
