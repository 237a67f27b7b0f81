"""MLflow, spoken to by the driver alone.

A run folder has one MLflow run, also when training was interrupted and went on: what MLflow has of an epoch already is
not logged again. metrics.jsonl is the truth; a server that is away for a while gets the epochs that it missed later.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pipelines.config.dotted import flat
from pipelines.config.metrics import VALIDATED, best_of, value_of
from pipelines.config.recipe import Recipe
from pipelines.config.sections import masked
from pipelines.console import tell
from pipelines.files.jsonl import read_lines
from pipelines.threads import in_background
from pipelines.tracking import registry
from pipelines.tracking.address import tracking_uri
from pipelines.tracking.client import (
    PATIENCE,
    client_at,
    first_line,
    if_known,
    make_or_get,
    needed,
    open_client,
    reach,
)
from pipelines.tracking.lineage import held_out, inputs_of
from pipelines.tracking.packaging import log_model
from pipelines.tracking.run_tags import run_name, run_tags

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

logger = logging.getLogger(__name__)

STEP_SECONDS = 5
"""Between two points of the curves over steps."""
MLFLOW_PARENT_RUN_ID = "mlflow.parentRunId"
"""The tag by which MLflow shows a run under another."""
KEY = "rnncond.run"
"""The tag by which a run is found again whose id was not written down."""


class TrackedTask(Protocol):
    """What MLflow is told of a training's data; see ``pipelines.training.data.task``."""

    @property
    def vocabulary(self) -> str: ...
    @property
    def source_vocabulary(self) -> str | None: ...
    @property
    def features(self) -> dict[str, Any] | None: ...


