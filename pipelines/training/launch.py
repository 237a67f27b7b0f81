"""A training on Ray Train: what its workers are given, and how it is resumed when they are lost."""

from __future__ import annotations

import os
import shlex
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
import torch
from ray.actor import ActorHandle
from ray.exceptions import RayError
from ray.train import ControllerError, FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchTrainer, get_device

from pipelines.cluster.resources import Cluster, Share, place
from pipelines.config.dotted import flat
from pipelines.config.metrics import VALIDATED
from pipelines.config.recipe import Recipe, read_recipe
from pipelines.console import WAITING, Outcome, tell
from pipelines.errors import Fault, OtherRun, UserError
from pipelines.features.sources import check_backbone
from pipelines.files.jsonl import read_lines
from pipelines.threads import interruptible
from pipelines.tracking.mlflow_run import Tracking
from pipelines.training import distributed
from pipelines.training.data.task import Task
from pipelines.training.driver import MAY_CHANGE, Job, changed_keys, next_steps, registration
from pipelines.training.learner import Learner
from pipelines.training.monitor import TrainMonitor
from pipelines.training.run.folder import RunSink, last_epoch
from pipelines.training.run.info import RunInfo, RunPlace, read_run
from pipelines.training.run.ray_errors import explain, user_errors, workers_lost
from pipelines.training.run.remote import RunUploader
from pipelines.training.run.writer import RunClient, RunWriter
from rnncond.checkpoint import read


class TrainJob(Job[Share]):
    """``rnncond train`` of a recipe."""

    def __init__(self, recipe: Recipe) -> None:
        if recipe.out is None:
            raise ValueError("a training needs a folder: recipe.out is None")
        self.recipe, self.place = recipe, RunPlace.at(recipe.out)

    def changed(self, info: RunInfo) -> list[str]:
        if not info:
            return []
        if "search" in info:
            raise UserError(f"{self.place.shown} holds a search of `rnncond tune`. Choose another --out.")
        if "params" in info:
            raise UserError(
                f"{self.place.shown} holds a trial of a search, which `rnncond tune` does. Choose another --out."
            )
        # Read as a recipe, which fills in what an earlier version did not write.
        before = dict(flat(read_recipe(str(self.folder / "recipe.yaml")).model_dump()))
        after = dict(flat(self.recipe.model_dump()))
        may_change = (*MAY_CHANGE, "training.epochs")
        changed = changed_keys(self.place.shown, before, after, may_change, "run of another recipe")
        epochs, done = self.recipe.training.epochs, last_epoch(self.folder / "metrics.jsonl")
        if epochs < done:
            raise OtherRun(
                f"{self.place.shown} has {done} epochs already, and training.epochs={epochs} asks for fewer. Ask for "
                f"{done} or more, choose another --out, or give --restart to begin again."
            )
        return changed

    def is_done(self, info: RunInfo, changed: list[str]) -> bool:
        return info["status"] == "finished" and ("training.epochs" not in changed or self.was_stopped_early())

    def was_stopped_early(self) -> bool:
        """Whether the run has fewer epochs than it was to have: more would not change that it is over."""
        recipe = read_recipe(str(self.folder / "recipe.yaml"))
        return last_epoch(self.folder / "metrics.jsonl") < recipe.training.epochs

    def hint_done(self, changed: list[str]) -> None:
        if self.was_stopped_early():
            longer = "another --out with a larger training.early_stopping.patience trains longer"
            tell(f"Early stopping ended it, so more epochs are no use; {longer}.")
        else:
            tell("A larger training.epochs goes on with it.")
        name = self.recipe.tracking.registered_model
        if name and "tracking.registered_model" in changed:
            command = shlex.join(["rnncond", "promote", "--model", str(self.place.shown), "--name", name])
            tell(f"Its model is not registered as {name}: `{command}` does that.")

    def check(self, task: Task) -> None:
        if self.recipe.tracking.backbone_weights:
            check_backbone(task.features, self.recipe.tracking.backbone_weights)

    def share_out(self, cluster: Cluster) -> Share:
        return place(self.recipe, cluster)

    def run(self, task: Task, writer: ActorHandle[RunWriter], tracking: Tracking, parts: Share) -> None:
        run = RunClient(writer)
        tell(f"{parts.describe()}; {task.describe()}")
        with TrainMonitor(task, run, tracking, parts, self.place):
            fit(task, run, parts, self.place)
        WAITING.phase("handing the best model to MLflow")
        self.place.fetch("best", "averaged")
        hand_in(self.folder, run, tracking, self.recipe.training.early_stopping.metric)

    def summary(self) -> Outcome:
        info, lines = read_run(self.folder), read_lines(self.folder / "metrics.jsonl")
        best, averaged = info["best"], info.get("averaged", {})
        scores = {key: best[key] for key in VALIDATED if key in best}
        stopping = self.recipe.training.early_stopping
        early = f"early stopping: {stopping.patience} validations without a better {stopping.metric}"
        scores |= {f"averaged_{key}": value for key, value in averaged.items() if key in VALIDATED}
        return Outcome(
            {
                "epochs": lines[-1]["epoch"],
                **({"ended_by": early} if lines[-1]["epoch"] < self.recipe.training.epochs else {}),
                "best_epoch": best["epoch"],
                **scores,
                "training_seconds": round(sum(line["seconds"] for line in lines), 1),
                "model": self.place.within("best"),
                **({"averaged_model": self.place.within("averaged")} if averaged else {}),
                "mlflow_run": info["mlflow_run_id"],
                **registration(info),
            },
            hint=next_steps(self.place.shown, info, self.recipe),
        )


