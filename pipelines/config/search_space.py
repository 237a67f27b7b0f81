"""What a search varies, checked before anything starts: from a recipe with a ``tune`` section to a trial's recipe."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from pipelines.config.dotted import absolute, flat, put
from pipelines.config.messages import in_one_message
from pipelines.config.recipe import Recipe, checked, name_of, overridden, resolve, validate
from pipelines.config.tuning_sections import Tune, dotted
from pipelines.config.yaml_core import Written, dump_yaml, structure
from pipelines.console import plural, tell
from pipelines.errors import UserError
from pipelines.files.remote_folder import below, is_remote

Params = dict[str, Any]
"""What a trial has instead of the recipe's own values, by key."""
CORNERS = 256
"""Combinations of extreme values that are all checked; of more, each value is checked alone."""


@dataclass(frozen=True)
class Search:
    """A recipe to vary.

    Attributes:
        recipe: resolved, as it is without a search. Its ``out`` is the search's folder.
        values: of the recipe as they were given, to put a trial's among: what depends on them is not filled in yet.
    """

    recipe: Recipe
    values: dict[str, Any]
    settings: Tune

    @property
    def metric(self) -> str:
        return self.recipe.training.early_stopping.metric

    def count(self) -> int:
        return self.settings.count

    def every_value(self) -> dict[str, list[Any]]:
        """By key, for a grid, whose values have an end."""
        return {key: dimension.values() or [] for key, dimension in self.settings.space.items()}

    def recipe_of(self, params: Params, out: str) -> Recipe:
        """The resolved recipe of a trial.

        Raises:
            UserError: the values are not possible, or not together.
        """
        values = copy.deepcopy(self.values) | {"out": out}
        for key, value in params.items():
            put(values, key, value)
        return resolve(validate(values, "The recipe with " + spelled(params)), out)

    def folder_of(self, trial: str) -> str:
        """Where a trial is: its ``out``."""
        out = self.recipe.out or ""
        return below(out, f"trials/{trial}") if is_remote(out) else str(Path(out, "trials", trial))

    def settled(self, params: Params) -> Params:
        """``params`` as an optimizer gives them, on the steps of their ranges."""
        return {key: dimension.settle(params[key]) for key, dimension in self.settings.space.items()}

    def drawn(self, number: int) -> Params:
        """The values of random trial ``number``; the same whenever it is asked for."""
        chance = np.random.default_rng([self.recipe.seed, number])
        return {key: dimension.at(chance.random()) for key, dimension in self.settings.space.items()}

    def grid(self) -> list[Params]:
        return list(combinations(self.every_value()))

    def beside(self, params: Params, chance: np.random.Generator) -> Params:
        """Values near ``params``, as a population explores them (Jaderberg et al. 2017, section 4)."""
        values = {}
        for key, dimension in self.settings.space.items():
            share, factor = chance.random(), chance.choice([0.8, 1.2])
            anew = chance.random() < self.settings.pbt.resample
            values[key] = dimension.at(share) if anew else dimension.beside(params[key], factor)
        return values

    def to_yaml(self) -> str:
        """A recipe that gives this search again."""
        values = self.recipe.model_dump(mode="json") | {
            "tune": self.settings.model_dump(mode="json", exclude_none=True)
        }
        return dump_yaml(values)


def read_search(source: str, overrides: list[str] | tuple[str, ...] = (), out: str | None = None) -> Search:
    """The search of a recipe; ``read_recipe`` has the arguments.

    Raises:
        UserError: as of a recipe; there is no ``tune`` section; a value of the space is not possible.
    """
    values, where, problems = overridden(source, overrides, out)
    given, mistakes = checked(values, where)
    if given is None or problems:  # those of the space's keys and values are told with them
        of_the_space = [mistake for some in at_extremes(values) for mistake in checked(some, where)[1]]
        mistakes = [*problems, *mistakes, *of_the_space]
        raise UserError(in_one_message(where, list(dict.fromkeys(mistakes))))
    if given.tune is None:
        raise UserError(
            f"{where} has no section tune, which says what to search over. For example:\n  tune:\n    trials: 16\n"
            "    space:\n      training.learning_rate: {log: [3e-4, 1e-2]}\n"
            "or on the command line: tune.trials=16 'tune.space.training.learning_rate={log: [3e-4, 1e-2]}'"
        )
    values = copy.deepcopy(values)
    values["out"] = absolute(given.out or f"runs/{name_of(source)}.search")
    if given.tune.metric:
        put(values, "training.early_stopping.metric", given.tune.metric)
    recipe = resolve(validate(values, where), values["out"])
    # Trials are made in other folders and on other machines: no path may depend on this one's.
    values |= {"data": recipe.data.model_dump(), "tracking": recipe.tracking.model_dump()}
    del values["tune"]
    if recipe.training.start_from:
        put(values, "training.start_from", recipe.training.start_from)
    search = Search(recipe, values, given.tune)
    check(search, where)
    check_epochs(search)
    return without_idle_asha(search)


