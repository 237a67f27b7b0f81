"""``--dry-run`` of a search: a few of its trials do some steps, as many at a time as trials would, and the whole is
estimated."""

from __future__ import annotations

import dataclasses
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from ray.actor import ActorHandle

from pipelines.cluster.connection import connect
from pipelines.cluster.resources import Room
from pipelines.cluster.waiting import share_out_when_there
from pipelines.config.search_space import Params, Search
from pipelines.config.tuning_sections import Asha
from pipelines.console import WAITING, Outcome, in_time, plural, tell
from pipelines.engine.dry_run import Price, temporary_folder
from pipelines.engine.summary import significant
from pipelines.threads import interruptible
from pipelines.training.data.task import Task, prepare
from pipelines.training.driver import check_before_data
from pipelines.training.dry_run import (
    MEASURED,
    WARM_UP,
    Cost,
    Measured,
    MeasuringLearner,
    between,
    check_data,
    check_folder,
    cost,
    described,
    error_of_mean,
    figures,
    hint,
    refusal,
    startup,
    temporary_data,
)
from pipelines.training.optimizer import check_precision
from pipelines.training.run.ray_errors import explain, user_errors
from pipelines.training.run.writer import RunWriter, run_writer
from pipelines.tuning.algorithms import left
from pipelines.tuning.launch import TuneJob
from pipelines.tuning.trials import open_trial, records

TRIALS = 4
"""That are tried at most."""


def run(
    job: TuneJob, address: str | None, restart: bool, sample: int, price_per_hour: str | None, wait_seconds: float
) -> Outcome:
    """Try some steps of some trials, and estimate all that is left of a search.

    Raises:
        UserError: as the search would; a price without a currency.
    """
    price = None if price_per_hour is None else Price.parse(price_per_hour)
    search = job.search
    refused = refusal(lambda: check_folder(job), restart)
    earlier = [] if restart or refused else records(job.folder)
    trials = len(left(search, earlier))
    if not trials:
        return Outcome({"trials": search.count(), "already done": len(earlier)}, hint="Nothing is left to search.")
    began = time.time()
    check_before_data(job.recipe)
    with temporary_data(job.recipe, address) as recipe, temporary_folder() as place:
        folder = Path(place)
        task, _ = prepare(recipe, address)
        job.check(task)
        if not refused:
            refused = refusal(lambda: check_data(job, task), restart)
            trials = search.count() if refused else trials
        with connect(address) as cluster:
            room = share_out_when_there(job.share_out, cluster, job.recipe.cluster, wait_seconds)
            check_precision(job.recipe.training, room.device)
            chosen = settings_to_try(search, room.concurrent)
            number = f"{len(chosen)} {plural('trial', len(chosen))}"
            tell(f"Trying {WARM_UP} + {sample} steps of {number}: {room.describe()}; {task.describe()}")
            WAITING.phase("trying")
            with run_writer(folder) as writer:
                try_out(search, task, room, writer, chosen, sample)
        measured = [Measured.read(folder / "trials" / name / MEASURED) for name in chosen]
    costs = [cost(one, search.recipe.training, search.recipe.training.epochs) for one in measured]
    whole, error = of_all(costs, trials, room.concurrent)
    share = epochs_with_asha(search.settings.asha, search.recipe.training.epochs)
    facts: dict[str, Any] = {"trials": search.count(), "already done": search.count() - trials}
    facts |= {"epochs a trial": search.recipe.training.epochs, "trials tried": len(chosen)}
    facts |= described(slowest(measured))
    begin = max(startup(one, began) for one in measured)
    facts |= figures(begin, between(whole.seconds, error, len(costs)), whole, room.describe(), price)
    if share < 1:
        facts["hours, if asha ends all that it may"] = significant((begin + share * whole.seconds) / 3600)
    remarks = hint(began, search.recipe.training.early_stopping.patience, refused)
    if (budget := search.settings.budget_minutes) and 60 * budget < whole.seconds:
        remarks += f"\ntune.budget_minutes ends the search after {in_time(60 * budget)}, with what is done by then."
    return Outcome(facts, hint=remarks, code=0)


def settings_to_try(search: Search, concurrent: int) -> dict[str, Params]:
    """Some trials of the search by name: at least two, for what they differ by, and as many as run at a time."""
    count = min(search.count(), max(2, min(concurrent, TRIALS)))
    if search.settings.algorithm == "grid":
        grid = search.grid()
        chosen = [grid[int(place)] for place in np.linspace(0, len(grid) - 1, count).round()]
    else:
        chosen = [search.drawn(number) for number in range(count)]
    return {f"{number:03d}": params for number, params in enumerate(chosen)}


def try_out(
    search: Search, task: Task, room: Room, writer: ActorHandle[RunWriter], chosen: dict[str, Params], sample: int
) -> None:
    """Measure the chosen trials, where and as many at a time as the search would train them.

    Raises:
        UserError: one of them cannot be trained.
    """
    measure_one: Any = ray.remote(num_cpus=room.cpus, num_gpus=room.gpus, max_retries=0)(measure)
    shared = ray.put((search, task))
    answers, waiting = [], list(chosen.items())
    try:
        running: list[Any] = []
        while waiting or running:
            while waiting and len(running) < room.concurrent:
                name, params = waiting.pop(0)
                running.append(measure_one.remote(shared, writer, name, params, room, sample))
            answered, running = interruptible(partial(ray.wait, running))
            answers += answered
        ray.get(answers)
    except ray.exceptions.RayError as error:
        raise explain(error) from error


def measure(
    shared: tuple[Search, Task],
    writer: ActorHandle[RunWriter],
    name: str,
    params: Params,
    room: Room,
    sample: int,
) -> None:
    """Measure one trial, in a process of its own."""
    torch.set_num_threads(room.threads)
    search, task = shared
    recipe = search.recipe_of(params, search.folder_of(name))
    run = open_trial(writer, name, recipe.to_yaml(), params)
    with user_errors():
        MeasuringLearner(dataclasses.replace(task, recipe=recipe), run, room.device, sample=sample).run()


def slowest(measured: list[Measured]) -> Measured:
    """The trial whose steps take longest, with the most memory that any held."""
    one = max(measured, key=lambda each: statistics.mean(step.seconds for step in each.steps))
    memory, gpu = (max(getattr(each, name) for each in measured) for name in ("memory", "gpu_memory"))
    return one._replace(memory=memory, gpu_memory=gpu)


def of_all(costs: list[Cost], trials: int, concurrent: int) -> tuple[Cost, float]:
    """What ``trials`` take, ``concurrent`` at a time, by those that were tried; and its standard error."""
    at_once = min(concurrent, trials)
    rounds = trials / at_once
    seconds = [each.seconds for each in costs]
    mean = Cost(*(statistics.mean(values) for values in zip(*costs, strict=True)))
    whole = Cost(
        rounds * mean.seconds, rounds * mean.error, rounds * mean.processor,
        round(trials * mean.written), round(trials * mean.kept),
    )  # fmt: skip
    return whole, rounds * error_of_mean(seconds)


def epochs_with_asha(asha: Asha | None, epochs: int) -> float:
    """Of all epochs of all trials the share that is trained where at each comparison one trial in ``reduction``
    continues: as few as successive halving comes to (Li et al. 2020, algorithm 1)."""
    if asha is None:
        return 1.0
    at, going, trained = 0, 1.0, 0.0
    until = float(asha.grace_epochs)
    while at < epochs:
        upto = min(int(until), epochs)
        trained += going * (upto - at)
        at, going, until = upto, going / asha.reduction, max(until * asha.reduction, until + 1)
    return trained / epochs
