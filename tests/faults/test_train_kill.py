"""``rnncond train`` and ``tune`` on a cluster, and SIGKILL: what dies costs the steps since the last checkpoint."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil
import pytest
import torch

from pipelines.config.recipe import Recipe
from pipelines.files.jsonl import read_lines
from pipelines.tracking.models import locate
from pipelines.training.run.info import RunPlace, read_run
from pipelines.training.run.state import read_checkpoint
from rnncond.checkpoint import load
from tests.worlds.nodes import TRAINER, Nodes, await_, children
from tests.worlds.searches import mlflow_runs
from tests.worlds.training import TINY, learner_of, tiny_recipe

ENDLESS = "training.epochs=1000000"
"""Of a run that a test ends: no machine is so fast that it is done before it is killed."""
KILLS = 20
SEARCHED = 40
"""Epochs of each trial of a search that is killed often."""
TRIAL = "ray::ImplicitFunc"
PATIENCE = "15"
"""Seconds for which Ray waits for workers where it has not yet heard of a node's death."""
ONE = (*TINY, "cluster.cpus_per_worker=1", "cluster.threads=1", "training.checkpoint_steps=2")

pytestmark = pytest.mark.ray


def epochs() -> list[int]:
    """Of the run; of all trials, where it is a search."""
    files = sorted(Path("run").glob("trials/*/metrics.jsonl")) or ["run/metrics.jsonl"]
    return [line["epoch"] for file in files for line in read_lines(file)]


