"""``rnncond caption`` killed with SIGKILL, first the driver and then a worker: every image gets its caption once."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import torch
from actors import await_actors

from feature_store import Snapshot, Store, fingerprint, verify
from pipelines import backbones
from rnncond import checkpoint, systems
from rnncond.text import Vocabulary

IMAGES = 160
BROKEN = "broken.jpg"
DEADLINE = 300


@pytest.mark.ray
def test_killed_driver_and_killed_worker(tmp_path, make_photos):
    photos, model, out = make_photos(IMAGES), tmp_path / "model", tmp_path / "out"
    (photos / BROKEN).write_bytes(b"no picture")
    make_model(model)

    driver = start(photos, model, out)
    await_parts(driver, out, random.randint(1, 8))
    kill_all(driver)
    first = committed(out)
    before = ids_of(first)
    assert 0 < len(before) <= IMAGES

    driver = start(photos, model, out)
    kill_a_worker(driver)
    printed, _ = driver.communicate(timeout=DEADLINE)
    assert driver.returncode == 3
    summary = json.loads(printed.splitlines()[-1])
    last = committed(out)
    assert ids_of(last) == {path.name for path in photos.iterdir()}
    assert last.failures()["image_id"].to_pylist() == [BROKEN]
    # What the killed run had committed still stands in its own files; this run computed the rest and nothing else.
    assert {part.file for part in first.parts} <= {part.file for part in last.parts}
    assert summary["computed"] == last.rows - first.rows
    assert summary["already_done"] == first.rows


def make_model(folder: Path) -> None:
    torch.manual_seed(0)
    recipe = backbones.load("timm/test_resnet", "random").recipe
    vocabulary = Vocabulary.train(["a b c d"])
    sizes = {"feature_size": recipe["outputs"]["pooled"][0], "embedding": 8, "hidden": 8}
    model = systems.build("show_tell", {"vocab_size": len(vocabulary), **sizes})
    features = {"fingerprint": fingerprint(recipe), "recipe": recipe, "output": "pooled"}
    checkpoint.save(checkpoint.Trained("show_tell", model, vocabulary, None, features), folder)


def start(photos: Path, model: Path, out: Path) -> subprocess.Popen:
    arguments = ["caption", str(photos), "--model", str(model), "--out", str(out), "--rows-per-part", "4", "--json"]
    environment = {**os.environ, "RAY_ADDRESS": "local", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli", *arguments], env=environment, stdout=subprocess.PIPE, text=True
    )


def await_parts(driver: subprocess.Popen, out: Path, count: int) -> None:
    """Until the ledger has ``count`` entries in all, and a moment longer."""
    deadline = time.monotonic() + DEADLINE
    while len(list(out.glob("sets/*/ledger/*/*-*.json"))) < count:
        assert driver.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(random.uniform(0, 0.2))


def kill_all(driver: subprocess.Popen) -> None:
    """The driver, and whatever of its Ray outlives it."""
    family = psutil.Process(driver.pid).children(recursive=True)
    driver.kill()
    assert driver.wait(60) == -signal.SIGKILL
    _, alive = psutil.wait_procs(family, timeout=15)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def kill_a_worker(driver: subprocess.Popen) -> None:
    await_actors(driver, lambda: psutil.Process(driver.pid).children(recursive=True))[0].kill()


def committed(out: Path) -> Snapshot:
    dataset = Store(out).open(kind="captions")
    assert verify(dataset).problems == []
    return dataset.snapshot()


def ids_of(snapshot: Snapshot) -> set[str]:
    ids = snapshot.ids().to_pylist()
    assert len(set(ids)) == len(ids)
    return set(ids)
