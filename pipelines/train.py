"""``rnncond train``: a recipe becomes a model, on Ray Train, tracked in MLflow.

The driver checks everything first, then starts a ``Journal`` on its own machine and the workers wherever there is room.
Workers run ``pipelines.learn`` and send what they have to the journal; the driver reads along, prints, and alone talks
to MLflow. Whatever dies, the same command goes on from the last checkpoint.
"""

from __future__ import annotations

import json
import platform
import shutil
import threading
import uuid
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import ray
import torch
import typer
from ray.exceptions import ActorDiedError, WorkerCrashedError
from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchTrainer, get_device

from pipelines import ranks
from pipelines.cluster import connect
from pipelines.console import Fault, OtherRun, Outcome, UserError, exit_code, tell, user_message
from pipelines.journal import now, read_lines, read_run
from pipelines.journal_actor import Remote, journal_of
from pipelines.learn import Learner
from pipelines.models import TrackingUri
from pipelines.optimise import check_precision
from pipelines.placement import Share, place
from pipelines.reaching import check_reachable, import_mlflow, uri_of
from pipelines.recipe import PATHS, Recipe, flat, read_recipe
from pipelines.scores import VALIDATED
from pipelines.sources import check_backbone
from pipelines.task import Task, prepare
from pipelines.tracking import Tracking, end_thrown_away
from pipelines.train_watch import Watch
from rnncond.checkpoint import read

app = typer.Typer(add_completion=False)

MOVABLE = tuple(f"data.{key}" for key in PATHS)
"""Files may lie elsewhere, as in a job's own copy of its working folder: ``data_id`` is of what is in them."""
MAY_CHANGE = ("cluster.", "tracking.", "training.epochs", *MOVABLE)
"""What a run that goes on may have otherwise than when it began."""
LOCK_SECONDS = 10
"""For which the last processes of a killed run may still hold its folder."""

EXAMPLES = (
    "Examples:\n\n"
    "rnncond train show_tell.small data.store=features data.captions=captions.jsonl\n\n"
    "rnncond train show_attend_tell.small data.store=features data.captions=captions.jsonl training.epochs=20 "
    "--out runs/attend\n\n"
    "rnncond train encdec_bidirectional.small data.source=train.en.gz data.target=train.de.gz "
    "data.validation_source=val.en.gz data.validation_target=val.de.gz\n\n"
    "rnncond train runs/attend/recipe.yaml seed=2 --out runs/attend2      (a saved recipe is a recipe)\n\n"
    "rnncond train show_tell.small ... cluster.workers=2 cluster.cpus_per_worker=0.5"
)


