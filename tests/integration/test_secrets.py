"""What a training with its store and its run in a bucket writes and prints, held to the secrets of its environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pyarrow import fs

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


def objects(uri: str) -> dict[str, bytes]:
    """What a bucket holds below ``uri``."""
    files = RemoteFolder.at(uri).files
    found = files.filesystem.get_file_info(fs.FileSelector(files.root, recursive=True))
    return {info.path: files.filesystem.open_input_stream(info.path).read() for info in found if info.is_file}


@pytest.mark.ray
def test_a_training_writes_and_prints_no_secret(bucket, tmp_path):
    uri, put = bucket
    world = make_world(tmp_path / "world")
    for path in (tmp_path / "world" / "store").rglob("*"):
        if path.is_file():
            put(f"world/{path.relative_to(tmp_path / 'world')}", path.read_bytes())
    words = ["train", "show_tell.small", *world, *TINY, f"data.store={uri}/world/store", "training.epochs=1"]
    words += ["cluster.workers=1", "cluster.cpus_per_worker=1", "--out", f"{uri}/runs/nightly"]
    words += ["--log-level", "debug"]
    run = tmp_path / "here"
    run.mkdir()
    left_out = ("RAY_ADDRESS", "MLFLOW_TRACKING_URI")
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    ended = subprocess.run(
        [sys.executable, "-m", "pipelines.cli.main", *words],
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
