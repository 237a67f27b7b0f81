"""A search on Ray Tune: how its trials are begun and resumed, and how the best of them is kept."""

from __future__ import annotations

import dataclasses
import logging
import os
import shutil
import time
import uuid
from typing import Any

from ray import tune
from ray.actor import ActorHandle
from ray.exceptions import RayError
from ray.tune.error import TuneError

from pipelines.cluster.resources import Cluster, Room, room
from pipelines.config.dotted import absolute, flat, from_here
from pipelines.config.metrics import VALIDATED, rank_of
from pipelines.config.search_space import Search, read_search
from pipelines.config.yaml_core import load_yaml, scalars
from pipelines.console import WAITING, Outcome, Progress, plural, tell
from pipelines.errors import Fault, UserError
from pipelines.threads import interruptible
from pipelines.tracking.client import needed
from pipelines.tracking.mlflow_run import Tracking, best_so_far
from pipelines.tracking.models import BEST_RUN
from pipelines.training.data.task import Task
from pipelines.training.driver import MAY_CHANGE, Job, changed_keys, next_steps, registration
from pipelines.training.run.info import RunInfo, RunPlace, read_run
from pipelines.training.run.ray_errors import explain
from pipelines.training.run.remote import RunUploader
from pipelines.training.run.writer import RunClient, RunWriter
from pipelines.tuning.algorithms import left, tune_config
from pipelines.tuning.monitor import TuneMonitor, catch_up, child_of, children_of, end_child, write_table
from pipelines.tuning.trials import Record, records, work


class TuneJob(Job[Room]):
    """``rnncond tune`` of a search."""

    def __init__(self, search: Search) -> None:
        if search.recipe.out is None:
            raise ValueError("a search needs a folder: recipe.out is None")
        self.search, self.recipe = search, search.recipe
        place = RunPlace.at(search.recipe.out)
        self.place = dataclasses.replace(place, shown=from_here(place.shown))
        self.place.copy_runs("trials")
        self.tags = {"search": search.settings.algorithm}
        self.searched = list(search.settings.space)

    def changed(self, info: RunInfo) -> list[str]:
        if not info:
            return []
        if "search" not in info:
            raise UserError(
                f"{self.place.shown} holds a run of `rnncond train`. Choose another --out, or give --restart to remove "
                "it."
            )
        path = self.folder / "search.yaml"
        if not path.exists():  # the search was killed before it wrote what it is
            return []
        # Read as a search, which fills in what an earlier version did not write.
        before, after = (keys_of(search) for search in (read_search(str(path)), self.search))
        may_change = (*MAY_CHANGE, "tune.trials", "tune.budget_minutes", "tune.concurrent", "tune.storage")
        return changed_keys(self.place.shown, before, after, may_change, "search of another recipe")

    def is_done(self, info: RunInfo, changed: list[str]) -> bool:
        return info["status"] == "finished" and not left(self.search, records(self.folder))

    def hint_done(self, changed: list[str]) -> None:
        tell("A larger tune.trials goes on with it.")

    def share_out(self, cluster: Cluster) -> Room:
        return room(self.search, cluster)

    def about(self) -> dict[str, Any]:
        return {"search": self.search.settings.algorithm}

    def run(self, task: Task, writer: ActorHandle[RunWriter], tracking: Tracking, parts: Room) -> None:
        run = RunClient(writer)
        run.write("search.yaml", self.search.to_yaml())
        with needed(tracking.uri):
            tracking.client.log_artifact(tracking.run_id, str(self.folder / "search.yaml"))
        run_trials(self.search, task, self.place, tracking, parts, writer)
        catch_up(self.search, self.place, tracking, writer)
        register_best(self.search, task, self.place, run, tracking)
        if unfinished := self.unfinished():
            be = "is" if unfinished == 1 else "are"
            tell(
                f"{self.search.settings.over}, and {unfinished} {plural('trial', unfinished)} {be} left. The same "
                "command goes on."
            )

    def unfinished(self) -> int:
        """Trials that are left, because the time is over."""
        return len(left(self.search, records(self.folder))) if self.search.settings.budget_minutes else 0

    def summary(self) -> Outcome:
        info, trials = read_run(self.folder), records(self.folder)
        best = info["best"]
        failed = [trial for trial in trials if trial.status == "failed"]
        unfinished = self.unfinished()
        return Outcome(
            {
                "trials": sum(trial.done for trial in trials),
                **({"left": unfinished} if unfinished else {}),
                "stopped_early": sum(trial.status == "stopped" for trial in trials),
                "epochs": sum(trial.epoch for trial in trials),
                "best_trial": best["trial"],
                **best["params"],
                "best_epoch": best["epoch"],
                **{key: best[key] for key in VALIDATED if key in best},
                "model": self.place.within("best"),
                "mlflow_run": info["mlflow_run_id"],
                **({"mlflow_run_of_best": best["mlflow_run_id"]} if "mlflow_run_id" in best else {}),
                **registration(info),
            },
            failed=len(failed),
            failures=[f"trial {trial.name}: {trial.run.get('reason')}" for trial in failed[:5]],
            hint=next_steps(self.place.shown, info, self.recipe),
        )


def keys_of(search: Search) -> dict[str, Any]:
    """All keys of a search's recipe, and their values."""
    return dict(flat(scalars(load_yaml(search.to_yaml(), "the search"))))