def at_extremes(values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The values of a recipe at the extremes of its ``tune.space``, those of one place in all lists together; what is
    no dimension is left out."""
    extremes: dict[str, list[Any]] = {}
    with suppress(KeyError, TypeError, AttributeError):
        space = values["tune"]["space"]
        for key, given in dotted(structure(space) if isinstance(space, Written) else space).items():
            with suppress(ValidationError):
                extremes |= {key: Tune.model_validate({"trials": 1, "space": {key: given}}).space[key].extremes()}
    for place in range(max(map(len, extremes.values()), default=0)):
        some = copy.deepcopy(values)
        for key, ends in extremes.items():
            put(some, key, ends[min(place, len(ends) - 1)])
        yield some


def check(search: Search, where: str) -> None:
    """Make the recipes at the corners of the space: what is possible there is so within."""
    problems = []
    for params in corners(search):
        try:
            search.recipe_of(params, "out")
        except UserError as error:
            problems += [(line, params) for line in str(error).splitlines()[1:]]
    if problems:
        known = dict(flat(search.recipe.model_dump()))
        first = dict(reversed(problems))  # each mistake with the first values that make it
        lines = [
            line if set(params) - known.keys() else f"{line}   ({spelled(params)})"
            for line, params in reversed(first.items())
        ]
        raise UserError(f"{where}: tune.space has values that no trial can have:\n" + "\n".join(lines))


def corners(search: Search) -> Iterator[Params]:
    extremes = {key: dimension.extremes() for key, dimension in search.settings.space.items()}
    if search.settings.algorithm == "grid":
        extremes = search.every_value()
    if math.prod(map(len, extremes.values())) <= CORNERS:
        return combinations(extremes)
    return ({key: value} for key, values in extremes.items() for value in values)


def without_idle_asha(search: Search) -> Search:
    """The search without ``asha`` where no trial is long enough for its first comparison, which the user is told."""
    asha, epochs = search.settings.asha, search.recipe.training.epochs
    if asha is None or asha.grace_epochs < epochs:
        return search
    tell(
        f"No trial is given up early: tune.asha.grace_epochs is {asha.grace_epochs}, and a trial has {epochs} "
        f"{plural('epoch', epochs)}."
    )
    return dataclasses.replace(search, settings=search.settings.model_copy(update={"asha": None}))


def check_epochs(search: Search) -> None:
    """Refuse epochs at which a population would have nothing to compare."""
    training, settings = search.recipe.training, search.settings
    interval = settings.pbt.interval
    if settings.algorithm == "pbt" and interval >= training.epochs:
        raise UserError(
            f"tune.pbt.interval is {interval}, but a trial has {training.epochs} {plural('epoch', training.epochs)}, "
            "so no trial would continue from another. Train for more epochs, lower the interval, or take "
            "tune.algorithm=random."
        )
    if settings.algorithm == "pbt" and interval % training.validate_every:
        raise UserError(
            f"tune.pbt.interval is {interval}, but only every {training.validate_every} epochs are validated "
            "(training.validate_every). Make it a multiple of that."
        )


def combinations(values: dict[str, list[Any]]) -> Iterator[Params]:
    return (dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values()))


def spelled(params: Params) -> str:
    return ", ".join(
        f"{key}={value:.6g}" if isinstance(value, float) else f"{key}={value}" for key, value in params.items()
    )
