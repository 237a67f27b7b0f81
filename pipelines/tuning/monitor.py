"""What the driver does while trials run: MLflow, trials.jsonl, the terminal."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

from ray import tune
from ray.actor import ActorHandle
from ray.tune.experiment import Trial

from pipelines.config.metrics import rank_of
from pipelines.config.search_space import Params, Search, spelled
from pipelines.console import Progress, plural, tell
from pipelines.errors import UserError, user_message
from pipelines.files.atomic import write_whole
from pipelines.files.jsonl import read_lines
from pipelines.tracking.client import first_line, needed
from pipelines.tracking.mlflow_run import MLFLOW_PARENT_RUN_ID, Tracking
from pipelines.training.run.info import RunPlace, now, read_run
from pipelines.training.run.ray_errors import explain, workers_lost
from pipelines.training.run.writer import RunClient, RunWriter, answer
from pipelines.tuning.trials import Record, records

TABLE = "trials.jsonl"
LAST_SECONDS = 10
"""For which the end of a search waits for a trial's run in MLflow that is being begun."""


class TuneMonitor(tune.Callback):
    """Follows the trials. Each is a child of the search's run in MLflow, found again by its tag on resume.

    Args:
        place: of the search.
        writer: the actor ``RunWriter``.
        parent: the search's run in MLflow.
        progress: counts epochs, of which those that a trial is spared by its early end are none, so that what is left
            falls.
        trials: how many there will be.

    Attributes:
        lost: why the last trial was given up whose process was lost too often; the search can be resumed.
    """

    def __init__(
        self,
        search: Search,
        place: RunPlace,
        writer: ActorHandle[RunWriter],
        parent: Tracking,
        progress: Progress,
        trials: int,
    ) -> None:
        self.search, self.place, self.writer, self.parent, self.progress = search, place, writer, parent, progress
        self.trials, self.of_each = trials, search.recipe.training.epochs
        self.epochs: dict[str, int] = {}
        self.over: dict[str, str] = {}
        self.folder = place.folder
        self.lost = ""
        self.children: dict[str, Tracking] = {}
        self.beginning, self.ended = threading.Lock(), False
        self.running: set[str] = set()
        self.known = children_of(parent)
        self.best: tuple[tuple[float, float], str] | None = None
        for record in records(self.folder):
            self.take(record)

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Ray Tune keeps a copy among its notes, which are thrown away."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self.running.add(str(trial))
        self.child(str(trial), self.search.settled(trial.config["params"]))
        self.show()

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        record = self.record(trial)
        self.follow(record)
        self.take(record)
        self.show()

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        record = self.record(trial)
        self.settle(record, record.run.get("ending", "stopped"))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        error = trial.get_pickled_error() or trial.get_error()
        record = self.record(trial)
        if isinstance(error, BaseException) and workers_lost(error) and not user_message(error):
            self.lose(record, str(explain(error)))
            return
        reason = user_message(error) if isinstance(error, BaseException) else None
        record.run["reason"] = reason or str(error).strip().split("\n")[-1][:500]
        self.settle(record, "failed")

    def lose(self, record: Record, why: str) -> None:
        """Give a trial up whose process was lost too often. Nobody's mistake: it is resumed with the search."""
        self.lost = why
        self.follow(record)
        self.running.discard(record.name)
        self.say(f"trial {record.name}  lost      {epochs_of(record)}; it is resumed with the search")
        self.show()

    def record(self, trial: Trial) -> Record:
        name = str(trial)
        path = self.folder / "trials" / name
        run = read_run(path)
        params = run.get("params") or self.search.settled(trial.config["params"])
        return Record(name, params, run.get("status", ""), run, read_lines(path / "metrics.jsonl"))

    def child(self, name: str, params: dict[str, Any]) -> Tracking | None:
        """The trial's run in MLflow; None while MLflow is away, and where the search has ended without this trial."""
        with self.beginning:
            if self.ended:
                return None
            if name not in self.children:
                run_id = self.known.get(name)
                try:
                    self.children[name] = child_of(self.search, self.place, name, params, self.parent, run_id)
                except UserError as error:
                    tell(f"{error} Trial {name} continues without it.")
                    return None
            return self.children[name]

    def follow(self, record: Record) -> Tracking | None:
        """Bring the trial's run in MLflow up to date; None where it is not."""
        child = self.child(record.name, record.params)
        if child and not child.log(record.lines):
            child = None
        for name, news in answer(self.writer.take_news.remote()).items():
            for entry in news:
                if entry["kind"] == "note":
                    self.say(f"Trial {name.removeprefix('trials/')}: {entry['message']}")
        return child

    def settle(self, record: Record, status: str) -> None:
        """A trial is over. Its folder says so last: what was not done before is done when the search is resumed."""
        record.status = status
        child = self.follow(record)
        changes: dict[str, Any] = {"params": record.params, "best": record.best(self.search.metric)}
        if child and end_child(child, record):  # else ``catch_up`` does it
            changes |= {"mlflow_run_id": child.run_id, "mlflow_uri": child.uri}
        if "reason" in record.run:
            changes["reason"] = record.run["reason"]
        RunClient(self.writer, f"trials/{record.name}").amend(status=status, **changes, ended=now())
        write_table(self.folder, self.search.metric)
        self.running.discard(record.name)
        self.children.pop(record.name, None)
        self.take(record)
        row = record.row(self.search.metric)
        score = "" if row["score"] is None else f"  {self.search.metric} {row['score']:.3f}"
        self.say(f"trial {record.name}  {status:<8}  {epochs_of(record)}{score}  {spelled(record.params)}")
        self.show()

    def say(self, message: str) -> None:
        (self.progress.bar.console.print if self.progress.bar else tell)(message)

    def take(self, record: Record) -> None:
        """Count a trial's epochs, and whether it is over or the best."""
        if record.done:
            self.over[record.name] = record.status
        self.epochs[record.name] = max(min(record.epoch, self.of_each), self.epochs.get(record.name, 0))
        line = record.best(self.search.metric)
        if line:
            scored = (rank_of(line, self.search.metric), record.name)
            # Among equals the first trial, as in the report and where the best one's model is kept.
            self.best = min(self.best or scored, scored, key=lambda one: ([-value for value in one[0]], one[1]))

    def show(self) -> None:
        failed = list(self.over.values()).count("failed")
        notes = [f"{len(self.over)} of {self.trials} {plural('trial', self.trials)}"]
        notes += [f"{failed} failed"] if failed else []
        notes += [f"{len(self.running)} running"]
        notes += [f"best {self.search.metric} {abs(self.best[0][0]):.3f} by {self.best[1]}"] if self.best else []
        to_come = self.trials - len(self.over)
        self.progress.total = sum(self.epochs[name] for name in self.over) + to_come * self.of_each
        self.progress.advance(sum(self.epochs.values()) - self.progress.done, note=", ".join(notes))

    def end(self, status: str) -> None:
        """Leave no trial's run open. After Ctrl-C the thread of Ray Tune still goes on, and may be beginning one."""
        there = self.beginning.acquire(timeout=LAST_SECONDS)
        self.ended = True
        if there:
            self.beginning.release()
        for child in self.children.values():
            try:
                child.client.set_terminated(child.run_id, status)
            except Exception as error:  # whatever MLflow's database or server raises
                tell(f"MLflow at {child.uri} was not told that trial {child.run_id} has {status}: {error}")


