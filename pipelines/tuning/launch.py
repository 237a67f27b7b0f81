"""A search on Ray Tune: how its trials are begun, resumed, and the best is kept."""

from __future__ import annotations

import logging
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.actor import ActorHandle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipelines.cluster.resources import Room
from pipelines.config.dotted import flat, read_yaml
from pipelines.config.metrics import value_of
from pipelines.config.search_space import Search
from pipelines.config.yaml_core import load_yaml, scalars
from pipelines.console import Progress, tell
from pipelines.errors import Fault, OtherRun, UserError
from pipelines.tracking.client import needed
from pipelines.tracking.mlflow_run import Tracking
from pipelines.training.data.task import Task
from pipelines.training.launch import MOVABLE, refuse_other_data
from pipelines.training.run_actor import Trials
from pipelines.training.run_folder import RunFolder
from pipelines.tuning.algorithms import left, tune_config
from pipelines.tuning.trials import Record, records, work
from pipelines.tuning.watch import Watch, child_of, end_child, write_table
from rnncond.atomic import replace_folder

MAY_CHANGE = ("cluster.", "tracking.", "tune.trials", "tune.concurrent", "tune.storage", "out", *MOVABLE)
"""What a search that goes on may have otherwise than when it began."""


def try_out(search: Search, task: Task, folder: Path, tracking: Tracking, share: Room) -> None:
    """Run what is left of the trials.

    Raises:
        Fault: the search ended before all trials did.
    """
    earlier = records(folder)
    trials = left(search, earlier)
    done = sum(record.done for record in earlier)
    tell(f"{len(trials)} trials of {done + len(trials)} to run, {share.describe()}; {task.describe()}")
    with journals_of(folder) as actor, Progress("tune", "trials", done + len(trials)) as progress:
        progress.advance(done)
        watch = Watch(search, folder, actor, tracking, progress)
        status = "FAILED"
        try:
            if trials:
                fit(search, task, folder, share, actor, watch, earlier)
            status = "FINISHED"
        except (KeyboardInterrupt, SystemExit):
            status = "KILLED"
            raise
        finally:
            watch.end(status)
    write_table(folder, search.metric)
    if left(search, records(folder)):
        raise Fault(f"The search ended before all of its trials did. Run the same command again to go on in {folder}.")


def fit(
    search: Search, task: Task, folder: Path, share: Room, actor: ActorHandle, watch: Watch, earlier: list[Record]
) -> None:
    """Ray Tune, to the end. Its own notes are thrown away: see ``trials``."""
    quiet()
    space, config = tune_config(search, earlier, share.concurrent)
    trainable = tune.with_parameters(
        work, search=search, task=task, trials=actor, threads=share.threads, device=share.device
    )
    resources = {"CPU": share.cpus} | ({"GPU": share.gpus} if share.gpus else {})
    tuner = tune.Tuner(
        tune.with_resources(trainable, resources),
        param_space=space,
        tune_config=config,
        run_config=tune.RunConfig(
            name=uuid.uuid4().hex,
            storage_path=search.settings.storage or str(folder / ".ray"),
            failure_config=tune.FailureConfig(max_failures=search.recipe.cluster.max_failures),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=3),
            callbacks=[watch],
            verbose=0,
        ),
    )
    try:
        tuner.fit()
    finally:
        shutil.rmtree(folder / ".ray", ignore_errors=True)


def quiet() -> None:
    """Ray Tune writes files for TensorBoard otherwise, takes Ctrl-C for itself, and talks of its own affairs."""
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # the old one can be silent
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)


@contextmanager
def journals_of(folder: Path) -> Iterator[ActorHandle]:
    """The actor that writes the trials' folders, on this machine, until the block ends."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor = ray.remote(Trials).options(num_cpus=0, scheduling_strategy=here).remote(folder)
    try:
        yield actor
    finally:
        ray.kill(actor)


def register_best(search: Search, task: Task, folder: Path, journal: RunFolder, tracking: Tracking) -> None:
    """Make the best trial's model and recipe the search's, and hand the model in.

    Raises:
        UserError: no trial has a model.
        Fault: MLflow does not take it.
    """
    found = records(folder)
    scored = [(record, line) for record in found if (line := record.best(search.metric))]
    if not scored:
        reasons = "\n".join(f"  {record.name}: {record.run.get('reason')}" for record in found[:3])
        raise UserError(f"None of the {len(found)} trials came to a validation:\n{reasons}")
    best, line = max(scored, key=lambda one: value_of(one[1], search.metric))
    place = folder / "trials" / best.name
    replace_folder(folder / "best", {path.name: path.read_bytes() for path in (place / "best").iterdir()})
    recipe = search.recipe_of(best.params, str(place))
    journal.write("recipe.yaml", recipe.to_yaml())
    with needed(tracking.uri):
        known = tracking.client.get_metric_history(tracking.run_id, "val_loss")
        if (line["epoch"], line["val_loss"]) not in [(point.step, point.value) for point in known]:
            tracking.send(line, line["epoch"])
        tracking.client.log_artifact(tracking.run_id, str(folder / "trials.jsonl"))
    child = child_of(search, folder, best.name, best.params, tracking, best.run.get("mlflow_run_id"))
    try:
        child.describe(task)
        child.hand_in(place, search.metric, line)
    finally:
        end_child(child, best)
    journal.say(best={"trial": best.name, "params": best.params, **line})


def refuse_differences(folder: Path, search: Search, known: dict[str, Any], data_id: str | None = None) -> None:
    """Refuse to go on with what ``folder`` has. The arguments are those of ``train.differences``.

    Raises:
        OtherRun: it is another search, or one of other data.
        UserError: it is a run of ``train``.
    """
    if not known:
        return
    if "search" not in known:
        raise UserError(
            f"{folder} holds a run of `rnncond train`. Choose another --out, or give --restart to remove it."
        )
    path = folder / "search.yaml"
    before = dict(flat(scalars(read_yaml(path)))) if path.exists() else {}
    after = dict(flat(scalars(load_yaml(search.to_yaml(), "the search"))))
    wrong = [
        key
        for key in {**before, **after}
        if before and before.get(key) != after.get(key) and not key.startswith(MAY_CHANGE)
    ]
    if wrong:
        lines = "\n".join(f"  {key}: was {before.get(key)!r}, is {after.get(key)!r}" for key in wrong)
        raise OtherRun(
            f"{folder} holds another search:\n{lines}\nChoose another --out, or give --restart to begin again."
        )
    refuse_other_data(folder, known, data_id)
