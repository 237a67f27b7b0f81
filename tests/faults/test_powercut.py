"""A power cut: what the disk has of a run at that moment is a run that can be resumed, from its newest checkpoint.

The disk is an ext4 image on a loop device. A copy of the image is what a power cut leaves: what the system still holds
in memory is not in it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from pipelines.files.jsonl import read_lines
from pipelines.training.run.folder import RunFolder

MEGABYTES = 64


@contextmanager
def mounted(image: Path, folder: Path):
    folder.mkdir()
    if subprocess.run(["mount", "-o", "loop", str(image), str(folder)], capture_output=True).returncode:
        pytest.skip("may not mount an image here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def image(tmp_path):
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("there is no mkfs.ext4")
    image = tmp_path / "image"
    image.touch()
    os.truncate(image, MEGABYTES << 20)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    return image


def save_epoch(run: RunFolder, epoch: int) -> None:
    content = os.urandom(1 << 20)
    model = {"model.safetensors": content, "model.json": b"{}"}
    run.epoch({"epoch": epoch, "val_loss": 1.0}, [{"caption": f"epoch {epoch}"}])
    state = {"state.safetensors": content, "position.json": json.dumps({"epoch": epoch}).encode()}
    run.save_checkpoint(epoch * 100, state, {"best": model, "last": model}, history=2)


@pytest.mark.parametrize("epochs", [1, 4])
def test_a_power_cut_costs_nothing_that_was_saved(tmp_path, image, epochs):
    cut = tmp_path / "cut"
    with mounted(image, tmp_path / "disk") as disk, closing(RunFolder(disk / "run")) as run:
        run.open("a: 1\n", {"data_id": "x"})
        for epoch in range(1, epochs + 1):
            save_epoch(run, epoch)
        expected = run.checkpoint()
        shutil.copy(image, cut)  # the power is cut
    with mounted(cut, tmp_path / "after") as disk, closing(RunFolder(disk / "run")) as run:
        info = run.open("a: 1\n", {"data_id": "y"})
        assert (info["data_id"], info["status"]) == ("x", "running")
        assert run.checkpoint() == expected
        assert run.take_news() == []  # no checkpoint is damaged
        for name in ("best", "last"):
            assert (run.out / name / "model.safetensors").read_bytes() == expected["state.safetensors"]
        assert len(run.history()) == min(epochs, 2)
        assert [line["epoch"] for line in run.epochs()] == list(range(1, epochs + 1))
        assert len(read_lines(run.out / "samples.jsonl")) == epochs
