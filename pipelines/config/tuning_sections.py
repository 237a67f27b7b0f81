"""The ``tune`` section of a recipe: what ``rnncond tune`` varies, how it chooses, and when a trial is given up.

tune:
  algorithm: optuna
  trials: 16
  asha: {grace_epochs: 2}
  space:
    training.learning_rate: {log: [3e-4, 1e-2]}
    model.hidden: {uniform: [128, 512], step: 64}
    training.images_per_batch: [16, 32, 64]
"""

from __future__ import annotations

import difflib
import math
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from pipelines.config.metrics import CaptionMetric, PairMetric
from pipelines.config.sections import Count, Positive, Section, number
from pipelines.config.yaml_core import Written, scalars, structure

Number = Annotated[float, BeforeValidator(number), Field(allow_inf_nan=False)]
Scalar = bool | int | float | str | None
WAYS = ("uniform", "log", "choices", "step")


class Dimension(Section):
    """The values that a search may give one key: a list of choices, or a range."""

    uniform: tuple[Number, Number] | None = None
    """Lowest and highest."""
    log: tuple[Number, Number] | None = None
    """Lowest and highest; as likely between 1 and 10 as between 10 and 100."""
    choices: list[Scalar] | None = Field(None, min_length=1)
    step: Positive | None = None
    """Of a range: only lowest, lowest + step, ...; whole numbers where both are whole."""

    @model_validator(mode="before")
    @classmethod
    def list_of_choices(cls, value: Any) -> Any:
        if isinstance(value, list):
            value = {"choices": value}
        if not isinstance(value, dict):
            raise ValueError(f"found {scalars(value)!r}, expected {EXPECTED}")
        return value

    @model_validator(mode="after")
    def possible(self) -> Dimension:
        given = [way for way in WAYS[:3] if getattr(self, way) is not None]
        if len(given) != 1:
            raise ValueError(f"found {' and '.join(given) or 'no values'}, expected {EXPECTED}")
        if self.choices is not None:
            if self.step is not None:
                raise ValueError("step is of a range; choices have none")
            return self
        low, high = self.ends
        if low >= high or (self.log and low <= 0):
            above = ", above zero" if self.log else ""
            raise ValueError(f"{given[0]} is [{low:g}, {high:g}], expected the lower number first{above}")
        if self.step and self.step > high - low:
            raise ValueError(f"step is {self.step:g}, more than from {low:g} to {high:g}")
        return self

    @property
    def ends(self) -> tuple[float, float]:
        """Of a range: lowest and highest, as they were given."""
        ends = self.uniform or self.log
        assert ends is not None, "choices have no ends"
        return ends

    @property
    def bounds(self) -> tuple[float, float]:
        """Of a range: the lowest value and the highest that a step reaches."""
        low, high = self.ends
        return (low, tidy(low + self.step * math.floor((high - low) / self.step + 1e-9))) if self.step else (low, high)

    def values(self) -> list[Scalar] | None:
        """All of them; None where there is no end of them."""
        if self.choices is not None:
            return list(self.choices)
        if self.step is None:
            return None
        low, high = self.bounds
        return [self.settle(low + number * self.step) for number in range(round((high - low) / self.step) + 1)]

    def extremes(self) -> list[Scalar]:
        """What must be valid for all to be: every choice, or a range's ends and, without a step, a broken number."""
        if self.choices is not None:
            return list(self.choices)
        low, high = (self.settle(bound) for bound in self.bounds)
        return [low, high] if self.step else [low, self.at(0.382), high]

    def at(self, share: float) -> Scalar:
        """The value at ``share``, at least 0 and below 1, of the way through."""
        values = self.values()
        if values and not self.log:
            return values[int(share * len(values))]
        low, high = self.bounds
        return self.settle(low * (high / low) ** share if self.log else low + (high - low) * share)

    def settle(self, value: Scalar) -> Scalar:
        """The nearest value of a range; a choice as it is."""
        if self.choices is not None or not isinstance(value, int | float):
            return value
        low, high = self.bounds
        value = min(max(value, low), high)
        if self.step:
            value = tidy(low + round((value - low) / self.step) * self.step)
            return int(value) if low.is_integer() and self.step.is_integer() else value
        return value

    def beside(self, value: Scalar, factor: float) -> Scalar:
        """A neighbour of ``value``: ``factor`` times it, at least a step away, or the next choice up or down."""
        values = self.values()
        if values and value in values:
            moved = self.times(value, factor) if self.choices is None else value
            if moved != value:
                return moved
            place = values.index(value) + (1 if factor > 1 else -1)
            return values[min(max(place, 0), len(values) - 1)]
        return self.times(value, factor)

    def times(self, value: Scalar, factor: float) -> Scalar:
        """A number of a range, ``factor`` times as large."""
        return self.settle(value * factor) if isinstance(value, int | float) else value


def tidy(value: float) -> float:
    """Without the digits that adding up tenths leaves behind."""
    return float(f"{value:.12g}")


EXPECTED = "a list of choices, or one of uniform: [low, high] and log: [low, high]"