def alone(recipe: Recipe) -> None:
    """Train in this process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums depend on how they are shared out
    learner_of(recipe).run()
    torch.set_num_threads(threads)


def check_equals_unbroken(world: list[str], *overrides: str) -> None:
    """The models of ``run``, bit for bit; and that MLflow has one run, with every epoch once."""
    alone(tiny_recipe(world, Path("whole"), *overrides))
    for model in ("last", "best"):
        assert load(f"run/{model}").model_id == load(f"whole/{model}").model_id
    every = list(range(1, len(read_lines("whole/metrics.jsonl")) + 1))
    assert epochs() == every
    assert mlflow_runs() == [("FINISHED", every)]
    assert read_run("run")["status"] == "finished"


def ranks() -> int:
    """That the last checkpoint is of."""
    state, _ = read_checkpoint(max(Path("run/checkpoints").iterdir()))
    return json.loads(state["position.json"])["ranks"]


class Running:
    """A command on ``nodes``, in the present folder, whose workers have ``title``; begun again whenever its driver was
    killed."""

    def __init__(self, nodes: Nodes, command, title: str, *words: str) -> None:
        self.nodes, self.title = nodes, title
        self.start = partial(command, *words, RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S=PATIENCE)
        self.driver: subprocess.Popen = self.start()

    def runs(self) -> bool:
        assert self.driver.poll() is None, f"ended before it was killed: {self.driver.communicate()}"
        return True

    def await_epochs(self, more: int) -> None:
        enough = len(epochs()) + more
        await_(lambda: len(epochs()) >= enough, self.runs)

    def kill(self, kind: str) -> None:
        if kind == "driver":
            self.driver.kill()
            self.driver.communicate()
            self.driver = self.start()
            return
        worker, node = self.nodes.await_process(self.title, self.runs)
        if kind == "worker":
            worker.kill()
        else:
            self.nodes.kill(node)

    def finish(self) -> None:
        _, said = self.driver.communicate(timeout=900)
        assert self.driver.returncode == 0, said


def training(nodes: Nodes, command, *overrides: str) -> Running:
    return Running(nodes, command, TRAINER, "train", "show_tell.small", *overrides, "--out", "run")


def kill_often(running: Running, chance: random.Random, kills: int = KILLS) -> None:
    killed = []
    for _ in range(kills):
        running.await_epochs(chance.randint(1, 8))
        time.sleep(chance.random())
        killed.append(chance.choice(["worker", "node", "driver"]))
        running.kill(killed[-1])
        running.nodes.fill()
    print(", ".join(killed))
    running.finish()


def test_killed_node_and_driver(nodes, command, world):
    """The node's death is its worker's, too."""
    run = training(nodes, command, *world, *ONE, ENDLESS)
    run.await_epochs(2)
    run.kill("node")
    run.await_epochs(2)
    # The next one begins while the writer of this one may still be there.
    run.start = partial(run.start, f"training.epochs={len(epochs()) + 10}")
    run.kill("driver")
    nodes.fill()
    run.finish()
    check_equals_unbroken(world, *ONE, f"training.epochs={len(epochs())}")


@pytest.mark.slow  # Ray looks for room to grow once a minute
def test_with_as_many_workers_as_before_when_a_node_is_back(nodes, command, world):
    overrides = (*ONE, "cluster.workers=2", "cluster.min_workers=1")
    run = training(nodes, command, *world, *overrides, ENDLESS)
    try:
        run.await_epochs(2)
        run.kill("node")
        await_(lambda: not nodes.processes(TRAINER), run.runs)
        run.await_epochs(2)
        assert len(nodes.processes(TRAINER)) == 1
    finally:
        nodes.fill()
    await_(lambda: len(nodes.processes(TRAINER)) == 2, run.runs)
    run.await_epochs(5)
    run.driver.terminate()
    run.driver.communicate()
    assert ranks() == 2
    last = len(epochs()) + 2
    # Ray keeps the room that the first driver had asked for until three minutes after its last request.
    run = training(nodes, command, *world, *overrides, f"training.epochs={last}")
    run.finish()
    assert epochs() == list(range(1, last + 1))
    assert mlflow_runs() == [("FINISHED", epochs())]
    assert ranks() == 2


def test_a_search_whose_driver_was_killed_has_each_trial_once(nodes, command, chance, world):
    section = {
        "algorithm": "optuna",
        "trials": 3,
        "asha": {"grace_epochs": 2, "reduction": 2},
        "space": {"training.learning_rate": {"log": [1e-5, 1e-1]}},
    }
    search = (*ONE, "training.epochs=4", f"tune={json.dumps(section)}")
    run = Running(nodes, command, TRIAL, "tune", "show_tell.small", *world, *search, "--out", "run")
    run.await_epochs(chance.randint(1, 5))
    run.driver.kill()
    run.driver.communicate()
    before = {path.parent.name: read_run(path.parent) for path in Path("run/trials").glob("*/run.json")}
    run.driver = run.start()
    run.finish()

    table = {row["trial"]: row for row in read_lines("run/trials.jsonl")}
    assert sorted(table) == ["000", "001", "002"]
    for name, trial in before.items():
        assert table[name]["params"] == trial["params"]
        if trial["status"] in ("finished", "stopped"):
            assert read_run(f"run/trials/{name}")["ended"] == trial["ended"]
    for name, row in table.items():
        lines = read_lines(f"run/trials/{name}/metrics.jsonl")
        assert [line["epoch"] for line in lines] == list(range(1, row["epochs"] + 1))
        assert row["status"] == ("finished" if row["epochs"] == 4 else "stopped")
    best = read_run("run")["best"]
    assert table[best["trial"]]["score"] == max(row["score"] for row in table.values())
    assert load("run/best").model_id == load(f"run/trials/{best['trial']}/best").model_id
    of_trials = [("FINISHED", list(range(1, row["epochs"] + 1))) for row in table.values()]
    of_search = ("FINISHED", [sum(row["epochs"] for row in table.values())])
    assert sorted(mlflow_runs()) == sorted([of_search, *of_trials])


@pytest.mark.slow
def test_a_training_killed_twenty_times(nodes, command, chance, world):
    overrides = (*ONE, "training.epochs=300", "cluster.max_failures=100")
    kill_often(training(nodes, command, *world, *overrides), chance)
    check_equals_unbroken(world, *overrides)


@pytest.mark.slow
def test_a_search_killed_twenty_times(nodes, command, chance, world):
    rates, every = (0.1, 0.03, 0.01, 0.003, 0.001, 0.0003), list(range(1, SEARCHED + 1))
    overrides = (*ONE, f"training.epochs={SEARCHED}", "cluster.max_failures=100")
    search = ("tune.algorithm=grid", "tune.trials=null", "tune.asha=null")
    search += (f"tune.space={{training.learning_rate: {list(rates)}}}",)
    words = ("tune", "show_tell.small", *world, *overrides, *search, "--out", "run")
    kill_often(Running(nodes, command, TRIAL, *words), chance)
    table = read_lines("run/trials.jsonl")
    assert sorted(line["params"]["training.learning_rate"] for line in table) == sorted(rates)
    for line in table:
        rate = f"training.learning_rate={line['params']['training.learning_rate']}"
        alone(tiny_recipe(world, Path(line["trial"]), *overrides, rate))
        assert load(f"run/trials/{line['trial']}/last").model_id == load(f"{line['trial']}/last").model_id
        assert (line["status"], line["epochs"]) == ("finished", SEARCHED)
    # The search's own run has the best trial's line, at the epochs of all trials.
    of_search = ("FINISHED", [SEARCHED * len(rates)])
    assert sorted(mlflow_runs()) == sorted([of_search, *[("FINISHED", every)] * len(rates)])


def epochs_in(uri: str) -> list[int]:
    return [line["epoch"] for line in read_lines(RunPlace.at(uri).folder / "metrics.jsonl")]


@pytest.mark.slow
def test_a_run_in_a_bucket_goes_on_when_its_head_and_its_disk_are_gone(bucket, world, tmp_path):
    """Five times: Ray with all its processes, the driver and its temporary files."""
    uri = f"{bucket[0]}/run"
    overrides = (*world, *ONE, f"tracking.uri=sqlite:///{tmp_path}/mlflow.db")
    words = [sys.executable, "-m", "pipelines.cli.main", "train", "show_tell.small", *overrides, "--out", uri]
    root = Path(__file__).parents[2]

    def begin(machine: Path, epochs: str) -> subprocess.Popen:
        environment = os.environ | {"TMPDIR": str(machine), "PYTHONPATH": str(root)}
        return subprocess.Popen([*words, epochs], cwd=machine, env=environment, stdout=subprocess.DEVNULL)

    for _ in range(5):
        before = len(epochs_in(uri))
        with tempfile.TemporaryDirectory() as machine:  # a short path, where Ray has sockets
            driver = begin(Path(machine), ENDLESS)
            await_(lambda: len(epochs_in(uri)) > before or driver.poll() is not None)  # noqa: B023
            assert driver.poll() is None, "it ended before it was killed"
            for process in [psutil.Process(driver.pid), *children(driver.pid)]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            driver.wait()
    last = len(epochs_in(uri)) + 1
    assert begin(tmp_path, f"training.epochs={last}").wait() == 0
    alone(tiny_recipe(world, Path("whole"), *ONE, f"training.epochs={last}"))
    for model in ("last", "best"):
        assert load(locate(f"{uri}/{model}")).model_id == load(f"whole/{model}").model_id
    assert epochs_in(uri) == list(range(1, last + 1))
    assert mlflow_runs() == [("FINISHED", list(range(1, last + 1)))]
