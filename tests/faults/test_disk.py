"""A disk that is full, and one that cannot be written: each verb says so, breaks nothing and goes on when it may."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

import pytest

from feature_store import StoreError
from pipelines.engine.driver import Options
from pipelines.errors import UserError, user_message
from pipelines.features import backbones
from pipelines.training.run.folder import RunFolder
from pipelines.verbs import features, train
from tests.faults.test_train_kill import ENDLESS, ONE, epochs, mlflow_runs
from tests.worlds.nodes import await_
from tests.worlds.training import make_world
from tests.worlds.writing import committed

PHOTOS = 40  # 7 MB of features


def compute(photos: Path, store: Path) -> dict:
    return features.run(
        str(photos), str(store), "torchvision/squeezenet1_0", "random", options=Options(workers=1, rows_per_part=4)
    ).summary


def test_features_on_a_full_disk(without_ray, make_photos, small_disk):
    folder, remount = small_disk
    photos, store = make_photos(PHOTOS), folder / "store"
    with pytest.raises(StoreError, match=r"the disk is full.*run the same command again"):
        compute(photos, store)
    kept = committed(store)
    assert kept.rows

    remount("size=200M")
    assert compute(photos, store)["already_done"] == kept.rows
    now = committed(store)
    assert {part.file for part in kept.parts} <= {part.file for part in now.parts}
    assert set(now.ids(include_failures=False).to_pylist()) == {path.name for path in photos.iterdir()}


def test_weights_on_a_full_disk(small_disk):
    folder, _ = small_disk
    network = backbones.load("torchvision/mobilenet_v3_small", "random")  # 4 MB
    with pytest.raises(OSError, match="No space left") as raised:
        network.save(folder / "weights.safetensors")
    assert "No space left" in user_message(raised.value)
    assert not list(folder.iterdir())


@pytest.mark.slow  # test_run_folder fills the disk every day, and test_train has a worker that gives up
@pytest.mark.ray
def test_training_on_a_disk_that_becomes_full(ray_cluster, tmp_path, monkeypatch, small_disk):
    """Only one of the two workers finds it out."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder, _ = small_disk
    (folder / "run").mkdir()
    Path("run").symlink_to(folder / "run")
    overrides = [*make_world(tmp_path), *ONE, "cluster.workers=2", "cluster.cpus_per_worker=0.5"]
    filler = threading.Thread(target=fill_later, args=[folder / "junk"])
    filler.start()
    with pytest.raises(UserError, match=r"the disk is full.*run the same command again"):
        train.run("show_tell.small", [*overrides, ENDLESS], out="run")
    filler.join()
    done = len(epochs())
    assert done >= 3
    (folder / "junk").unlink()
    train.run("show_tell.small", [*overrides, f"training.epochs={done + 1}"], out="run")
    every = list(range(1, done + 2))
    assert epochs() == every
    assert mlflow_runs() == [("FINISHED", every)]


def fill_later(junk: Path) -> None:
    await_(lambda: len(epochs()) >= 3)
    with open(junk, "wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


def test_a_folder_that_cannot_be_written(make_photos, small_disk):
    folder, remount = small_disk
    (folder / "run").mkdir()
    photos = make_photos(1)
    remount("ro")
    with pytest.raises(UserError, match=r"cannot be written.*[Rr]ead-only"):
        RunFolder(folder / "run").open("", {})
    with pytest.raises(StoreError, match=r"[Rr]ead-only"):
        compute(photos, folder / "store")
    remount("rw")
    RunFolder(folder / "run").open("", {})
