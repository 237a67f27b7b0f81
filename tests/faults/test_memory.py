"""A node without memory: Ray's monitor kills what trains, and the user is told what to do, with an exit code that has a
scheduler try again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from pipelines.training.run.info import read_run
from tests.worlds.training import TINY, make_world

GIGABYTE = 1 << 30
STARTS, TAKES = 4 * GIGABYTE, 8 * GIGABYTE
"""More than all processes of a training take together; and what a greedy one takes more."""
GREEDY = f"""
import os
import numpy as np
from rnncond.systems import show_tell
from rnncond.systems.show_tell import Config

class Model(show_tell.Model):
    def unroll(self, memory, inputs):
        if "GREEDY" in os.environ:
            self.ballast = np.ones({TAKES}, np.uint8)
        return super().unroll(memory, inputs)
"""


def full_at(share: float) -> dict[str, str]:
    """Ray takes a node of which this share is used for full."""
    return {"RAY_memory_usage_threshold": f"{share:.4f}", "RAY_memory_monitor_refresh_ms": "50"}


def train(*words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_"))}
    command = [sys.executable, "-m", "pipelines.cli.main", "train", "show_tell.small", *words, "--json"]
    return subprocess.run(command, env=environment | settings, capture_output=True, text=True, timeout=600)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize("greedy", [False, True], ids=["all are too many", "a worker takes too much"])
def test_processes_that_are_killed_for_want_of_memory(greedy, tmp_path, monkeypatch):
    memory = psutil.virtual_memory()
    if greedy and memory.available < STARTS + TAKES:
        pytest.skip(f"needs {(STARTS + TAKES) / GIGABYTE:.0f} GB of memory")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mylab").mkdir()
    (tmp_path / "mylab" / "greedy.py").write_text(GREEDY)
    words = [*make_world(tmp_path), *TINY, "system=mylab.greedy", "cluster.threads=1", "cluster.max_failures=1"]
    settings = full_at((memory.total - memory.available + STARTS) / memory.total) | {"GREEDY": "1"}
    killed = train(*words, "--out", "run", PYTHONPATH=str(tmp_path), **(settings if greedy else full_at(0.01)))
    assert killed.returncode == 4, killed.stderr
    assert "Traceback" not in killed.stderr
    message = json.loads(killed.stdout)["error"]
    assert "their node had no memory left" in message and "Run the same command again" in message

    resumed = train(*words, "--out", "run", PYTHONPATH=str(tmp_path))
    assert resumed.returncode == 0, resumed.stderr
    assert read_run(Path("run"))["status"] == "finished"
