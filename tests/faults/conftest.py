"""A cluster to kill nodes of, commands to kill, a disk to fill."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest

from tests.worlds.nodes import Nodes


# Not by module: a test process died, with its own Ray running, soon after such a cluster had been taken down in it.
@pytest.fixture(scope="session")
def nodes():
    with Nodes() as nodes:
        yield nodes


@pytest.fixture
def chance():
    """Random moments for a fault. The seed is printed; give it as FAULT_SEED for the same moments again."""
    seed = int(os.environ.get("FAULT_SEED") or random.SystemRandom().randrange(1000))
    print(f"FAULT_SEED={seed}")
    return random.Random(seed)


@pytest.fixture
def command(nodes):
    """A function that starts the command in a process of its own, on the cluster; at the end none is left running."""
    begun: list[subprocess.Popen] = []

    def start(*words: str, **settings: str) -> subprocess.Popen:
        # A driver on a cluster has nothing to do with what else this machine may have of Ray, but for tokens.
        environment = {
            name: value
            for name, value in os.environ.items()
            if name.startswith(("RAY_AUTH_", "RAY_TRAIN_")) or not name.startswith(("RAY_", "MLFLOW_"))
        }
        call = [sys.executable, "-m", "pipelines.cli.main", *words, "--address", nodes.address, "--json"]
        environment |= {"OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0", **settings}
        process = subprocess.Popen(call, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        begun.append(process)
        return process

    yield start
    for process in begun:
        process.kill()
        print(process.communicate()[1])  # shown where the test has failed


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 3 MB, and a function that mounts it again with other options, such as size=200M or ro."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o"]
    if subprocess.run([*mount, "size=3M", "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("may not mount a small file system here")
    yield folder, lambda options: subprocess.run([*mount, f"remount,{options}", "tmpfs", str(folder)], check=True)
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