@app.command(epilog=EXAMPLES)
def main(
    recipe: Annotated[str, typer.Argument(help="a YAML file, or the name of a recipe that comes with the project")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key.path=value ...", show_default=False)] = None,
    out: Annotated[str | None, typer.Option(help="the run's folder; by default runs/RECIPE")] = None,
    address: Annotated[str | None, typer.Option(help="of a Ray cluster; by default Ray starts here")] = None,
    restart: Annotated[bool, typer.Option("--restart", help="throw away what OUT has, and begin again")] = False,
    tracking_uri: TrackingUri = None,
) -> Outcome:
    """Train a captioner on the features of a store and a file of captions, or a translator on pairs of sentences.

    A run that was interrupted goes on when the same command is given again. OUT has best/ and last/ (models), the
    resolved recipe, metrics.jsonl and samples.jsonl.
    """
    return run(recipe, overrides or (), out=out, address=address, restart=restart, tracking_uri=tracking_uri)


def run(
    recipe: str,
    overrides: list[str] | tuple[str, ...] = (),
    *,
    out: str | None = None,
    address: str | None = None,
    restart: bool = False,
    tracking_uri: str | None = None,
) -> Outcome:
    """What the command does, for other verbs. See ``main``."""
    resolved = read_recipe(recipe, tracked_at(tracking_uri, overrides), out)
    folder = Path(resolved.out).absolute()
    known = {} if restart else read_run(folder)
    changed = differences(folder, resolved, known)
    done = bool(known) and known["status"] == "finished" and "training.epochs" not in changed
    if not done:
        check_reachable(uri_of(resolved))  # before the data are prepared
    task, about = prepare(resolved, address)
    check = partial(differences, folder, resolved, data_id=task.data_id)
    check(known)
    if done:
        tell(f"The run in {folder} is finished; --restart would begin it again.")
        if (name := resolved.tracking.registered_model) and "tracking.registered_model" in changed:
            tell(f"Its model is not registered as {name}: `rnncond promote --model {folder} --name {name}` does that.")
        return summary(folder)
    if resolved.tracking.backbone_weights:
        check_backbone(task.features, resolved.tracking.backbone_weights)
    if "unmatched" in about:
        tell(f"Left out: {about['unmatched']}.")
    threading.Thread(target=import_mlflow, daemon=True).start()  # while Ray starts
    with connect(address) as cluster:
        share = place(resolved, cluster)
        check_precision(resolved.training, "cuda" if share.gpus else "cpu")
        with journal_of(folder) as journal:
            about |= {"data_id": task.data_id, "versions": versions(), "mlflow_key": uuid.uuid4().hex}
            if restart:
                check_reachable(uri_of(resolved))  # still, before the old run is thrown away
            old = thrown_away(folder) if restart else {}
            begun = journal.open(resolved.to_yaml(), about, restart, LOCK_SECONDS, check)
            status = "failed"
            try:
                run_id, key = begun.get("mlflow_run_id"), begun.get("mlflow_key")
                with Tracking(resolved, folder.name, run_id, key=key) as tracking:
                    journal.say(mlflow_run_id=tracking.run_id, mlflow_uri=tracking.uri)
                    end_thrown_away(old)
                    tracking.describe(task)
                    train(task, journal, tracking, share, folder)
                status = "finished"
            except (KeyboardInterrupt, SystemExit):  # Ray makes the latter of SIGTERM
                status = "interrupted"
                raise
            finally:
                journal.say(status=status, ended=now())
    return summary(folder)


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
    desk = journal.writer() if ranks.rank() == 0 else journal
    try:
        Learner(ray.get(config["task"]), desk, get_device()).run()
    except Fault:
        raise
    except UserError as error:
        journal.trouble(str(error))
        # The other ranks may be waiting for what this one will not do. Ray ends them all and begins again; see above.
        if ranks.count() > 1:
            raise


def tracked_at(uri: str | None, overrides: list[str] | tuple[str, ...]) -> list[str]:
    """The overrides, with that of MLflow's address."""
    return [*overrides, *([f"tracking.uri={json.dumps(uri)}"] if uri else [])]


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


def summary(folder: Path) -> Outcome:
    run, lines = read_run(folder), read_lines(folder / "metrics.jsonl")
    best = run["best"]
    scores = {key: round(best[key], 3) for key in VALIDATED if key in best}
    scores |= {f"averaged_{key}": round(value, 3) for key, value in run.get("averaged", {}).items() if key in VALIDATED}
    return Outcome(
        {
            "epochs": lines[-1]["epoch"],
            "best_epoch": best["epoch"],
            **scores,
            "training_seconds": round(sum(line["seconds"] for line in lines), 1),
            "model": str(folder / "best"),
            **({"averaged_model": str(folder / "averaged")} if "averaged" in run else {}),
            "mlflow_run": run["mlflow_run_id"],
        },
        hint=f"Next: rnncond {NEXT['BLEU' in best]} --model {folder / 'best'} --out {folder.name}-output",
    )


NEXT = {False: "caption IMAGES", True: "translate TEXT"}


def versions() -> dict[str, str]:
    names = ("rnncond", "torch", "ray", "pyarrow", "mlflow", "tokenizers")
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in names}