class Tracking:
    """One run in MLflow.

    Args:
        name: of the run's folder.
        run_id: of the run to go on with; None to begin one.
        key: what the run is tagged with, and found by where its id is not known.
        parent: id of the run that a new one is a child of.
        tags: of a new run.
        searched: keys that trials give values of their own; the run itself has none.

    Raises:
        UserError: MLflow does not answer, or refuses.
    """

    def __init__(
        self,
        recipe: Recipe,
        name: str,
        run_id: str | None = None,
        *,
        key: str | None = None,
        parent: str | None = None,
        tags: Mapping[str, str] | None = None,
        searched: Collection[str] = (),
    ) -> None:
        self.recipe, self.searched = recipe, searched
        self.tags = {**run_tags(recipe), **(tags or {}), **({MLFLOW_PARENT_RUN_ID: parent} if parent else {})}
        self.tags |= {KEY: key} if key else {}
        self.uri = tracking_uri(recipe.tracking.uri)
        self.behind, self.sent, self.logged_steps = False, 0.0, 0
        self.monitor: SystemMetricsMonitor | None = None
        self.run_id = ""
        try:
            reach(self.uri, lambda: self.connect(name, run_id))
        except BaseException as error:  # a run that is there already would be left running
            if self.run_id:
                self.__exit__(type(error))
            raise

    def connect(self, name: str, run_id: str | None) -> None:
        from mlflow.entities import Param

        self.client = open_client(self.uri)
        title = self.recipe.tracking.experiment
        if self.client.get_experiment_by_name(title) is None:
            make_or_get(lambda: self.client.create_experiment(title), lambda: title)
        experiment = self.client.get_experiment_by_name(title)
        if experiment is None:
            raise FileNotFoundError(f"the experiment {title!r} was deleted while it was looked for")
        number: str = experiment.experiment_id
        run = self.known(run_id, number) or self.client.create_run(
            number, run_name=run_name(self.recipe, name), tags=self.tags
        )
        self.run_id, self.logged = run.info.run_id, int(run.data.metrics.get("epoch", 0))
        steps = (metric.step for metric in run.data._metric_objs if metric.key.startswith("step/"))
        self.logged_steps = max(steps, default=0)
        if not run.data.params:  # it is new, or was left when it was
            if not self.searched:  # of a search it is the best trial's, in the end
                self.client.log_text(self.run_id, self.recipe.to_yaml(), "recipe.yaml")
            values = dict(flat(self.recipe.model_dump())) | dict.fromkeys(self.searched, "searched")
            self.client.log_batch(self.run_id, params=[Param(key, str(value)[:500]) for key, value in values.items()])

    def known(self, run_id: str | None, experiment: str) -> Run | None:
        """The run to resume, which is running again."""
        if run_id is None and KEY in self.tags:
            found = self.client.search_runs([experiment], f"tags.`{KEY}` = '{self.tags[KEY]}'", max_results=1)
            run_id = found[0].info.run_id if found else None
        if run_id is None:
            return None
        if run := if_known(lambda: self.running_again(run_id)):
            return run
        tell(f"MLflow at {self.uri} does not know the run {run_id}; a new one takes its place.")
        return None

    def running_again(self, run_id: str) -> Run:
        run = self.client.get_run(run_id)
        self.client.update_run(run_id, status="RUNNING")
        return run

    def describe(self, task: TrackedTask) -> None:
        """What a new run is told of its data: the vocabularies, and where the data come from.

        Raises:
            Fault: MLflow does not take it.
        """
        with needed(self.uri):
            inputs = self.client.get_run(self.run_id).inputs
            if inputs and inputs.dataset_inputs:
                return
        datasets = inputs_of(self.recipe.data.model_dump(), task.features)
        with needed(self.uri):
            self.client.log_text(self.run_id, task.vocabulary, "vocabulary.json")
            if task.source_vocabulary:
                self.client.log_text(self.run_id, task.source_vocabulary, "source_vocabulary.json")
            self.client.log_inputs(self.run_id, datasets)

    def log(self, lines: list[dict[str, Any]]) -> bool:
        """Bring MLflow up to ``lines``, all epochs so far: is it? Trouble is told once and does not end the run."""
        metric = self.recipe.training.early_stopping.metric
        for count, line in enumerate(lines, 1):
            if line["epoch"] > self.logged:
                if not self.send(line | best_so_far(lines[:count], metric), line["epoch"]):
                    return False  # the next would hide that this one is missing
                self.logged = line["epoch"]
        return True

    def log_step(self, entry: dict[str, Any]) -> None:
        """A point of the curves within epochs: the loss of the epoch so far, the learning rate, words a second.

        Args:
            entry: ``steps``, of all epochs, and what is to be drawn over it.
        """
        now = time.monotonic()
        if self.behind or entry["steps"] <= self.logged_steps or now - self.sent < STEP_SECONDS:
            return
        self.sent = now
        values = {f"step/{key}": value for key, value in entry.items() if key not in PLACES}
        if self.send(values, entry["steps"]):
            self.logged_steps = entry["steps"]

    def send(self, values: dict[str, float], step: int) -> bool:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        try:
            self.client.log_batch(self.run_id, [Metric(key, float(value), now, step) for key, value in values.items()])
            self.behind = False
        except Exception as error:
            logger.debug("MLflow takes no metrics:", exc_info=True)
            if not self.behind:
                tell(f"MLflow at {self.uri} takes no metrics at the moment ({first_line(error)}); training goes on.")
            self.behind = True
        return not self.behind

    def hand_in(self, out: Path, metric: str, best: dict[str, Any]) -> dict[str, Any] | None:
        """The epochs that are missing, the samples, and the models, of which the best is registered where the recipe
        says so.

        Returns:
            What ``register`` returns; None where the recipe registers no model.

        Raises:
            Fault: MLflow does not take them.
        """
        with needed(self.uri):
            if not self.log(read_lines(out / "metrics.jsonl")):
                raise ConnectionError("it takes no metrics")
            self.client.log_artifact(self.run_id, str(out / "samples.jsonl"))
            tracking = self.recipe.tracking
            weights, uris = tracking.backbone_weights, tracking.allowed_uris
            logged_id = log_model(self.client, self.run_id, out / "best", weights=weights, allowed_uris=uris)
            if (out / "averaged").is_dir():
                log_model(self.client, self.run_id, out / "averaged", "averaged", weights, uris)
            if self.recipe.tracking.registered_model:
                return self.register(self.recipe.tracking.registered_model, logged_id, metric, value_of(best, metric))
        return None

    def register(self, name: str, logged_id: str, metric: str, value: float) -> dict[str, Any]:
        """A new version of the registered model ``name``; the ``champion``, if it beats the present one.

        Args:
            value: of ``metric`` on the recipe's validation data; the higher the better.

        Returns:
            ``name`` and ``version``, its ``uri``, and the ``verdict`` whether it is the champion now.
        """
        tags = {metric: str(value), registry.HELD_OUT: held_out(self.recipe.data.model_dump()) or ""}
        version = registry.register(self.client, name, logged_id, tags)
        present = registry.champion(self.client, name)  # as late as can be: others promote, too
        better = True if present is None else registry.beats(tags, present.tags, metric)
        if better:
            registry.set_champion(self.client, version)
        if present is None:
            verdict = "it is the champion, the first"
        elif present.version == version.version:
            better, verdict = True, "it is the champion already"
        elif better is None:
            verdict = f"whether it beats the champion, version {present.version}, is not known"
            tell(
                f"{name} version {version.version} is registered; {verdict}, for that was judged by other data. "
                "`rnncond promote --data` tells."
            )
        else:
            scores = registry.compared(tags, present.tags, metric, present.version)
            verdict = f"{'it is' if better else 'not'} the champion: {scores}"
        uri = f"models:/{name}@{registry.CHAMPION}" if better else f"models:/{name}/{version.version}"
        return {"name": name, "version": int(version.version), "uri": uri, "verdict": verdict}

    def __enter__(self) -> Tracking:
        if self.recipe.tracking.system_metrics:
            from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

            try:
                self.monitor = SystemMetricsMonitor(self.run_id, resume_logging=True, tracking_uri=self.uri)
                self.monitor.start()
            except Exception as error:  # no run ends for want of these curves
                tell(f"The machine is not watched: {first_line(error)}.")
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # SystemExit is what Ray makes of SIGTERM.
        killed = kind is not None and issubclass(kind, KeyboardInterrupt | SystemExit)
        status = "FINISHED" if kind is None else "KILLED" if killed else "FAILED"
        try:
            if self.monitor:
                in_background(self.monitor.finish).result(PATIENCE)
            self.client.set_terminated(self.run_id, status)
        except Exception as error:
            tell(f"MLflow at {self.uri} was not told that the run has {status}: {first_line(error)}")


