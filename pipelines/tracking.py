"""MLflow, spoken to by the driver alone.

A run folder has one MLflow run, also when training was interrupted and went on: what MLflow has of an epoch already is
not logged again. metrics.jsonl is the truth; a server that is away for a while gets the epochs that it missed later.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipelines.console import UserError, tell
from pipelines.models import LOCAL_TRACKING
from pipelines.position import value_of
from pipelines.recipe import Recipe, flat

PATIENCE, PATIENCE_HERE = 25, 300
"""Seconds for a first answer: of a server, and of a database on this machine, which is only slow when all is."""
CHAMPION = "champion"
MLFLOW_PARENT_RUN_ID = "mlflow.parentRunId"
"""The tag by which MLflow shows a run under another."""


class Tracking:
    """One run in MLflow.

    Args:
        run_id: of the run to go on with; None to begin one.
        parent: id of the run that a new one is a child of.
        tags: of a new run.

    Raises:
        UserError: MLflow does not answer, or refuses.
    """

    def __init__(
        self,
        recipe: Recipe,
        name: str,
        run_id: str | None = None,
        *,
        parent: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        self.recipe = recipe
        self.tags = {**(tags or {}), **({MLFLOW_PARENT_RUN_ID: parent} if parent else {})}
        self.uri = absolute(recipe.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI") or LOCAL_TRACKING)
        self.behind = False
        try:
            patience = PATIENCE_HERE if self.uri.startswith("sqlite:") else PATIENCE
            within(patience, lambda: self.connect(name, run_id))
        except TimeoutError:
            raise UserError(self.trouble(f"no answer within {patience} seconds")) from None
        except Exception as error:  # whatever its database or its server raises
            raise UserError(self.trouble(str(error).strip().split("\n")[0][:300])) from None

    def trouble(self, what: str) -> str:
        return (
            f"MLflow at {self.uri} cannot be used: {what}. Start the server, or name another with tracking.uri=... or "
            f"MLFLOW_TRACKING_URI; tracking.uri={LOCAL_TRACKING} needs none."
        )

    def connect(self, name: str, run_id: str | None) -> None:
        import mlflow
        from mlflow.entities import Param
        from mlflow.exceptions import MlflowException

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        self.client = mlflow.MlflowClient(self.uri, registry_uri=self.uri)
        if run_id:
            try:
                run = self.client.get_run(run_id)
                self.client.update_run(run_id, status="RUNNING")
                self.run_id, self.logged = run_id, int(run.data.metrics.get("epoch", 0))
                return
            except MlflowException:
                tell(f"MLflow at {self.uri} does not know the run {run_id}; a new one takes its place.")
        experiment = self.client.get_experiment_by_name(self.recipe.tracking.experiment)
        if experiment:
            number = experiment.experiment_id
        else:
            number = self.client.create_experiment(self.recipe.tracking.experiment)
        self.run_id, self.logged = self.client.create_run(number, run_name=name, tags=self.tags).info.run_id, 0
        values = [Param(key, str(value)[:500]) for key, value in flat(self.recipe.model_dump())]
        self.client.log_batch(self.run_id, params=values)
        self.client.log_text(self.run_id, self.recipe.to_yaml(), "recipe.yaml")

    def log(self, lines: list[dict[str, Any]]) -> None:
        """Bring MLflow up to ``lines``, all epochs so far. Trouble is told once and does not end the run."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        try:
            for line in lines:
                if line["epoch"] > self.logged:
                    metrics = [Metric(key, float(value), now, line["epoch"]) for key, value in line.items()]
                    self.client.log_batch(self.run_id, metrics=metrics)
                    self.logged = line["epoch"]
            self.behind = False
        except Exception as error:
            if not self.behind:
                tell(f"MLflow at {self.uri} takes no metrics at the moment ({error}); training goes on.")
            self.behind = True

    def hand_in(self, out: Path, metric: str, best: dict[str, Any]) -> None:
        """The samples and the best model, which is registered where the recipe says so."""
        self.client.log_artifact(self.run_id, str(out / "samples.jsonl"))
        self.client.log_artifacts(self.run_id, str(out / "best"), "model")
        if self.recipe.tracking.registered_model:
            self.register(self.recipe.tracking.registered_model, metric, value_of(best, metric))

    def register(self, name: str, metric: str, value: float) -> None:
        """A new version of the registered model ``name``; the best version so far is its ``champion``."""
        from mlflow.exceptions import MlflowException

        try:
            champion = self.client.get_model_version_by_alias(name, CHAMPION)
        except MlflowException:
            champion = None
            if not self.client.search_registered_models(f"name = '{name}'"):
                self.client.create_registered_model(name)
        source = f"{self.client.get_run(self.run_id).info.artifact_uri}/model"
        version = self.client.create_model_version(name, source, self.run_id, tags={metric: str(value)})
        if champion is None or float(champion.tags.get(metric, "-inf")) <= value:
            self.client.set_registered_model_alias(name, CHAMPION, version.version)

    def __enter__(self) -> Tracking:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_) -> None:
        # SystemExit is what Ray makes of SIGTERM.
        killed = kind is not None and issubclass(kind, KeyboardInterrupt | SystemExit)
        status = "FINISHED" if kind is None else "KILLED" if killed else "FAILED"
        try:
            self.client.set_terminated(self.run_id, status)
        except Exception as error:
            tell(f"MLflow at {self.uri} was not told that the run has {status}: {error}")


def absolute(uri: str) -> str:
    """MLflow remembers databases by their uri: a relative one would go on meaning the folder of its first use."""
    scheme, path = uri.partition("sqlite:///")[1:]
    return scheme + os.path.abspath(path) if scheme and uri.startswith(scheme) else uri


def within(seconds: float, work: Callable[[], None]) -> None:
    """Do ``work``; TimeoutError if that takes longer, whatever it is stuck in."""
    failure: list[BaseException] = []

    def attempt() -> None:
        try:
            work()
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError
    if failure:
        raise failure[0]
