"""The trials of a search: what their folders say, and the process that trains one.

```
OUT/trials/003/                an ordinary run folder (training.run.folder); its run.json has the trial's params
```
What is known of a trial is in its folder and nowhere else, so a search may be killed at any moment: the next driver
reads which trials are done, and resumes the others from their checkpoints. Ray Tune's own bookkeeping is thrown away,
because it keeps neither the schedulers' state nor what came after its last snapshot.
"""

from __future__ import annotations

import dataclasses
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from ray import tune
from ray.actor import ActorHandle

from pipelines.config.metrics import best_of, value_of
from pipelines.config.search_space import Params, Search
from pipelines.errors import Fault, UserError
from pipelines.files.jsonl import read_lines
from pipelines.files.remote_folder import RemoteFolder
from pipelines.training.data.task import Task
from pipelines.training.learner import Learner
from pipelines.training.run.folder import RunSink
from pipelines.training.run.info import RunInfo, read_run
from pipelines.training.run.ray_errors import user_errors
from pipelines.training.run.remote import RunUploader
from pipelines.training.run.state import Folder, TrainState
from pipelines.training.run.writer import RunClient, RunWriter

LOCK_SECONDS = 30
"""For which the last processes of a killed search may still hold a trial's folder."""
DONE = ("finished", "stopped", "failed")
ORIGIN = "origin.txt"
"""The file, in a checkpoint that one trial leaves for another, that says whose it is."""


@dataclass
class Record:
    """What is known of a trial.

    Attributes:
        status: ``finished``, ``stopped`` early, ``failed``; anything else was under way.
        lines: of metrics.jsonl.
    """

    name: str
    params: Params
    status: str
    run: RunInfo
    lines: list[dict[str, Any]] = field(default_factory=list)

    @property
    def done(self) -> bool:
        return self.status in DONE

    @property
    def epoch(self) -> int:
        return self.lines[-1]["epoch"] if self.lines else 0

    def best(self, metric: str) -> dict[str, Any] | None:
        """The best epoch; None before the first that was validated."""
        return best_of(self.lines, metric)

    def reports(self, metric: str) -> list[dict[str, float]]:
        """What schedulers have been given: at each validated epoch, the best value so far."""
        reports: list[dict[str, float]] = []
        for line in self.lines:
            if "val_loss" in line:
                score = value_of(line, metric)
                reports.append({"epoch": line["epoch"], "score": max([score, *(one["score"] for one in reports[-1:])])})
        return reports

    def row(self, metric: str) -> dict[str, Any]:
        """A line of trials.jsonl."""
        best = self.best(metric)
        return {
            "trial": self.name,
            "status": self.status,
            "params": self.params,
            "score": best and (best["val_loss"] if metric == "loss" else best[metric]),
            "best_epoch": best and best["epoch"],
            "val_loss": best and best["val_loss"],
            "epochs": self.epoch,
            "seconds": round(sum(line["seconds"] for line in self.lines), 1),
            **{key: self.run[key] for key in ("reason", "exploited", "mlflow_run_id") if key in self.run},
        }


def records(folder: Path) -> list[Record]:
    """Read what is known of the trials in a search's folder, by name."""
    trials = []
    for path in sorted((folder / "trials").glob("*/run.json")):
        run, lines = read_run(path.parent), read_lines(path.parent / "metrics.jsonl")
        if run:
            trials.append(Record(path.parent.name, run["params"], run["status"], run, lines))
    return trials


