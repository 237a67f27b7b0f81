"""How far a training run has come, and what its validations decide."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.config.metrics import value_of
from pipelines.config.training_sections import Training
from pipelines.errors import UserError
from pipelines.training.objectives import TALLY

NOTHING = (0.0,) * len(TALLY)


@dataclass
class Position:
    """How far a run has come, and what later decisions need to know of the way; plain numbers.

    Attributes:
        epoch: finished epochs; ``step`` finished steps of the one under way, ``steps`` of all. A step changes the
            weights once, by ``training.accumulate`` batches of each rank.
        skipped: of ``steps``, those whose gradients float16 could not hold.
        best, best_epoch: the best value of the early-stopping metric, and where.
        waited: epochs validated since.
        rate: what the plateau schedule has made of the learning rate, as a factor.
        lowest, flat: lowest validation loss, and epochs since; for the plateau schedule.
        objective, loss, words, reward, baseline, examples: ``TALLY`` over this rank's steps of the epoch under way.
        seconds: spent on the steps of the epoch under way, without checkpoints.
        finished: stopped early.
    """

    epoch: int = 0
    step: int = 0
    steps: int = 0
    skipped: int = 0
    ranks: int = 1
    best: float | None = None
    best_epoch: int = 0
    waited: int = 0
    rate: float = 1.0
    lowest: float = math.inf
    flat: int = 0
    objective: float = 0.0
    loss: float = 0.0
    words: float = 0.0
    reward: float = 0.0
    baseline: float = 0.0
    examples: float = 0.0
    seconds: float = 0.0
    finished: bool = False

    @classmethod
    def read(cls, text: bytes) -> Position:
        """Of a checkpoint.

        Raises:
            UserError: another version of the project wrote it.
        """
        try:
            return cls(**json.loads(text))
        except TypeError as error:
            raise UserError(
                f"The checkpoint is of another version of rnncond ({error}). Go on with the version that run.json "
                "names, or give --restart to begin again."
            ) from None

    @property
    def sums(self) -> list[float]:
        return [getattr(self, name) for name in TALLY]

    @sums.setter
    def sums(self, numbers: Sequence[float]) -> None:
        for name, number in zip(TALLY, numbers, strict=True):
            setattr(self, name, number)


def decide(at: Position, settings: Training, scores: dict[str, float]) -> bool:
    """Take note of a validation: is it the best so far? Also lowers a plateau's rate and ends a run that waits."""
    metric, schedule = settings.early_stopping.metric, settings.schedule
    value = value_of(scores, metric)
    improved = at.best is None or value > at.best
    if improved:
        at.best, at.best_epoch, at.waited = value, at.epoch, 0
    else:
        at.waited += 1
    if schedule.kind == "plateau":
        at.flat = 0 if scores["val_loss"] < at.lowest else at.flat + 1
        at.lowest = min(at.lowest, scores["val_loss"])
        if at.flat >= schedule.patience:
            at.rate, at.flat = at.rate * schedule.factor, 0
    patience = settings.early_stopping.patience
    at.finished = patience is not None and at.waited >= patience
    return improved
