"""``rnncond tune``: many trainings of a recipe with other values, on Ray Tune, tracked in MLflow; the best is kept.

The driver checks everything first and prepares the data once. Trials train wherever there is room and hand what they
have to one actor on the driver's machine (``trials.Trials``), so the cluster needs no shared file system.

```
OUT/
  recipe.yaml      of the best trial: `rnncond train OUT/recipe.yaml --out ELSEWHERE` repeats it
  search.yaml      the recipe that was varied, with its section tune: `rnncond tune OUT/search.yaml` searches again
  run.json         status, the best trial, MLflow run, versions
  trials.jsonl     a line a trial: values, score, epochs, status, seconds
  trials/003/      a trial, an ordinary run folder
  best/            the best trial's best model, as `rnncond caption --model OUT` takes it
```
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import ray
import typer
import yaml
from ray import tune
from ray.actor import ActorHandle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipelines.cluster import connect
from pipelines.console import Fault, OtherRun, Outcome, Progress, UserError, tell
from pipelines.journal import Journal, now, read_run
from pipelines.models import TrackingUri
from pipelines.optimise import check_precision
from pipelines.placement import Room, room
from pipelines.position import value_of
from pipelines.reaching import check_reachable, import_mlflow, needed, uri_of
from pipelines.recipe import flat
from pipelines.scores import VALIDATED
from pipelines.search_algorithms import left, tune_config
from pipelines.search_space import Search, read_search
from pipelines.task import Task, prepare
from pipelines.tracking import Tracking, end_thrown_away
from pipelines.train import LOCK_SECONDS, MOVABLE, NEXT, refuse_other_data, thrown_away, tracked_at, versions
from pipelines.trials import Record, Trials, records, work
from pipelines.tune_watch import Watch, catch_up, child_of, end_child, write_table
from rnncond.folders import replace_folder

app = typer.Typer(add_completion=False)

MAY_CHANGE = ("cluster.", "tracking.", "tune.trials", "tune.concurrent", "tune.storage", "out", *MOVABLE)
"""What a search that goes on may have otherwise than when it began."""

EXAMPLES = (
    "Examples:\n\n"
    "rnncond tune show_tell.small data.store=features data.captions=captions.jsonl\n\n"
    "rnncond tune show_tell.small data.store=features data.captions=captions.jsonl tune.trials=30 "
    "'tune.space.model.dropout={uniform: [0.2, 0.7]}' tracking.registered_model=captioner\n\n"
    "rnncond tune show_tell.small ... tune.algorithm=grid tune.trials=null 'tune.space={model.hidden: [128, 256]}'\n\n"
    "rnncond tune show_tell.small ... tune.algorithm=pbt tune.asha=null "
    "'tune.space={training.learning_rate: {log: [1e-4, 1e-2]}}'"
)


@app.command(epilog=EXAMPLES)
def main(
    recipe: Annotated[str, typer.Argument(help="a YAML file, or the name of a recipe that comes with the project")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key.path=value ...", show_default=False)] = None,
    out: Annotated[str | None, typer.Option(help="the search's folder; by default runs/RECIPE.search")] = None,
    address: Annotated[str | None, typer.Option(help="of a Ray cluster; by default Ray starts here")] = None,
    restart: Annotated[bool, typer.Option("--restart", help="throw away what OUT has, and begin again")] = False,
    tracking_uri: TrackingUri = None,
) -> Outcome:
    """Search for the values of a recipe that train the best model: what to vary, and how, is its section `tune`.

    A search that was interrupted goes on when the same command is given again; with more tune.trials, one that is
    finished does. OUT has trials/, each a run, trials.jsonl, the best trial's recipe.yaml, and its model in best/.
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
    search = read_search(recipe, tracked_at(tracking_uri, overrides), out)
    folder = Path(search.recipe.out)
    known = {} if restart else read_run(folder)
    refuse_differences(folder, search, known)
    done = bool(known) and known["status"] == "finished" and not left(search, records(folder))
    if not done:
        check_reachable(uri_of(search.recipe))  # before the data are prepared
    task, about = prepare(search.recipe, address)
    check = partial(refuse_differences, folder, search, data_id=task.data_id)
    check(known)
    if done:
        tell(f"The search in {folder} is finished; --restart would begin it again.")
        return summary(folder, search)
    if "unmatched" in about:
        tell(f"Left out: {about['unmatched']}.")
    threading.Thread(target=import_mlflow, daemon=True).start()  # while Ray starts
    with connect(address) as cluster, closing(Journal(folder)) as journal:
        share = room(search, cluster)
        check_precision(search.recipe.training, share.device)
        about |= {"search": search.settings.algorithm, "data_id": task.data_id, "versions": versions()}
        about |= {"mlflow_key": uuid.uuid4().hex}
        if restart:
            check_reachable(uri_of(search.recipe))  # still, before the old search is thrown away
        old = thrown_away(folder) if restart else {}
        begun = journal.open(search.recipe.to_yaml(), about, restart, LOCK_SECONDS, check)
        status = "failed"
        try:
            journal.write("search.yaml", search.to_yaml())
            tags = {"search": search.settings.algorithm}
            run_id, key = begun.get("mlflow_run_id"), begun.get("mlflow_key")
            with Tracking(search.recipe, folder.name, run_id, key=key, tags=tags) as tracking:
                journal.say(mlflow_run_id=tracking.run_id, mlflow_uri=tracking.uri)
                end_thrown_away(old)
                tracking.describe(task)
                with needed(tracking.uri):
                    tracking.client.log_artifact(tracking.run_id, str(folder / "search.yaml"))
                try_out(search, task, folder, tracking, share)
                catch_up(search, folder, tracking)
                register_best(search, task, folder, journal, tracking)
            status = "finished"
        except (KeyboardInterrupt, SystemExit):  # Ray makes the latter of SIGTERM
            status = "interrupted"
            raise
        finally:
            journal.say(status=status, ended=now())
    return summary(folder, search)


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


def register_best(search: Search, task: Task, folder: Path, journal: Journal, tracking: Tracking) -> None:
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
    before = dict(flat(yaml.safe_load(path.read_text(encoding="utf-8")))) if path.exists() else {}
    after = dict(flat(yaml.safe_load(search.to_yaml())))
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


def summary(folder: Path, search: Search) -> Outcome:
    run, found = read_run(folder), records(folder)
    best = run["best"]
    failed = [record for record in found if record.status == "failed"]
    scores = {key: round(best[key], 3) for key in VALIDATED if key in best}
    verb = NEXT["BLEU" in best]
    return Outcome(
        {
            "trials": len(found),
            "stopped_early": sum(record.status == "stopped" for record in found),
            "epochs": sum(record.epoch for record in found),
            "best_trial": best["trial"],
            **{key: value for key, value in best["params"].items()},
            "best_epoch": best["epoch"],
            **scores,
            "model": str(folder / "best"),
            "mlflow_run": run["mlflow_run_id"],
        },
        failed=len(failed),
        failures=[f"trial {record.name}: {record.run.get('reason')}" for record in failed[:5]],
        hint=f"Next: rnncond report {folder}\n      rnncond {verb} --model {folder} --out {folder.name}-output",
    )
