"""What takes processes beside this one, and no Ray: a signal to a command, ranks, Java, several that are the first."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
import torch
from torch.multiprocessing import spawn

from pipelines.cli import main
from pipelines.evaluation.caption_metrics import score
from tests.unit.pipelines.evaluation.test_caption_metrics import REFERENCES, needs_java
from tests.unit.pipelines.training.test_distributed import told_by

WAITING = """
import signal, sys, time, types, typer
from pipelines.cli import commands, main as cli
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background of a shell begins without it
app = typer.Typer()
@app.command()
def main():
    print("waiting", file=sys.stderr, flush=True)
    time.sleep(300)
sys.modules["pipelines.cli.wait"] = types.SimpleNamespace(app=app)
commands.VERBS["wait"] = ""
cli.main()
"""


@pytest.mark.parametrize(
    ("arguments", "number", "code", "message"),
    [
        (["wait", "--json"], signal.SIGTERM, 143, main.TERMINATED),
        (["run", "pipeline.yaml", "--json"], signal.SIGINT, 130, main.INTERRUPTED),
    ],
    ids=["verb", "pipeline"],
)
def test_a_signal_ends_with_a_message_and_its_code(arguments, number, code, message, tmp_path):
    (tmp_path / "pipeline.yaml").write_text("out: .\nstages: {first: {verb: wait}}")
    command = [sys.executable, "-c", WAITING, *arguments]
    running = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert "waiting\n" in iter(running.stderr.readline, "")
    running.send_signal(number)
    said, told = running.communicate(timeout=60)
    assert running.returncode == code
    assert "Traceback" not in told
    assert json.loads(said) == {"error": message}
    if arguments[0] == "run":
        assert json.loads((tmp_path / "pipeline.json").read_text())["stages"]["first"]["status"] == "stopped"


FIRST = """
import sys
from pipelines.tracking.client import client_at, import_mlflow
import_mlflow()
import mlflow.store.tracking.sqlalchemy_store
print("ready", flush=True)
sys.stdin.readline()
client_at(sys.argv[1])
print("done", flush=True)
"""


def test_several_that_are_the_first_to_use_a_database_all_succeed(tmp_path):
    command = [sys.executable, "-c", FIRST, f"sqlite:///{tmp_path}/mlflow.db"]
    jobs = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ})
        for _ in range(2)
    ]
    for job in jobs:
        assert job.stdout.readline() == "ready\n"
    for job in jobs:
        job.stdin.write("go\n")
        job.stdin.flush()
    assert [job.communicate()[0] for job in jobs] == ["done\n"] * 2
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


def together(rank: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", f"file://{folder}/ranks", rank=rank, world_size=2)
    torch.save(told_by(rank), f"{folder}/{rank}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def test_two_ranks_add_gather_share_and_average(tmp_path, monkeypatch):
    """The gradient of w x is x: 1 and 2, of mean 1.5; with another 10 and 20 before it, (11 + 22) / 2."""
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    spawn(together, (str(tmp_path),), nprocs=2)
    for rank in range(2):
        assert torch.load(tmp_path / f"{rank}.pt") == {
            "place": (rank, 2), "total": 3, "gather": ["of 0", "of 1"], "share": "of 0", "gradients": (1.5, 16.5),
        }  # fmt: skip


@needs_java
def test_java_scores_are_made_or_their_absence_is_explained():
    found = score({name: lines[0] for name, lines in REFERENCES.items()} | {"cat": ""}, REFERENCES)
    assert found.tokenizer == "ptb"
    assert found.comparability.startswith("as published")
    assert 50 < found.corpus["METEOR"] < 95
    assert ("SPICE" in found.corpus) != ("SPICE" in found.left_out)
