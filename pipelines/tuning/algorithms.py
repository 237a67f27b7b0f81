"""Ray Tune's ways of choosing trials and of giving them up, with the trials that an earlier driver saw end."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, PopulationBasedTraining, TrialScheduler

from pipelines.config.search_space import Params, Search
from pipelines.tuning.trials import Record

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.search.optuna import OptunaSearch

WHAT: dict[str, Any] = {"metric": "score", "mode": "max", "time_attr": "epoch"}
"""How ``trials.Reports`` calls it."""


def left(search: Search, earlier: list[Record]) -> list[tuple[str, Params | None]]:
    """Names of the trials that are not done, with their values where these are known by now. First those under way, of
    which none is left half done, also where fewer are asked for now."""
    known = {record.name: record for record in earlier}
    names = [f"{number:03d}" for number in range(search.count())]
    under_way = [(record.name, record.params) for record in earlier if not record.done]
    if search.settings.algorithm == "optuna":
        values: Iterator[Params | None] = iter([None] * len(names))
    elif search.settings.algorithm == "grid":
        values = iter(search.grid())
    else:
        values = map(search.drawn, range(len(names)))
    return under_way + [(name, params) for name, params in zip(names, values, strict=True) if name not in known]


def tune_config(search: Search, earlier: list[Record], concurrent: int) -> tuple[dict[str, Any], tune.TuneConfig]:
    """The parameter space and the configuration with which Ray Tune runs what is ``left``."""
    trials = left(search, earlier)
    names = iter([name for name, _ in trials])
    if search.settings.algorithm == "optuna":
        space: dict[str, Any] = {}
        choice: dict[str, Any] = {"search_alg": optuna(search, earlier), "num_samples": len(trials)}
    else:
        space = {"params": tune.grid_search([params for _, params in trials])}
        choice = {"num_samples": 1}
    if search.settings.algorithm != "pbt":  # where those that wait for the others would count
        choice["max_concurrent_trials"] = concurrent
    return space, tune.TuneConfig(
        **choice,
        scheduler=scheduler(search, earlier),
        time_budget_s=search.settings.budget_minutes and 60 * search.settings.budget_minutes,
        reuse_actors=True,
        trial_name_creator=lambda trial: next(names),
        trial_dirname_creator=str,
    )


def scheduler(search: Search, earlier: list[Record]) -> TrialScheduler | None:
    """What ends or changes trials early; None where all run to their last epoch.

    The trials that an earlier driver saw end are handed to ASHA, which then gives up others as if it had seen them.
    """
    settings, epochs = search.settings, search.recipe.training.epochs
    if settings.algorithm == "pbt":
        return population(search, earlier)
    if settings.asha is None:
        return None
    # A trial ends by itself at its last epoch; at one more it would be stopped before it is done.
    asha = ASHAScheduler(
        **WHAT, max_t=epochs + 1, grace_period=settings.asha.grace_epochs, reduction_factor=settings.asha.reduction
    )
    controller: Any = None  # which it asks nothing
    for record in earlier:
        if record.done:
            trial: Any = SimpleNamespace(trial_id=f"earlier-{record.name}")  # all that ASHA looks at
            asha.on_trial_add(controller, trial)
            for report in record.reports(search.metric):
                asha.on_trial_result(controller, trial, report)
            asha.on_trial_remove(controller, trial)
    return asha


def optuna(search: Search, earlier: list[Record]) -> OptunaSearch:
    """The tree-structured Parzen estimator. Trials under way come first, with the values that they have."""
    import optuna
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    logging.getLogger("ray.tune.search.optuna").setLevel(logging.ERROR)
    space: dict[str, BaseDistribution] = {}
    for key, dimension in search.settings.space.items():
        if dimension.choices is not None:
            space[key] = optuna.distributions.CategoricalDistribution(dimension.choices)
        else:
            step = None if dimension.log else dimension.step
            space[key] = optuna.distributions.FloatDistribution(*dimension.bounds, log=bool(dimension.log), step=step)
    seed = int(np.random.SeedSequence([search.recipe.seed, len(earlier)]).generate_state(1)[0])
    chosen = OptunaSearch(
        {f"params/{key}": distribution for key, distribution in space.items()},
        metric=WHAT["metric"],
        mode=WHAT["mode"],
        sampler=optuna.samplers.TPESampler(seed=seed, constant_liar=True),
        points_to_evaluate=[prefixed(params) for _, params in left(search, earlier) if params],
    )
    for record in earlier:
        reports = record.reports(search.metric)
        if record.done and reports:
            chosen.add_evaluated_point(prefixed(record.params), reports[-1]["score"])
    return chosen


def prefixed(params: Params) -> Params:
    return {f"params/{key}": value for key, value in params.items()}


def population(search: Search, earlier: list[Record]) -> Population:
    """All trials are compared at the same epochs; the next is that which the furthest of them has reached or is on its
    way to."""
    settings = search.settings.pbt
    furthest = max((record.epoch for record in earlier if not record.done), default=0)
    chance = np.random.default_rng([search.recipe.seed, furthest, 1])  # others than those that trials were drawn by
    return Population(
        **WHAT,
        perturbation_interval=settings.interval,
        burn_in_period=-(-furthest // settings.interval) * settings.interval,
        quantile_fraction=settings.quantile,
        custom_explore_fn=lambda config: config | {"params": search.beside(search.settled(config["params"]), chance)},
        log_config=False,
        synch=True,
    )


class Population(PopulationBasedTraining):
    """Ray Tune's, which waits for ever for a trial that has failed meanwhile."""

    def choose_trial_to_run(self, tune_controller: TuneController) -> Trial | None:
        chosen = super().choose_trial_to_run(tune_controller)
        living = tune_controller.get_live_trials()
        if chosen is None and living and all(trial.status == Trial.PAUSED for trial in living):
            waiting = next(iter(living))
            self.on_trial_result(tune_controller, waiting, waiting.last_result)
            chosen = super().choose_trial_to_run(tune_controller)
        return chosen
