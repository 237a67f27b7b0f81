"""A disk that is full, and one that cannot be written: each verb says so, breaks nothing and goes on when it may."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_train_kill import EPOCHS, ONE, check_equals_unbroken, epochs
from training_world import make_world
from writing import committed

from feature_store import StoreError
from pipelines import features, train
from pipelines.console import UserError
from pipelines.journal import Journal
from pipelines.units import Options

PHOTOS = 160


def compute(photos: Path, store: Path) -> dict:
    return features.run(
        str(photos), str(store), "torchvision/squeezenet1_0", "random", options=Options(rows_per_part=4)
    ).summary


@pytest.mark.ray
def test_features_on_a_full_disk(ray_cluster, make_photos, small_disk):
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


@pytest.mark.ray
def test_training_on_a_full_disk(ray_cluster, tmp_path, monkeypatch, small_disk):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder, _ = small_disk
    Path("run").symlink_to(folder / "run")
    (folder / "run").mkdir()
    world, overrides = make_world(tmp_path), (*ONE, f"training.epochs={EPOCHS}")

    def go_on(*more: str):
        return train.run("show_tell.small", [*world, *overrides, *more], out="run")

    go_on("training.epochs=2")
    with open(folder / "junk", "wb", buffering=0) as junk, pytest.raises(OSError):
        while True:
            junk.write(bytes(4096))
    with pytest.raises(UserError, match=r"the disk is full.*run the same command again"):
        go_on()
    assert epochs()[:2] == [1, 2]
    (folder / "junk").unlink()
    go_on()
    check_equals_unbroken(world, *overrides)


def test_a_folder_that_cannot_be_written(make_photos, small_disk):
    folder, remount = small_disk
    (folder / "run").mkdir()
    photos = make_photos(1)
    remount("ro")
    with pytest.raises(UserError, match=r"cannot be written.*[Rr]ead-only"):
        Journal(folder / "run").open("", {})
    with pytest.raises(StoreError, match=r"[Rr]ead-only"):
        compute(photos, folder / "store")
    remount("rw")
    Journal(folder / "run").open("", {})
