"""``rnncond submit`` against a real head, started as an operator starts one, with ports and a folder of its own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from functools import partial
from pathlib import Path

import psutil
import pyarrow as pa
import pytest

from feature_store import Store, failure_schema
from pipelines.cluster import jobs
from tests.worlds.command import rnncond

pytestmark = pytest.mark.ray
DEADLINE = 300
"""Seconds for whatever has to come about; nothing takes so long unless it fails."""
ATTEMPTS = 3
"""To start a head: Ray gives it a fixed time, which a busy machine may exceed."""


def wait_for(what: str, condition):
    deadline = time.monotonic() + DEADLINE
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} did not come about"
        time.sleep(0.2)
    return found


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.fixture(scope="module")
def head():
    """The address of the dashboard of a head of its own."""
    for _ in range(ATTEMPTS):
        folder = Path(tempfile.mkdtemp(prefix="rs"))  # a short name: sockets lie in it
        port = free_port()
        process = start_head(folder, port)
        try:
            wait_for("a head", partial(is_up_or_ended, process, folder, port))
            if process.poll() is None:
                yield f"http://127.0.0.1:{port}"
                return
            log = (folder / "log").read_text()
        finally:
            end(process)
            shutil.rmtree(folder, ignore_errors=True)
    pytest.fail(f"ray start has failed {ATTEMPTS} times; at last:\n{log}")


def start_head(folder: Path, port: int) -> subprocess.Popen:
    scripts = Path(sys.executable).parent
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"PATH": f"{scripts}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    environment["RAY_AUTH_MODE"] = "disabled"  # tokens belong to a process, and this one may have Ray's of other tests
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [scripts / "ray", "start", "--head", "--block", "--port=0", "--num-cpus=2", "--node-ip-address=127.0.0.1",
             "--include-dashboard=true", f"--dashboard-port={port}", f"--dashboard-agent-listen-port={free_port()}",
             f"--ray-client-server-port={free_port()}", "--min-worker-port=0", "--max-worker-port=0",
             "--object-store-memory=100000000", f"--temp-dir={folder}", "--disable-usage-stats"],
            env=environment, cwd=folder, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip


def is_up_or_ended(process: subprocess.Popen, folder: Path, port: int) -> bool:
    if process.poll() is not None:
        return True
    if "Ray runtime started" not in (folder / "log").read_text():  # on a busy machine it may yet give up
        return False
    try:
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/api/version", timeout=5).status == 200
    except OSError:
        return False


def end(process: subprocess.Popen) -> None:
    """The head, and only what it has started."""
    begun = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.terminate()
    process.wait(60)
    for left in begun:
        if left.is_running():
            left.kill()
    psutil.wait_procs(begun, timeout=60)


@pytest.fixture
def rnncond_submit(head, capsys, monkeypatch):
    """``rnncond submit ... --json`` at the head: exit code, what standard output has, and what standard error has."""
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # of another cluster: what is said counts

    def run(*words: str) -> tuple[int, dict, str]:
        acts = words[0] in ("status", "logs", "stop", "list")
        words = (*words, "--address", head, "--json") if acts else ("--address", head, "--json", *words)
        code = rnncond("submit", *words)
        shown = capsys.readouterr()
        return code, json.loads(shown.out), shown.err

    return run


def fill(root: Path) -> Path:
    schema = pa.schema([pa.field("image_id", pa.string(), nullable=False)])
    with Store(root).dataset("features", {"backbone": "drawn"}, schema).begin() as term:
        rows = pa.table([[f"{number:03d}" for number in range(7)]], schema=schema)
        term.handle.commit("part", rows, failure_schema().empty_table())
    return root


def test_a_verb_as_a_job_its_exit_codes_and_its_id(tmp_path, rnncond_submit):
    store = fill(tmp_path / "work" / "store")
    command = ("--id", "look", "--working-dir", str(tmp_path / "work"), "--", "store", "info", "store", "--json")
    code, found, shown = rnncond_submit(*command)
    assert code == found["exit_code"] == 0 and found["status"] == "SUCCEEDED"
    assert '"rows": 7' in shown, "the job read the store in its copy of the working folder"
    shutil.rmtree(store)
    code, found, again = rnncond_submit(*command)
    assert code == 0 and '"rows": 7' in again, "the same id was not run again, where it would have failed"

    code, found, shown = rnncond_submit("--", "store", "info", str(tmp_path / "nowhere"))
    assert code == found["exit_code"] == 2 and found["status"] == "FAILED"
    assert "error:" in shown and "Traceback" not in shown

    damaged = fill(tmp_path / "damaged")
    part = next(damaged.rglob("parts/*.parquet"))
    part.write_bytes(part.read_bytes()[:-1])
    code, found, shown = rnncond_submit("--id", "broken", "--no-follow", "--", "store", "verify", str(damaged))
    assert code == 0 and found["id"] == "broken"
    code, found, shown = rnncond_submit("logs", "broken", "--follow")
    assert code == found["exit_code"] == 3 and "damaged" in shown
    assert rnncond_submit("status", "broken")[:2] == (0, found)
    code, found, _ = rnncond_submit("list")
    assert found["jobs"] == 3 and found["look"] == "SUCCEEDED: rnncond store info store --json"
    assert rnncond_submit("status", "nobody")[0] == 2


def test_a_job_is_stopped(tmp_path, head, rnncond_submit):
    began = ("--id", "long", "--no-follow", "--env", "OMP_NUM_THREADS=1", "--", "demo", "--out", str(tmp_path / "demo"))
    assert rnncond_submit(*began)[0] == 0
    wait_for("the job", lambda: jobs.Server.at(head).details("long").status == "RUNNING")
    code, found, _ = rnncond_submit("stop", "long")
    assert code == 0 and found["status"] == "STOPPED"
    assert rnncond_submit("logs", "long", "--follow")[0] == 1
    assert rnncond_submit("stop", "long")[0] == 0, "there is nothing left to stop, and that is no mistake"


@pytest.mark.slow
def test_a_job_works_on_the_cluster_that_runs_it(tmp_path, head, make_photos, rnncond_submit):
    store = tmp_path / "store"
    code, found, shown = rnncond_submit(
        "--", "features", str(make_photos(4)), "--store", str(store), "--backbone", "torchvision/squeezenet1_0",
        "--weights", "random", "--outputs", "pooled", "--workers", "1",
    )  # fmt: skip
    assert code == 0, shown
    assert Store(store).open().snapshot().rows == 4
    details = jobs.Server.at(head).details(found["id"])
    assert details.job_id, "the verb joined the head: of a Ray of its own the head would know nothing"