def hand_in(folder: Path, run: RunClient, tracking: Tracking, metric: str) -> None:
    """Note the best epoch in run.json, and give the models to MLflow.

    The best epoch is what the model says of itself: an epoch that was trained again after a failure is written once,
    and may have come out otherwise.
    """
    best = {key: value for key, value in read(folder / "best")[0]["info"].items() if key != "recipe"}
    run.update(best=best)
    run.update(registered=tracking.hand_in(folder, metric, best))


def fit(
    task: Task, run: RunClient, share: Share, place: RunPlace, make_learner: Callable[..., Learner] = Learner
) -> None:
    """Train on Ray, to the end; lost workers are replaced, and resume from the last checkpoint.

    Ray Train replaces them itself, but takes some losses, as of a worker that is killed for want of memory while it
    starts, for a failure of its own and ends (``ControllerError``). Those are counted here.

    Raises:
        UserError: a worker met what only the user can put right.
        Fault: more workers were lost than ``cluster.max_failures`` allows.
    """
    # Seconds between two looks at the workers, whose end is noticed only then.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    allowed = task.recipe.cluster.max_failures
    for failures in range(1, allowed + 2):
        try:
            interruptible(trainer_of(task, run, share, place, make_learner).fit)
            break
        except (TrainingFailedError, RayError) as error:
            reported = run.reported_error()
            if reported or failures > allowed or not (isinstance(error, ControllerError) and workers_lost(error)):
                raise explain(error, reported) from error
            tell("Workers were lost; others take their place and resume from the last checkpoint.")
        finally:
            shutil.rmtree(place.folder / ".ray", ignore_errors=True)
    if reported := run.reported_error():
        raise UserError(reported)


def trainer_of(
    task: Task, run: RunClient, share: Share, place: RunPlace, make_learner: Callable[..., Learner] = Learner
) -> TorchTrainer:
    resources = {"CPU": share.cpus} | ({"GPU": share.gpus} if share.gpus else {})
    # A pair makes the run elastic; the type that Ray gives num_workers knows numbers only.
    workers: Any = share.workers if share.at_least == share.workers else (share.at_least, share.workers)
    config = {"task": ray.put(task), "run": run, "threads": share.threads, "make_learner": make_learner}
    return TorchTrainer(
        work,
        train_loop_config=config | {"remote": place.remote},
        scaling_config=ScalingConfig(
            num_workers=workers,
            use_gpu=share.gpus > 0,
            resources_per_worker=resources,
        ),
        # Ray's own notes; under a name that was used before it would resume from them.
        run_config=RunConfig(
            name=uuid.uuid4().hex,
            storage_path=str(place.folder / ".ray"),
            failure_config=FailureConfig(max_failures=task.recipe.cluster.max_failures),
        ),
    )


def work(config: dict[str, Any]) -> None:
    """Train as one rank, in a worker of Ray Train.

    Args:
        config: ``task``, a reference to the ``Task``; ``run``, the driver's ``RunClient``; ``remote``, where the run is
            if in object storage; ``threads``; ``make_learner``, with the arguments of ``Learner``.
    """
    torch.set_num_threads(config["threads"])
    run: RunClient = config["run"]
    if run.reported_error():  # in the attempt before
        return
    writer = run.writer() if distributed.rank() == 0 else None
    sink: RunSink = writer or run
    if writer is not None and config["remote"]:
        sink = RunUploader(writer.call, config["remote"])

    def phase(now: str) -> None:
        if writer is not None:
            writer.phase(now)

    try:
        with user_errors():
            phase("loading the data and the model")
            learner = config["make_learner"](ray.get(config["task"]), sink, get_device())
            phase("computing the first step")
            learner.run()
    except Fault:
        raise
    except UserError as error:
        run.report_error(str(error))
        # The other ranks may be waiting for what this one will not do. Ray ends them all and begins again; see above.
        if distributed.count() > 1:
            raise