def run_trials(
    search: Search, task: Task, place: RunPlace, tracking: Tracking, share: Room, writer: ActorHandle[RunWriter]
) -> None:
    """Run what is left of the trials.

    Raises:
        Fault: the search ended before all trials did.
    """
    folder = place.folder
    earlier = records(folder)
    trials = left(search, earlier)
    count = sum(record.done for record in earlier) + len(trials)
    tell(f"{len(trials)} of {count} {plural('trial', count)} to run, {share.describe()}; {task.describe()}")
    with Progress("tune", "epochs", count * search.recipe.training.epochs) as progress:
        progress.phase("starting trials")
        if search.settings.budget_minutes:
            progress.until = time.monotonic() + 60 * search.settings.budget_minutes
        monitor = TuneMonitor(search, place, writer, tracking, progress, count)
        status = "FAILED"
        try:
            if trials:
                fit(search, task, place, share, writer, monitor, earlier)
            # Trials that are at work when the time is over are ended as by an interruption.
            status = "KILLED"
        except (KeyboardInterrupt, SystemExit):
            status = "KILLED"
            raise
        finally:
            monitor.end(status)
    write_table(folder, search.metric)
    over = time.monotonic() >= progress.until
    if not over and (unfinished := left(search, records(folder))):
        names = ", ".join(name for name, _ in unfinished[:5])
        lost = f" {monitor.lost}" if monitor.lost else ""
        raise Fault(
            f"The search ended before {len(unfinished)} of its trials did ({names}).{lost} Run the same command again "
            f"to resume it in {place.shown}."
        )


def fit(
    search: Search,
    task: Task,
    place: RunPlace,
    share: Room,
    writer: ActorHandle[RunWriter],
    monitor: TuneMonitor,
    earlier: list[Record],
) -> None:
    """Run Ray Tune to the end. Its own notes are thrown away: see ``trials``.

    Raises:
        UserError: Ray Tune has given the search up, for a reason that the user can be given.
    """
    quiet()
    space, config = tune_config(search, earlier, share.concurrent)
    trainable = tune.with_parameters(
        work, search=search, task=task, writer=writer, remote=place.remote, threads=share.threads, device=share.device
    )
    resources = {"CPU": share.cpus} | ({"GPU": share.gpus} if share.gpus else {})
    tuner = tune.Tuner(
        tune.with_resources(trainable, resources),
        param_space=space,
        tune_config=config,
        run_config=tune.RunConfig(
            name=uuid.uuid4().hex,
            storage_path=absolute(search.settings.storage or str(place.folder / ".ray")),
            failure_config=tune.FailureConfig(max_failures=search.recipe.cluster.max_failures),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=3),
            callbacks=[monitor],
            verbose=0,
        ),
    )
    try:
        interruptible(tuner.fit)
    except (TuneError, RayError) as error:
        raise explain(error) from error
    finally:
        shutil.rmtree(place.folder / ".ray", ignore_errors=True)


def quiet() -> None:
    """Keep Ray Tune from writing files for TensorBoard, from taking Ctrl-C for itself, and from its own remarks."""
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # the old one can be silent
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    # After Ctrl-C the thread of Ray Tune, which ends with the process, may ask for Ray once more.
    logging.getLogger("ray._private.worker").setLevel(logging.ERROR)


def register_best(search: Search, task: Task, place: RunPlace, run: RunClient, tracking: Tracking) -> None:
    """Make the best trial's model and recipe the search's, and hand the model in.

    Raises:
        UserError: no trial has a model, also because the time is over.
        Fault: MLflow does not take it.
    """
    trials = records(place.folder)
    scored = [(record, line) for record in trials if (line := record.best(search.metric))]
    if not scored and search.settings.budget_minutes and left(search, trials):
        raise UserError(
            f"{search.settings.over}, and no trial has come to a validation. The same command goes on where they are; "
            "a larger tune.budget_minutes gives them longer at once."
        )
    if not scored:
        reasons = "\n".join(f"  {record.name}: {record.run.get('reason')}" for record in trials[:3])
        raise UserError(f"No trial of {len(trials)} came to a validation:\n{reasons}")
    WAITING.phase("handing the best model to MLflow")
    best, line = max(scored, key=lambda one: rank_of(one[1], search.metric))
    trial = place.run(f"trials/{best.name}")
    trial.fetch("best", "averaged")
    model = {path.name: path.read_bytes() for path in (trial.folder / "best").iterdir()}
    (RunUploader(run.call, place.remote) if place.remote else run).save_model("best", model)
    # To be trained again elsewhere: where the trial was, it is.
    recipe = search.recipe_of(best.params, f"{place.address.removesuffix('.search')}.best")
    run.write("recipe.yaml", recipe.to_yaml())
    with needed(tracking.uri):
        # By the epochs of all trials: MLflow shows the metric of the last step, and of a search that goes on the best
        # trial may be another, with fewer epochs.
        step = sum(record.epoch for record in trials)
        known = tracking.client.get_metric_history(tracking.run_id, "val_loss")
        if (step, line["val_loss"]) not in [(point.step, point.value) for point in known]:
            tracking.send(line | best_so_far([line], search.metric), step)
        tracking.client.log_artifact(tracking.run_id, str(place.folder / "trials.jsonl"))
        tracking.client.log_text(tracking.run_id, recipe.to_yaml(), "recipe.yaml")
    # Of a trial that was at work when the time was over run.json has no run yet.
    run_id = best.run.get("mlflow_run_id") or children_of(tracking).get(best.name)
    child = child_of(search, place, best.name, best.params, tracking, run_id)
    tags = {"best_trial": best.name, BEST_RUN: child.run_id, **{f"best.{key}": best.params[key] for key in best.params}}
    with needed(tracking.uri):
        for key, value in tags.items():
            tracking.client.set_tag(tracking.run_id, key, str(value))
    try:
        child.describe(task)
        registered = child.hand_in(trial.folder, search.metric, line)
    finally:
        end_child(child, best)
    found = {"trial": best.name, "params": best.params, "mlflow_run_id": child.run_id, **line}
    run.update(best=found, registered=registered)
