"""Ctrl-C and SIGTERM while Ray works: one line, 130 or 143, no stack of Python or C++, and the same command resumes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest

from pipelines.cli.main import INTERRUPTED, TERMINATED
from pipelines.training.run.info import read_run
from tests.worlds.nodes import await_
from tests.worlds.training import TINY, make_world

INTERRUPT, TERMINATE = (signal.SIGINT, 130, INTERRUPTED), (signal.SIGTERM, 143, TERMINATED)
ONE = (*TINY, "cluster.cpus_per_worker=1", "cluster.threads=1", "training.epochs=1000000")

pytestmark = pytest.mark.ray


def begin(*words: str) -> subprocess.Popen:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_"))}
    command = [sys.executable, "-m", "pipelines.cli.main", *words, "--json"]
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def check_end(running: subprocess.Popen, number: int, code: int, message: str) -> None:
    running.send_signal(number)
    said, told = running.communicate(timeout=120)
    assert running.returncode == code, told
    assert json.loads(said) == {"error": message}
    signs = ("Traceback", "***", "    @ ", "Fatal Python", "terminate called")
    assert not [sign for sign in signs if sign in told], told


# The same code ends every verb at either signal; Ray is of another kind below each, so each verb has one of them. A
# batch verb is always tried, and these two with what is slow.
@pytest.mark.slow
@pytest.mark.parametrize(("verb", "number", "code", "message"), [("train", *TERMINATE), ("tune", *INTERRUPT)])
def test_a_training_and_a_search(verb, number, code, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    world = make_world(tmp_path)
    search = ("tune.trials=2", "tune.space.seed=[1, 2]") if verb == "tune" else ()
    running = begin(verb, "show_tell.small", *world, *ONE, *search, "--out", "run")
    await_(
        lambda: any(file.stat().st_size for file in Path("run").rglob("metrics.jsonl")), lambda: running.poll() is None
    )
    check_end(running, number, code, message)
    run = read_run("run")
    assert run["status"] == "interrupted"
    assert mlflow.MlflowClient(run["mlflow_uri"]).get_run(run["mlflow_run_id"]).info.status == "KILLED"


def test_a_batch_verb(tmp_path, monkeypatch, make_photos):
    monkeypatch.chdir(tmp_path)
    words = ("features", str(make_photos(1500)), "--store", "store", "--backbone", "timm/test_resnet")
    running = begin(*words, "--weights", "random", "--rows-per-part", "8")
    await_(lambda: [*Path("store").rglob("parts/*.parquet")], lambda: running.poll() is None)
    check_end(running, *INTERRUPT)


def test_a_batch_verb_while_ray_starts(tmp_path, monkeypatch, make_photos):
    """The ledger's first file is written before Ray has started."""
    monkeypatch.chdir(tmp_path)
    words = ("features", str(make_photos(8)), "--store", "store", "--backbone", "timm/test_resnet")
    running = begin(*words, "--weights", "random")
    await_(lambda: [*Path("store").rglob("base.parquet")], lambda: running.poll() is None)
    check_end(running, *TERMINATE)
