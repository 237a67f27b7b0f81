"""A training on Ray Train: what it is given, how it is begun, resumed and explained."""

from __future__ import annotations

import platform
import shutil
import uuid
from importlib import metadata
from pathlib import Path
from typing import Any

import ray
import torch
from ray.exceptions import ActorDiedError, WorkerCrashedError
from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchTrainer, get_device

from pipelines.cluster.resources import Share
from pipelines.config.dotted import flat
from pipelines.config.recipe import PATHS, Recipe, read_recipe
from pipelines.console import tell
from pipelines.errors import Fault, OtherRun, UserError, exit_code, user_message
from pipelines.tracking.mlflow_run import Tracking
from pipelines.training import distributed
from pipelines.training.data.task import Task
from pipelines.training.learner import Learner
from pipelines.training.run_actor import Remote
from pipelines.training.run_folder import read_run
from pipelines.training.watch import Watch
from rnncond.checkpoint import read

MOVABLE = tuple(f"data.{key}" for key in PATHS)
"""Files may lie elsewhere, as in a job's own copy of its working folder: ``data_id`` is of what is in them."""


MAY_CHANGE = ("cluster.", "tracking.", "training.epochs", *MOVABLE)
"""What a run that goes on may have otherwise than when it began."""


LOCK_SECONDS = 10
"""For which the last processes of a killed run may still hold its folder."""


def train(task: Task, journal: Remote, tracking: Tracking, share: Share, folder: Path) -> None:
    metric = task.recipe.training.early_stopping.metric
    tell(f"{share.describe()}; {task.describe()}")
    with Watch(task, journal, tracking, share, folder):
        fit(task, journal, share, folder)
    # What the model says of itself: an epoch that came again is written but once, and may have come out otherwise.
    best = {key: value for key, value in read(folder / "best")[0]["info"].items() if key != "recipe"}
    journal.say(best=best)
    tracking.hand_in(folder, metric, best)


def fit(task: Task, journal: Remote, share: Share, folder: Path) -> None:
    """Ray Train, to the end; lost workers are replaced and go on from the journal's checkpoint.

    Raises:
        UserError: the workers found something that only the user can put right.
        Fault: too many of them were lost.
    """
    resources = {"CPU": share.cpus} | ({"GPU": share.gpus} if share.gpus else {})
    trainer = TorchTrainer(
        work,
        train_loop_config={"task": ray.put(task), "journal": journal.actor, "threads": share.threads},
        scaling_config=ScalingConfig(
            num_workers=share.workers if share.at_least == share.workers else (share.at_least, share.workers),
            use_gpu=share.gpus > 0,
            resources_per_worker=resources,
        ),
        # Ray's own notes; under a name that was used before it would go on from them.
        run_config=RunConfig(
            name=uuid.uuid4().hex,
            storage_path=str(folder / ".ray"),
            failure_config=FailureConfig(max_failures=task.recipe.cluster.max_failures),
        ),
    )
    try:
        trainer.fit()
    except (TrainingFailedError, ActorDiedError) as error:
        raise explain(error, journal) from error
    finally:
        shutil.rmtree(folder / ".ray", ignore_errors=True)
    problem = journal.problem()
    if problem:
        raise UserError(problem)


def explain(error: TrainingFailedError | ActorDiedError, journal: Remote) -> UserError:
    """What the user can do about a training that Ray has given up.

    Raises:
        TrainingFailedError: nothing; it is a defect.
    """
    if isinstance(error, ActorDiedError):
        return Fault("Ray Train's own process has died. Run the same command again to go on from the last checkpoint.")
    causes = [error, *getattr(error, "worker_failures", {}).values()]
    causes += [cause.health_check_failure for cause in causes if hasattr(cause, "health_check_failure")]
    if problem := journal.problem():
        return UserError(problem)
    for cause in causes:
        if message := user_message(cause):
            return (Fault if exit_code(cause) == Fault.code else UserError)(message)
    if any(isinstance(cause, (ActorDiedError, WorkerCrashedError)) for cause in causes):
        return Fault(
            "More workers were lost than cluster.max_failures allows. Is there too little memory? Run the same command "
            "again to go on from the last checkpoint."
        )
    raise error


def work(config: dict[str, Any]) -> None:
    """One worker."""
    torch.set_num_threads(config["threads"])
    journal = Remote(config["journal"])
    if journal.problem():  # told in the attempt before
        return
    desk = journal.writer() if distributed.rank() == 0 else journal
    try:
        Learner(ray.get(config["task"]), desk, get_device()).run()
    except Fault:
        raise
    except UserError as error:
        journal.trouble(str(error))
        # The other ranks may be waiting for what this one will not do. Ray ends them all and begins again; see above.
        if distributed.count() > 1:
            raise


def tracked_at(uri: str | None, overrides: list[str] | tuple[str, ...]) -> list[str]:
    """The overrides, with that of MLflow's address."""
    return [*overrides, *([f"tracking.uri={uri}"] if uri else [])]


def differences(folder: Path, recipe: Recipe, known: dict[str, Any], data_id: str | None = None) -> list[str]:
    """Keys in which ``recipe`` is not the one that the run in ``folder`` was begun with, and may be so.

    Args:
        known: its run.json; empty where there is none.
        data_id: of the recipe's data; None where they are not prepared yet.

    Raises:
        OtherRun: others differ as well, or the data do.
        UserError: it is a search of ``tune``.
    """
    if not known:
        return []
    if "search" in known:
        raise UserError(f"{folder} holds a search of `rnncond tune`. Choose another --out.")
    # Read as a recipe, which fills in what an earlier version did not write.
    before = dict(flat(read_recipe(str(folder / "recipe.yaml")).model_dump()))
    after = dict(flat(recipe.model_dump()))
    changed = [key for key in after if before.get(key) != after[key] and key != "out"]
    wrong = [key for key in changed if not key.startswith(MAY_CHANGE)]
    if wrong:
        lines = "\n".join(f"  {key}: was {before.get(key)!r}, is {after[key]!r}" for key in wrong)
        raise OtherRun(
            f"{folder} holds a run of another recipe:\n{lines}\nChoose another --out, or give --restart to begin again."
        )
    refuse_other_data(folder, known, data_id)
    return changed


def refuse_other_data(folder: Path, known: dict[str, Any], data_id: str | None) -> None:
    """Raises OtherRun where the run of the run.json ``known`` in ``folder`` was begun with other data."""
    if data_id is not None and known["data_id"] != data_id:
        raise OtherRun(
            f"{folder} was begun with other data: they have changed since {known['started']}, or the recipe names "
            "others. Choose another --out, or give --restart to begin again."
        )


def thrown_away(folder: Path) -> dict[str, Any]:
    """run.json of the run that is to be; empty where that is damaged."""
    try:
        return read_run(folder)
    except UserError:
        return {}


NEXT = {False: "caption IMAGES", True: "translate TEXT"}


def versions() -> dict[str, str]:
    names = ("rnncond", "torch", "ray", "pyarrow", "mlflow", "tokenizers")
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in names}
