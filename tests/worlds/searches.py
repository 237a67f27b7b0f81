"""What trainings and searches leave in MLflow, and trials without Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow

from pipelines.training.run.folder import RunFolder

RATE = "training.learning_rate"


def all_runs() -> tuple[mlflow.MlflowClient, list[mlflow.entities.Run]]:
    """Of the MLflow in the current folder."""
    client = mlflow.MlflowClient(f"sqlite:///{Path('mlflow.db').absolute()}")
    return client, client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])


def mlflow_runs() -> list[tuple[str, list[int]]]:
    """The status of each run, and the epochs that it has."""
    client, found = all_runs()
    return [(run.info.status, epochs_of(client, run)) for run in found]


def runs():
    """MLflow's runs of trials by name, and the parent."""
    client, found = all_runs()
    trials = {run.data.tags["trial"]: run for run in found if "trial" in run.data.tags}
    (parent,) = [run for run in found if "trial" not in run.data.tags]
    assert {run.data.tags["mlflow.parentRunId"] for run in trials.values()} <= {parent.info.run_id}
    return client, trials, parent


def epochs_of(client, run):
    return [metric.step for metric in client.get_metric_history(run.info.run_id, "epoch")]


def write_trial(folder: Path, name: str, lines: list[dict[str, Any]], **info: Any) -> None:
    """The folder of a trial with these epochs, as the process that trained it leaves it."""
    journal = RunFolder(folder / "trials" / name)
    journal.open("", {"params": {RATE: 0.1}})
    for line in lines:
        journal.epoch(line, [])
    journal.update(**info)
    journal.close()