def work(
    config: dict[str, Any],
    search: Search,
    task: Task,
    writer: ActorHandle[RunWriter],
    remote: RemoteFolder | None,
    threads: int,
    device: str,
) -> None:
    """Train one trial in this process, until it is done or Ray Tune ends it at a report.

    Args:
        config: what Ray Tune has chosen: ``params``.
        remote: where the search is, if in object storage.
    """
    torch.set_num_threads(threads)
    name = tune.get_context().get_trial_name()
    params = search.settled(config["params"])
    recipe = search.recipe_of(params, search.folder_of(name))
    run = open_trial(writer, name, recipe.to_yaml(), params)
    sink: RunSink = RunUploader(run.call, remote.below(f"trials/{name}")) if remote else run
    reports = Reports(search, name)
    try:
        with user_errors():
            take_over(run, sink, tune.get_checkpoint(), params)
            task = dataclasses.replace(task, recipe=recipe)

            def report(line: dict[str, Any]) -> None:
                sink.flush()  # Ray Tune may end the trial there
                reports.tell(line, learner.state)

            learner = Learner(task, sink, device, report)
            lines = run.epochs()
            done = bool(lines) and lines[-1]["epoch"] == recipe.training.epochs  # a trial that only has to end, ends
            for line in lines[-1 if reports.population else 0 :]:
                reports.tell(line, learner.state, ask=not done)
            learner.run()
            run.update(ending="finished")
    except Fault:
        raise
    except UserError as error:
        run.update(ending="failed", reason=str(error))
        return
    reports.end()


def open_trial(writer: ActorHandle[RunWriter], name: str, recipe: str, params: Params) -> RunClient:
    """Take the folder of a trial, new or begun, also from the process that trained it before."""
    driver = RunClient(writer, f"trials/{name}")
    driver.open(recipe, {"params": params}, patience=LOCK_SECONDS)
    run = driver.writer()
    # How it ended when no driver was left to hear of it; now it may end otherwise.
    run.update(ending=None, reason=None)
    return run


class Reports:
    """What a trial tells Ray Tune at each validated epoch: the best score so far. Ray Tune may end it there."""

    def __init__(self, search: Search, name: str) -> None:
        self.search, self.name = search, name
        self.population = search.settings.algorithm == "pbt"
        self.epoch, self.best = 0, -math.inf

    def tell(self, line: dict[str, Any], state: Callable[[], Folder], ask: bool = True) -> None:
        """Note an epoch, and ``ask`` Ray Tune whether to go on, unless it is the last."""
        if "val_loss" not in line:
            return
        self.epoch, score = line["epoch"], value_of(line, self.search.metric)
        self.best = max(self.best, score)
        if not ask or self.epoch == self.search.recipe.training.epochs:
            return
        if not self.population:
            tune.report({"epoch": self.epoch, "score": self.best})
        elif self.epoch % self.search.settings.pbt.interval == 0:
            self.compare(score, state())

    def compare(self, score: float, state: Folder) -> None:
        """Tell a population how good the weights are now, and leave the state for a worse trial to take over."""
        with tempfile.TemporaryDirectory() as folder:
            for name, content in (state | {ORIGIN: self.name.encode()}).items():
                (Path(folder) / name).write_bytes(content)
            checkpoint = tune.Checkpoint.from_directory(folder)
            tune.report({"epoch": self.epoch, "score": score}, checkpoint=checkpoint)

    def end(self) -> None:
        """The last report, when all is written: Ray Tune may end a trial at any report."""
        if not self.population:
            tune.report({"epoch": self.epoch, "score": self.best})


def take_over(run: RunClient, sink: RunSink, checkpoint: tune.Checkpoint | None, params: Params) -> None:
    """Resume from the state that another trial of the population left, if that is what Ray Tune gives."""
    if checkpoint is None:
        return
    with checkpoint.as_directory() as folder:
        state = {path.name: path.read_bytes() for path in Path(folder).iterdir() if not path.name.startswith(".")}
    origin = state.pop(ORIGIN).decode()
    taken = TrainState.from_json(state["position.json"])
    step = {"epoch": taken.epoch, "of": origin, "params": params}
    before = run.info().get("exploited", [])
    if run.name == f"trials/{origin}" or step in before:
        return
    own = sink.checkpoint()
    if own:  # best/ stays what it is until the new weights do better
        mine = TrainState.from_json(own["position.json"])
        taken.best, taken.loss_of_best = mine.best, mine.loss_of_best
        taken.best_epoch, taken.bad_epochs = mine.best_epoch, mine.bad_epochs
    sink.save_checkpoint(taken.steps, state | {"position.json": taken.to_json()})
    sink.flush()
    run.update(params=params, exploited=[*before, step])
