"""What a training run works on, found and checked by the driver before any worker starts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import Field
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from pipelines.config.recipe import CaptionRecipe, Recipe, TranslationRecipe
from pipelines.training.data import caption_task, translation_task
from pipelines.training.data.feature_batches import Batch
from rnncond.rewards import Reward


class Batches(Protocol):
    """One rank's batches of a split. Every rank has ``steps`` of them in an epoch."""

    steps: int

    def epoch(self, number: int = 0, start: int = 0) -> Iterator[Batch]: ...


class Task(Protocol):
    """Captions or translations: all that the training loop does not know. A frozen dataclass, sent to every worker.

    Attributes:
        vocabulary, source_vocabulary: as JSON; the second is None for captions.
        features: what a model keeps of its features; None for translations.
        start: weights to begin with, from ``training.start_from``.
        data_id: changes with anything that the order or the content of batches depends on, but for the recipe.
    """

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def recipe(self) -> Recipe: ...
    @property
    def vocabulary(self) -> str: ...
    @property
    def source_vocabulary(self) -> str | None: ...
    @property
    def features(self) -> dict[str, Any] | None: ...
    @property
    def start(self) -> dict[str, Tensor] | None: ...
    @property
    def data_id(self) -> str: ...
    def batches(self, rank: int, ranks: int) -> tuple[Batches, Batches]:
        """One rank's batches of training, and of validation."""

    def sizes(self) -> dict[str, int]:
        """Fields of the system's Config that the data determine, beside ``vocab_size``."""

    def reward(self, device: torch.device) -> Reward:
        """The reward of self-critical training."""

    def count(self) -> int:
        """How many validation examples there are."""

    def scores(self, hypotheses: dict[int, str], /) -> dict[str, float]:
        """Score the sentences decoded for the validation examples, given by their positions."""

    def sample(self, example: int, hypothesis: str, /) -> dict[str, Any]:
        """A line of samples.jsonl: a validation example, and the sentence decoded for it."""

    def describe(self) -> str: ...


def prepare(recipe: Recipe, address: str | None = None) -> tuple[Task, dict[str, Any]]:
    """The task of a recipe, and what to tell of its data.

    Args:
        address: of the Ray cluster that prepares text.

    Raises:
        UserError, StoreError: the data are not there or not what the recipe says.
    """
    if isinstance(recipe, TranslationRecipe):
        return translation_task.prepare(recipe, address)
    if isinstance(recipe, CaptionRecipe):
        return caption_task.prepare(recipe)
    raise TypeError(f"a {type(recipe).__name__} is neither of captions nor of translations")
