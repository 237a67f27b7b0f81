"""What a recipe trains on: ``training.objective`` as a module, and ``training.start_from`` as a model that fits."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from pipelines.console import UserError
from pipelines.models import locate
from pipelines.recipe import FILLED, Recipe
from pipelines.training_sections import ScheduledSampling, SelfCritical, Training
from rnncond import objectives
from rnncond.checkpoint import Trained, load
from rnncond.contract import System
from rnncond.losses import Sums, TeacherForcing
from rnncond.rewards import Reward, bleu, gleu

TALLY = ("objective", "loss", "words", "reward", "baseline", "examples")
"""What is summed up over the steps of an epoch."""


REWARDS = {"BLEU": bleu, "GLEU": gleu}
"""Those that need to know nothing but the sentences."""


def make_objective(recipe: Recipe, model: System, reward: Reward | None) -> nn.Module:
    """``model`` with what it is to be trained on; ``reward`` is for self-critical training."""
    settings, smoothing = recipe.training.objective, recipe.training.label_smoothing
    if isinstance(settings, ScheduledSampling):
        return objectives.ScheduledSampling(model, smoothing)
    if isinstance(settings, SelfCritical):
        how = settings.model_dump(exclude={"kind", "reward"})
        return objectives.SelfCritical(
            model, reward, max_length=recipe.search["max_length"], smoothing=smoothing, **how
        )
    return TeacherForcing(model, smoothing)


def at_step(settings: Training, step: int) -> tuple[float, ...]:
    """What the objective is given beside a batch: scheduled sampling's probability of a gold word."""
    if isinstance(settings.objective, ScheduledSampling):
        return (objectives.Decay(**settings.objective.decay.model_dump())(step),)
    return ()


def tally(found: Sums | objectives.Rewarded, words: int) -> Tensor:
    """``TALLY`` of one step, (6,); what the objective does not have is 0."""
    values = {**found._asdict(), "words": words}
    numbers = [0.0 if values.get(name) is None else values[name] for name in TALLY]
    device = found.objective.device
    return torch.stack([torch.as_tensor(n, dtype=torch.float64, device=device) for n in numbers]).detach()


def means(settings: Training, sums: Tensor) -> dict[str, float]:
    """Metrics from the sums (6,) of some steps: loss per reference word, reward and baseline per example."""
    total = dict(zip(TALLY, sums.tolist(), strict=True))
    found = {}
    if not isinstance(settings.objective, SelfCritical) or settings.objective.cross_entropy:
        found["train_loss"] = total["loss"] / max(total["words"], 1)
    if isinstance(settings.objective, SelfCritical):
        examples = max(total["examples"], 1)
        found |= {"reward": total["reward"] / examples, "baseline": total["baseline"] / examples}
    return found


def start_of(recipe: Recipe, features: dict[str, Any] | None = None) -> Trained | None:
    """The model of ``training.start_from``; None where training starts from nothing.

    Its vocabulary is to be taken, too: ``text.size`` and ``text.min_count`` then have nothing to decide.

    Args:
        features: of the task, if it has any: ``fingerprint`` and ``output``.

    Raises:
        UserError, ModelError: there is no model, or it differs in system, config, text or features; all differences.
    """
    name = recipe.training.start_from
    if name is None:
        return None
    trained = load(locate(name, recipe.tracking.uri))
    if trained.system != recipe.system:
        raise UserError(
            f"training.start_from: {name} is of the system {trained.system}, and the recipe of {recipe.system}. "
            "A model goes on as what it is."
        )
    config = {key: value for key, value in dataclasses.asdict(trained.model.config).items() if key not in FILLED}
    pairs = {f"model.{key}": (value, recipe.model.get(key)) for key, value in config.items()}
    text = recipe.text.model_dump()
    known = dataclasses.asdict(trained.vocabulary.text).items()
    pairs |= {f"text.{key}": (value, text[key]) for key, value in known if key in text}
    joint = trained.info.get("recipe", {}).get("text", {}).get("joint")  # of its two vocabularies together
    if joint is not None:
        pairs["text.joint"] = (joint, text["joint"])
    if features:
        there = trained.features or {}
        pairs |= {f"features' {key}": (there.get(key), features[key]) for key in ("fingerprint", "output")}
    wrong = [
        f"  {key}: {was!r} there, {now!r} here" for key, (was, now) in pairs.items() if as_list(was) != as_list(now)
    ]
    if wrong:
        raise UserError(
            f"training.start_from: {name} does not fit the recipe:\n" + "\n".join(wrong) + "\nGo on from the recipe "
            "that it was trained with: RUN/recipe.yaml, and on the same features."
        )
    return trained


def as_list(value: Any) -> Any:
    """A tuple is a list in a recipe."""
    return list(value) if isinstance(value, tuple) else value
