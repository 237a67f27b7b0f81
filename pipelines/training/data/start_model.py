"""The model that a run starts from: ``training.objective.start`` names one that was trained before."""

from __future__ import annotations

import dataclasses
from typing import Any

from pipelines.config.recipe import FILLED, Recipe
from pipelines.config.training_sections import SelfCritical
from pipelines.errors import UserError
from pipelines.tracking.models import locate
from rnncond.checkpoint import Trained, load
from rnncond.rewards import bleu, gleu

REWARDS = {"BLEU": bleu, "GLEU": gleu}
"""Those that need to know nothing but the sentences."""


def reward_of(recipe: Recipe) -> str:
    """The name of the reward that a self-critical recipe trains on."""
    objective = recipe.training.objective
    if not isinstance(objective, SelfCritical):
        raise ValueError(f"training.objective.kind is {objective.kind}, which has no reward")
    return objective.reward


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
            "A model is trained further as what it is."
        )
    config = {key: value for key, value in dataclasses.asdict(trained.model.config).items() if key not in FILLED}
    pairs = {f"model.{key}": (value, recipe.model.get(key)) for key, value in config.items()}
    text = recipe.text.model_dump()
    known = dataclasses.asdict(trained.vocabulary.text).items()
    pairs |= {f"text.{key}": (value, text[key]) for key, value in known if key in text}
    pairs["text.truecase"] = (trained.vocabulary.truecaser is not None, text["truecase"])
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
