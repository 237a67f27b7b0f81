"""A node without memory: Ray's monitor kills what trains, and the user is told what to do, with an exit code that has a
scheduler try again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.training.run_info import read_run
from tests.worlds.training import TINY, make_world

FULL = {"RAY_memory_usage_threshold": "0.01", "RAY_memory_monitor_refresh_ms": "100"}
"""Ray takes a node of which a hundredth is used for full."""


def train(*words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_"))}
    command = [sys.executable, "-m", "pipelines.cli.main", "train", "show_tell.small", *words, "--json"]
    return subprocess.run(command, env=environment | settings, capture_output=True, text=True, timeout=600)


@pytest.mark.slow
@pytest.mark.ray
def test_workers_that_are_killed_for_want_of_memory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [*make_world(tmp_path), *TINY, "cluster.threads=1", "cluster.max_failures=1", "--out", "run"]
    killed = train(*words, **FULL)
    assert killed.returncode == 4, killed.stderr
    assert "Traceback" not in killed.stderr
    message = json.loads(killed.stdout)["error"]
    assert "their node had no memory left" in message and "Run the same command again" in message

    resumed = train(*words)
    assert resumed.returncode == 0, resumed.stderr
    assert read_run(Path("run"))["status"] == "finished"