def best_so_far(lines: list[dict[str, Any]], metric: str) -> dict[str, float]:
    """The scores of the best of these epochs, as ``best_...``.

    MLflow sorts runs by the last value of a metric, which alone would rank trials by their last epoch; a search ranks
    them by their best.
    """
    best = best_of(lines, metric) or {}
    return {f"best_{key}": best[key] for key in ("epoch", *VALIDATED) if key in best}


PLACES = ("epoch", "step", "of", "steps")
"""Of a note on progress: what says where, not what."""


def add_to(run: Mapping[str, Any], trouble: str, change: Callable[[MlflowClient, str], None]) -> None:
    """Change what MLflow has of the run whose run.json is ``run``, if it has it. What hinders that is told as
    ``trouble``, and ends nothing."""
    if "mlflow_run_id" not in run or "mlflow_uri" not in run:  # trials of earlier versions do not say where theirs is
        return
    try:
        change(client_at(run["mlflow_uri"]), run["mlflow_run_id"])
    except Exception as error:
        tell(f"MLflow at {masked(run['mlflow_uri'])} {trouble}: {first_line(error)}")


def log_evaluation(run: Mapping[str, Any], evaluation: Path, scores: Mapping[str, float], scored: str) -> None:
    """Scores of the model of the run whose run.json is ``run``, as ``evaluate_...``; what was ``scored``, as the tag
    ``evaluate_of``; and the file that says how they were made. Trouble is told."""

    def log(client: MlflowClient, run_id: str) -> None:
        for name, value in scores.items():
            client.log_metric(run_id, f"evaluate_{name}", value)
        client.set_tag(run_id, "evaluate_of", scored)
        client.log_artifact(run_id, str(evaluation))

    add_to(run, "did not take the scores", log)


def log_page(run: Mapping[str, Any], page: Path) -> None:
    """The report of the run whose run.json is ``run``, beside what MLflow has of it; trouble is told."""
    add_to(run, "did not take the page", lambda client, run_id: client.log_artifact(run_id, str(page)))


def end_thrown_away(run: Mapping[str, Any]) -> None:
    """Leave nothing of the run whose run.json was ``run``, and of its trials, open in MLflow; trouble is told."""

    def end(client: MlflowClient, old: str) -> None:
        known = client.get_run(old).info
        query = f"attributes.status = 'RUNNING' and tags.`{MLFLOW_PARENT_RUN_ID}` = '{old}'"
        children = client.search_runs([known.experiment_id], query, max_results=50_000)  # as many as MLflow gives
        for info in (*(child.info for child in children), known):
            if info.status == "RUNNING":
                client.set_terminated(info.run_id, "KILLED")

    add_to(run, "was not told that the run before has ended", end)