class Asha(Section):
    """Asynchronous successive halving (Li et al. 2020): of the trials that reach ``grace_epochs``, and again
    ``reduction`` times that, and so on, the best ``1 / reduction`` continue."""

    grace_epochs: Count = 1
    """Epochs that every trial is given before the first comparison."""
    reduction: Annotated[float, BeforeValidator(number), Field(gt=1)] = 3
    """One of so many trials goes on at a comparison."""


class PopulationSection(Section):
    """Population-based training (Jaderberg et al. 2017)."""

    interval: Count = 2
    """Epochs after which the worst trials continue from the weights of the best."""
    quantile: Annotated[float, BeforeValidator(number), Field(gt=0, le=0.5)] = 0.25
    """How many of them are worst, and best."""
    resample: Annotated[float, BeforeValidator(number), Field(ge=0, le=1)] = 0.25
    """Probability that they then take a new value instead of one beside the best's, 0.8 or 1.2 times it."""


FIXED = ("data", "text", "cluster", "tracking", "tune", "system", "out")
FIXED_KEYS = ("training.start_from", "training.early_stopping.metric")
WEIGHTS_STAY = (
    "training.learning_rate", "training.weight_decay", "training.clip_norm", "training.label_smoothing",
    "training.word_dropout", "model.dropout",
)  # fmt: skip
"""Keys that may change while a model is trained."""


class Tune(Section):
    """The search of ``rnncond tune``; other verbs leave it alone."""

    algorithm: Literal["random", "grid", "optuna", "pbt"] = "optuna"
    """``optuna``: by what earlier trials reached (the tree-structured Parzen estimator, Bergstra et al. 2011)."""
    trials: Count | None = None
    """How many; a grid has as many as it has."""
    metric: str | None = None
    """Whose best value over the epochs is a trial's score; null: that of ``training.early_stopping``."""
    asha: Asha | None = None
    """Give up bad trials early; null: none."""
    pbt: PopulationSection = PopulationSection()
    budget_minutes: Positive | None = None
    """Minutes, from the first trial on, after which the search ends; the same command goes on for as many more. null:
    when all trials are done."""
    concurrent: Count | None = None
    """Trials at a time; null: as many as the cluster holds."""
    storage: str | None = None
    """Where a population's trials leave their states for one another; null: in OUT. On a cluster of several nodes a
    place that all of them see, such as s3://."""
    space: dict[str, Dimension] = Field(min_length=1)
    """By key of the recipe."""

    @property
    def count(self) -> int:
        """Trials of the whole search."""
        return self.trials or math.prod(len(dimension.values() or []) for dimension in self.space.values())

    @property
    def over(self) -> str:
        """That the time is over, in words."""
        return f"The {self.budget_minutes:g} minutes of tune.budget_minutes are over"

    @field_validator("space", mode="before")
    @classmethod
    def by_dotted_key(cls, space: Any) -> Any:
        """A key that is null is left out."""
        if not isinstance(space, dict):
            return space
        return {key: value for key, value in dotted(space).items() if value is not None}

    @field_validator("space")
    @classmethod
    def of_the_model_and_its_training(cls, space: dict[str, Dimension]) -> dict[str, Dimension]:
        fixed = [key for key in space if key.split(".")[0] in FIXED or key in FIXED_KEYS]
        if fixed:
            raise ValueError(
                f"{', '.join(fixed)} cannot be searched over: all trials share their data and how they are judged. "
                "Keys of model, training and search can; for others give `rnncond tune` another recipe and --out"
            )
        return space

    @model_validator(mode="after")
    def algorithm_can(self) -> Tune:
        endless = [key for key, dimension in self.space.items() if dimension.values() is None]
        if self.algorithm == "grid" and endless:
            raise ValueError(f"space.{endless[0]} has no end of values; a grid needs choices, or a range with a step")
        if self.algorithm == "grid" and self.trials is not None:
            raise ValueError(f"trials is {self.trials}, but a grid has as many as it has values; say tune.trials=null")
        if self.algorithm != "grid" and self.trials is None:
            raise ValueError(f"trials is missing; algorithm {self.algorithm} needs a number of trials")
        if "training.epochs" in self.space and (self.asha or self.algorithm == "pbt"):
            raise ValueError("space.training.epochs: asha and pbt compare trials of equally many epochs")
        return self

    @model_validator(mode="after")
    def population_can(self) -> Tune:
        if self.algorithm != "pbt":
            return self
        if self.asha:
            raise ValueError("asha gives up trials and pbt replaces them: set asha to null, or take another algorithm")
        if (self.trials or 0) < 2:
            raise ValueError("trials is 1, but a population has at least 2")
        if self.concurrent is not None:
            raise ValueError("concurrent: a population trains in turns where the cluster holds fewer; leave it out")
        unfit = [key for key in self.space if key not in WEIGHTS_STAY]
        if unfit:
            raise ValueError(
                f"space.{unfit[0]} cannot change while a model is trained, as pbt has it; {', '.join(WEIGHTS_STAY)} can"
            )
        return self


def dotted(space: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections, as ``tune.space.model.hidden=...`` on the command line makes them, as dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in space.items():
        if isinstance(value, Written):
            value = structure(value)
        if isinstance(value, dict) and not any(difflib.get_close_matches(str(inner), WAYS) for inner in value):
            flat |= dotted(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


class CaptionTune(Tune):
    metric: CaptionMetric | None = None


class PairTune(Tune):
    metric: PairMetric | None = None
