"""The schedules of the learning rate; and loss scaling, which a training on a CPU never needs, on the CPU's scaler."""

import pytest
import torch
from torch import nn

from pipelines.config.training_sections import Training
from pipelines.training.optimizer import Optimizer, lr_factor, mean, swapped_weights
from pipelines.training.run.state import TrainState

CPU = torch.device("cpu")


def made(precision: str, **settings) -> Optimizer:
    torch.manual_seed(0)
    return Optimizer(nn.Linear(3, 2), Training(epochs=1, precision=precision, **settings), CPU)


def take(optimizer: Optimizer, steps: int, scale: float = 1.0) -> bool:
    optimizer.backward((optimizer.model(torch.ones(1, 3)) * scale).square().sum())
    return optimizer.step(0.1, steps)


def test_a_scaled_step_is_the_step():
    scaled, plain = made("float16", clip_norm=0.5), made("float32", clip_norm=0.5)
    assert scaled.scaler.get_scale() > 1000
    for steps in range(3):
        assert take(scaled, steps)
        assert take(plain, steps)
    for weight, expected in zip(scaled.model.parameters(), plain.model.parameters(), strict=True):
        torch.testing.assert_close(weight, expected)


@pytest.mark.parametrize("clip_norm", [None, 5.0])
def test_a_step_that_overflows_is_skipped_and_the_scale_halved(clip_norm):
    optimizer = made("float16", ema=0.5, clip_norm=clip_norm)
    optimizer.begin()
    take(optimizer, 0)
    scale = optimizer.scaler.get_scale()
    before = {name: tensor.clone() for name, tensor in (optimizer.model.state_dict() | optimizer.tensors()).items()}
    assert not take(optimizer, 1, scale=1e19)
    assert optimizer.scaler.get_scale() == scale / 2
    for name, tensor in (optimizer.model.state_dict() | optimizer.tensors()).items():
        assert torch.equal(tensor, before[name]), name
    assert take(optimizer, 2)


def test_it_goes_on_from_its_state():
    first = made("float16", ema=0.5)
    first.begin()
    take(first, 0)
    take(first, 1, scale=1e19)
    second = made("float16", ema=0.5)
    second.model.load_state_dict(first.model.state_dict())
    second.restore({name: tensor.clone() for name, tensor in first.tensors().items()})
    second.scaler.load_state_dict(first.scaler.state_dict())
    for optimizer in (first, second):
        take(optimizer, 2)
    assert second.scaler.state_dict() == first.scaler.state_dict()
    for name, tensor in (first.model.state_dict() | first.tensors()).items():
        assert torch.equal((second.model.state_dict() | second.tensors())[name], tensor), name


def test_a_model_wears_weights_for_a_while():
    model = nn.Linear(2, 1)
    own = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with swapped_weights(model, {"bias": torch.tensor([7.0])}):
        assert model.bias.item() == 7
        assert torch.equal(model.weight, own["weight"])
    assert torch.equal(model.bias, own["bias"])


def test_the_mean_of_equal_weights_is_what_they_are():
    weights = {"a": torch.rand(99)}
    assert torch.equal(mean([weights] * 7)["a"], weights["a"])
    assert mean([{"a": torch.tensor([1.0])}, {"a": torch.tensor([4.0])}])["a"].item() == 2.5


def settings(**changes) -> Training:
    return Training(epochs=10, **changes)


def rates_of(steps, **schedule):
    return [lr_factor(settings(schedule=schedule), TrainState(steps=step), 5) for step in steps]


def test_constant_rate_after_a_linear_warm_up():
    assert rates_of(range(6), warmup_steps=4) == [0.25, 0.5, 0.75, 1, 1, 1]


def test_cosine_falls_from_one_to_nothing():
    assert rates_of((0, 25, 50), kind="cosine") == pytest.approx([1, 0.5, 0], abs=1e-12)


def test_gnmt_halves_from_a_step_on():
    rates = rates_of(range(9), kind="gnmt", warmup_steps=2, start_decay_steps=4, decay_every=2)
    assert rates == [0.5, 1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.125]


def test_inverse_square_root_after_a_linear_warm_up():
    assert rates_of((0, 1, 3, 15, 63), kind="inverse_sqrt", warmup_steps=4) == [0.25, 0.5, 1, 0.5, 0.25]
