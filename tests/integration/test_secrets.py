"""A training with its store and its run in a bucket, in a folder of a user's: no secret of its environment gets into
what it writes and prints, and none of the folder's modules into its processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pyarrow import fs

import pipelines
from pipelines.files.remote_folder import RemoteFolder
from tests.worlds.training import TINY, make_world

SECRETS = {
    "AWS_ACCESS_KEY_ID": "planted-access-key",
    "AWS_SECRET_ACCESS_KEY": "planted-secret-key",
    "AWS_SESSION_TOKEN": "planted-session-token",
    "MLFLOW_TRACKING_PASSWORD": "planted-password",
    "MLFLOW_TRACKING_TOKEN": "planted-token",
    "HF_TOKEN": "planted-hub-token",
    "RAY_AUTH_TOKEN": "planted-ray-token",
}


SHADOWS = ("caption", "features", "train", "torch", "feature_store", "pyarrow", "ray")


def objects(uri: str) -> dict[str, bytes]:
    """What a bucket holds below ``uri``."""
    files = RemoteFolder.at(uri).files
    found = files.filesystem.get_file_info(fs.FileSelector(files.root, recursive=True))
    return {info.path: files.filesystem.open_input_stream(info.path).read() for info in found if info.is_file}


@pytest.mark.slow  # tracking/test_mlflow_run has a quick one, of the run's folder and MLflow
@pytest.mark.ray
def test_a_training_writes_and_prints_no_secret_and_imports_nothing_of_the_current_folder(bucket, tmp_path):
    """A command is given where somebody keeps scripts of their own; Ray would put that folder first on its workers'
    path. Ray starts here, in a process of its own."""
    uri, put = bucket
    world = make_world(tmp_path / "world")
    for path in (tmp_path / "world" / "store").rglob("*"):
        if path.is_file():
            put(f"world/{path.relative_to(tmp_path / 'world')}", path.read_bytes())
    words = ["train", "show_tell.small", *world, *TINY, f"data.store={uri}/world/store", "training.epochs=1"]
    words += ["cluster.workers=1", "cluster.cpus_per_worker=1", "--out", f"{uri}/runs/nightly"]
    words += ["--log-level", "debug"]
    run = tmp_path / "here"
    (run / "pipelines" / "engine").mkdir(parents=True)
    for name in ("pipelines/__init__", "pipelines/features", "pipelines/engine/__init__", *SHADOWS):
        (run / f"{name}.py").write_text("raise SystemExit('somebody else was imported')\n")
    source = str(Path(pipelines.__file__).parents[1])
    command = "import sys; sys.path[:0] = [sys.argv.pop(1)]; from pipelines.cli.main import main; main()"
    left_out = ("RAY_ADDRESS", "MLFLOW_TRACKING_URI", "PYTHONPATH")
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    ended = subprocess.run(
        [sys.executable, "-P", "-c", command, source, *words],
        env=environment | SECRETS,
        cwd=run, text=True, capture_output=True,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-3000:]
    written = {str(path): path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert "mlflow.db" in {Path(name).name for name in written}
    written |= objects(f"{uri}/runs/nightly")
    assert {"folder.json", "model.json", "state.safetensors"} <= {Path(name).name for name in written}
    written |= {"standard output": ended.stdout.encode(), "standard error": ended.stderr.encode()}
    leaks = [(name, key) for name, content in written.items() for key in SECRETS.values() if key.encode() in content]
    assert leaks == []
