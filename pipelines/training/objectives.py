"""What a recipe trains on: its ``training.objective`` as a module, and the sums that become an epoch's metrics."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pipelines.config.recipe import Recipe
from pipelines.config.training_sections import ScheduledSampling, SelfCritical, Training
from pipelines.training.run.state import TALLY
from rnncond import objective_options, objectives
from rnncond.contract import System
from rnncond.losses import Sums, TeacherForcing
from rnncond.rewards import Reward


def make_objective(recipe: Recipe, model: System, reward: Reward | None) -> nn.Module:
    """Wrap ``model`` in what it is to be trained on; only self-critical training has a ``reward``."""
    training = recipe.training
    settings = training.objective
    noise: dict[str, Any] = {"smoothing": training.label_smoothing, "word_dropout": training.word_dropout}
    if isinstance(settings, ScheduledSampling):
        return objectives.ScheduledSampling(model, **noise)
    if isinstance(settings, SelfCritical):
        if reward is None:
            raise ValueError("self-critical training needs a reward")
        how = settings.model_dump(exclude={"kind", "reward"})
        return objectives.SelfCritical(model, reward, max_length=recipe.search["max_length"], **noise, **how)
    return TeacherForcing(model, **noise)


def step_arguments(settings: Training, step: int) -> tuple[float, ...]:
    """What the objective is given beside a batch: scheduled sampling's probability of a reference word."""
    if isinstance(settings.objective, ScheduledSampling):
        return (objective_options.Decay(**settings.objective.decay.model_dump())(step),)
    return ()


def tally(result: Sums | objectives.Rewarded, words: int) -> Tensor:
    """``TALLY`` of one step, (6,); what the objective does not have is 0."""
    values = {**result._asdict(), "words": words}
    numbers = [0.0 if values.get(name) is None else values[name] for name in TALLY]
    device = result.objective.device
    return torch.stack([torch.as_tensor(n, dtype=torch.float64, device=device) for n in numbers]).detach()


def means(settings: Training, sums: Tensor) -> dict[str, float]:
    """Metrics from the sums (6,) of some steps: loss per reference word, reward and baseline per example."""
    total = dict(zip(TALLY, sums.tolist(), strict=True))
    metrics = {}
    if not isinstance(settings.objective, SelfCritical) or settings.objective.cross_entropy:
        metrics["train_loss"] = total["loss"] / max(total["words"], 1)
    if isinstance(settings.objective, SelfCritical):
        examples = max(total["examples"], 1)
        metrics |= {"reward": total["reward"] / examples, "baseline": total["baseline"] / examples}
    return metrics
