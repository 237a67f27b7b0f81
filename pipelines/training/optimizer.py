"""What a step does to the weights: learning rate, loss scaling, clipping, AdamW, and the moving average of weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from pipelines.config.training_sections import Cosine, GnmtDecay, InverseSqrt, Training
from pipelines.errors import UserError
from pipelines.training.run.state import TrainState

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""What autocast computes in."""
ADAM, ADAM_IN_0_1 = "optimizer", "optimiser"
"""How the names of AdamW's tensors begin in a checkpoint, now and in those of rnncond 0.1.0."""


class Optimizer:
    """AdamW on a model's gradients, as ``settings`` have it.

    Attributes:
        scaler: of the loss, in float16 only, whose small gradients would otherwise be nothing (Micikevicius et al.
            2018, section 3.2). It lowers itself, and the step is skipped, when a gradient is not finite.
        average: of the weights, by name, where there is ``training.ema``; else empty.
    """

    def __init__(self, model: nn.Module, settings: Training, device: torch.device) -> None:
        self.model, self.settings = model, settings
        self.adam = make_adam(model, settings)
        self.scaler = torch.amp.GradScaler(device.type, enabled=settings.precision == "float16")
        self.average: dict[str, Tensor] = {}

    def begin(self) -> None:
        """Start the moving average from the weights as they are now, those that training begins with."""
        if self.settings.ema is not None:
            self.average = {name: weight.detach().clone() for name, weight in self.model.named_parameters()}

    def backward(self, objective: Tensor) -> None:
        self.scaler.scale(objective).backward()

    def step(self, rate: float, steps: int) -> bool:
        """Change the weights by their gradients, and clear these; False where they were not finite in float16.

        Args:
            rate: the learning rate.
            steps: taken before.
        """
        for group in self.adam.param_groups:
            group["lr"] = rate
        self.scaler.unscale_(self.adam)
        if self.settings.clip_norm:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        before = self.scaler.get_scale()
        self.scaler.step(self.adam)
        self.scaler.update()
        self.adam.zero_grad()
        done = self.scaler.get_scale() >= before
        if done and self.average:
            self.follow(steps)
        return done

    @torch.no_grad()
    def follow(self, steps: int) -> None:
        """average <- d average + (1 - d) weights. d rises with the steps to ``ema``, lest the first weights linger."""
        decay = min(self.settings.ema or 0.0, (1 + steps) / (10 + steps))
        for name, weight in self.model.named_parameters():
            self.average[name].lerp_(weight, 1 - decay)

    def tensors(self) -> dict[str, Tensor]:
        """The state, but for the scaler's."""
        state = {f"average.{name}": tensor for name, tensor in self.average.items()}
        for index, values in self.adam.state_dict()["state"].items():
            state |= {f"{ADAM}.{index}.{name}": tensor for name, tensor in values.items()}
        return state

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Resume from what ``tensors`` gave; there may be others among them."""
        self.begin()
        for name, tensor in self.average.items():
            tensor.copy_(tensors[f"average.{name}"])
        values: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            prefix, _, rest = name.partition(".")
            if prefix in (ADAM, ADAM_IN_0_1):
                index, _, key = rest.partition(".")
                values.setdefault(int(index), {})[key] = tensor
        self.adam.load_state_dict({**self.adam.state_dict(), "state": values})


def make_adam(model: nn.Module, settings: Training) -> torch.optim.Optimizer:
    """AdamW, without decay of biases; with weight_decay 0 it is Adam."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)


def lr_factor(settings: Training, state: TrainState, steps_per_epoch: int) -> float:
    """The factor by which the schedule multiplies ``training.learning_rate`` at the next step."""
    schedule = settings.schedule
    if isinstance(schedule, InverseSqrt):
        step = state.steps + 1
        return min(step / schedule.warmup_steps, math.sqrt(schedule.warmup_steps / step))
    warm = min(1.0, (state.steps + 1) / schedule.warmup_steps) if schedule.warmup_steps else 1.0
    if isinstance(schedule, Cosine):
        total = settings.epochs * steps_per_epoch
        after = max(0, state.steps - schedule.warmup_steps) / max(1, total - schedule.warmup_steps)
        return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, after)))
    if isinstance(schedule, GnmtDecay):
        late = state.steps - schedule.start_decay_steps
        return warm * (0.5 ** (1 + late // schedule.decay_every) if late >= 0 else 1.0)
    return warm * state.lr_factor


def check_precision(settings: Training, device: str) -> None:
    """Raises UserError where ``device``, ``cpu`` or ``cuda``, cannot train in ``training.precision``."""
    if settings.precision == "float16" and device == "cpu":
        raise UserError(
            "training.precision is float16, but the workers have no GPU. On a CPU float16 gains nothing over bfloat16, "
            "whose range needs no loss scaling: take training.precision=bfloat16 or float32, or give each worker a GPU "
            "with cluster.gpus_per_worker=1."
        )


@contextmanager
def swapped_weights(model: nn.Module, weights: dict[str, Tensor]) -> Iterator[None]:
    """Give ``model`` other ``weights``, all of its own or some, while the block runs."""
    own = {name: tensor.clone() for name, tensor in model.state_dict().items() if name in weights}
    model.load_state_dict(weights, strict=False)
    try:
        yield
    finally:
        model.load_state_dict(own, strict=False)


def mean(models: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of each weight over ``models``, summed in float64, so that the mean of equals is what they are."""
    return {
        name: torch.stack([model[name].double() for model in models]).mean(0).to(tensor.dtype)
        for name, tensor in models[-1].items()
    }
