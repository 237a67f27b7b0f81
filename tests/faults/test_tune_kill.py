"""``rnncond tune`` killed with SIGKILL: the same command ends with each trial once, and nothing of it doubled."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import pytest
from test_caption_kill import DEADLINE, kill_all
from training_world import TINY, make_world

from pipelines.journal import read_lines, read_run
from rnncond.checkpoint import load

EPOCHS, TRIALS = 4, 4
SECTION = {
    "algorithm": "optuna",
    "trials": TRIALS,
    "asha": {"grace_epochs": 2, "reduction": 2},
    "space": {"training.learning_rate": {"log": [1e-5, 1e-1]}},
}


def start(folder: Path, world: list[str]) -> subprocess.Popen:
    settings = [f"training.epochs={EPOCHS}", "tracking.system_metrics=false", "training.checkpoint_steps=2"]
    arguments = ["tune", "show_tell.small", *world, *TINY, *settings, f"tune={json.dumps(SECTION)}", "--out", "found"]
    environment = {**os.environ, "RAY_ADDRESS": "local", "OMP_NUM_THREADS": "1"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    command = [sys.executable, "-m", "pipelines.cli", *arguments, "--json"]
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)


def await_epochs(driver: subprocess.Popen, folder: Path, count: int) -> None:
    deadline = time.monotonic() + DEADLINE
    while sum(len(read_lines(file)) for file in folder.glob("found/trials/*/metrics.jsonl")) < count:
        assert driver.poll() is None, "the search ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(random.uniform(0, 0.3))


@pytest.mark.ray
def test_killed_driver(tmp_path):
    killed_and_gone_on(tmp_path, [random.randint(1, 5)])


@pytest.mark.slow
@pytest.mark.ray
def test_many_killed_drivers(tmp_path):
    killed_and_gone_on(tmp_path, list(range(1, 10, 2)))


def killed_and_gone_on(folder: Path, after: list[int]) -> None:
    """Kill the driver when the trials have so many epochs, each time, and let the last one end."""
    world = make_world(folder)
    before: dict[str, dict] = {}
    for epochs in after:
        driver = start(folder, world)
        await_epochs(driver, folder, epochs)
        kill_all(driver)
        before |= {path.parent.name: read_run(path.parent) for path in folder.glob("found/trials/*/run.json")}

    printed, _ = start(folder, world).communicate(timeout=2 * DEADLINE)
    summary = json.loads(printed.splitlines()[-1])
    assert summary["trials"] == TRIALS and summary["failed"] == 0
    table = {row["trial"]: row for row in read_lines(folder / "found/trials.jsonl")}
    assert sorted(table) == [f"{number:03d}" for number in range(TRIALS)]
    for name, run in before.items():
        assert table[name]["params"] == run["params"]
    for name, row in table.items():
        lines = read_lines(folder / f"found/trials/{name}/metrics.jsonl")
        assert [line["epoch"] for line in lines] == list(range(1, row["epochs"] + 1))
        assert row["status"] == ("finished" if row["epochs"] == EPOCHS else "stopped")
        if before.get(name, {}).get("status") in ("finished", "stopped"):
            assert read_run(folder / "found/trials" / name)["ended"] == before[name]["ended"]
    best = max(table.values(), key=lambda row: row["score"])
    assert load(folder / "found/best").model_id == load(folder / f"found/trials/{summary['best_trial']}/best").model_id
    assert table[summary["best_trial"]]["score"] == best["score"]

    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    assert {run.info.status for run in runs} == {"FINISHED"}
    trials = {run.data.tags["trial"]: run for run in runs if "trial" in run.data.tags}
    assert len(runs) == TRIALS + 1 and set(trials) == set(table)
    for name, run in trials.items():
        epochs = [metric.step for metric in client.get_metric_history(run.info.run_id, "epoch")]
        assert epochs == list(range(1, table[name]["epochs"] + 1))