def epochs_of(record: Record) -> str:
    return f"{record.epoch:>3} {plural('epoch', record.epoch)}"


def end_child(child: Tracking, record: Record) -> bool:
    """Tell MLflow how a trial ended; returns whether it took that. Trouble is reported and does not end the search."""
    try:
        if record.status == "stopped":
            child.client.set_tag(child.run_id, "stopped", "asha")
        if "exploited" in record.run:
            child.client.log_text(child.run_id, json.dumps(record.run["exploited"], indent=1), "exploited.json")
        child.client.set_terminated(child.run_id, "FAILED" if record.status == "failed" else "FINISHED")
        return True
    except Exception as error:  # whatever MLflow's database or server raises
        tell(f"MLflow at {child.uri} was not told that trial {record.name} has {record.status}: {first_line(error)}")
        return False


def catch_up(search: Search, place: RunPlace, parent: Tracking, writer: ActorHandle[RunWriter]) -> None:
    """Hand in what MLflow missed of the trials that ended while it was away.

    Raises:
        Fault: it is away still.
    """
    missing = [record for record in records(place.folder) if record.done and "mlflow_run_id" not in record.run]
    known = children_of(parent) if missing else {}
    for record in missing:
        child = child_of(search, place, record.name, record.params, parent, known.get(record.name))
        with needed(parent.uri):
            if not (child.log(record.lines) and end_child(child, record)):
                raise ConnectionError(f"it does not take trial {record.name}")
        RunClient(writer, f"trials/{record.name}").amend(mlflow_run_id=child.run_id, mlflow_uri=child.uri)


def child_of(
    search: Search, place: RunPlace, name: str, params: Params, parent: Tracking, run_id: str | None
) -> Tracking:
    """The run of a trial in MLflow: ``run_id``, or a new one."""
    recipe = search.recipe_of(params, search.folder_of(name))
    return Tracking(recipe, f"{place.folder.name} trial {name}", run_id, parent=parent.run_id, tags={"trial": name})


def children_of(parent: Tracking) -> dict[str, str]:
    """The ids of the trials' runs in MLflow, by trial.

    Raises:
        Fault: MLflow is away.
    """
    query = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent.run_id}'"
    with needed(parent.uri):
        experiment = parent.client.get_run(parent.run_id).info.experiment_id
        runs = parent.client.search_runs([experiment], query, max_results=50_000)  # as many as MLflow gives
        return {run.data.tags["trial"]: run.info.run_id for run in runs if "trial" in run.data.tags}


def write_table(folder: Path, metric: str) -> None:
    """Write trials.jsonl: a line for each trial so far."""
    lines = "".join(json.dumps(record.row(metric), ensure_ascii=False) + "\n" for record in records(folder))
    write_whole(folder / TABLE, lines)
