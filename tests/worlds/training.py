"""A world small enough to train on in a test: discs of four colours, in a store and with captions."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from feature_store import Store, feature_schema, from_arrays, from_numpy
from pipelines.config.recipe import Recipe, read_recipe
from pipelines.files.jsonl import read_lines
from pipelines.training.data.task import prepare
from pipelines.training.learner import Learner
from pipelines.training.run.folder import RunFolder
from rnncond.checkpoint import load

COLOURS = ("red", "green", "blue", "black")
PER_PART = 5
"""Images of a part, which is one row group."""


def features_of(index: int) -> tuple[np.ndarray, np.ndarray]:
    """Pooled (6,) and grid (2, 1, 6) features of image ``index``: its colour, its index, and something constant."""
    pooled = np.zeros(6)
    pooled[index % 4], pooled[4], pooled[5] = 1, index, 1
    return pooled, np.stack([pooled, 2 * pooled])[:, None]


def captions_of(index: int) -> list[str]:
    """One to three captions of image ``index``."""
    colour = COLOURS[index % 4]
    return [f"a {colour} disc", f"one disc that is {colour}", f"{colour}"][: 1 + index % 3]


def regions_of(index: int) -> np.ndarray:
    """One to three regions (L, 6) of image ``index``: its pooled features, once, twice and three times."""
    return np.stack([n * features_of(index)[0] for n in range(1, 2 + index % 3)]).astype(np.float16)


def region_columns(indices: range) -> dict[str, pa.Array]:
    regions = [regions_of(index) for index in indices]
    return {
        "regions": from_arrays(regions),
        "boxes": from_arrays([np.tile(np.float32([0, 0, 1, 1]), (len(one), 1)) for one in regions]),
        "scores": from_arrays([np.ones(len(one), np.float32) for one in regions]),
        "classes": from_arrays([np.ones(len(one), np.int32) for one in regions]),
    }


def make_world(folder: Path, images: int = 24, validation: int = 6, regions: bool = False) -> list[str]:
    """A store and captions of ``images``, the last ``validation`` of them to validate on; overrides for a recipe."""
    ids = [f"image{index:03d}" for index in range(images)]
    pooled, grid = map(np.stack, zip(*(features_of(index) for index in range(images)), strict=True))
    outputs = ["pooled", "grid", "regions"][: 2 + regions]
    schema = feature_schema(outputs, {"pooled": pooled.shape[1:], "grid": grid.shape[1:], "regions": (6,)})
    recipe = {"backbone": "drawn", "outputs": outputs}
    dataset = Store(folder / "store").dataset("features", recipe, schema)
    with dataset.begin() as term:
        for start in range(0, images, PER_PART):
            part = slice(start, start + PER_PART)
            size = len(ids[part])
            columns = {
                "image_id": ids[part],
                "uri": ids[part],
                "version": [""] * size,
                "width": pa.array([1] * size, pa.int32()),
                "height": pa.array([1] * size, pa.int32()),
                "pooled": from_numpy(pooled[part].astype(np.float16)),
                "grid": from_numpy(grid[part].astype(np.float16)),
            }
            if regions:
                columns |= region_columns(range(start, start + size))
            term.handle.commit(term.handle.part_name(ids[part]), pa.table(columns, schema=schema))
    with open(folder / "captions.jsonl", "w") as file:
        for index, image_id in enumerate(ids):
            split = "val" if index >= images - validation else "train"
            line = {"image_id": image_id, "file": f"{image_id}.jpg", "split": split, "captions": captions_of(index)}
            file.write(json.dumps(line) + "\n")
    return [f"data.store={folder / 'store'}", f"data.captions={folder / 'captions.jsonl'}"]


TINY = (
    "text.min_count=1",
    "model.embedding=8",
    "model.hidden=8",
    "training.images_per_batch=4",
    "training.captions_per_image=2",
    "training.epochs=3",
    "training.learning_rate=0.01",
    "training.samples=2",
    "training.early_stopping.patience=null",
)


def tiny_recipe(world: list[str], out: Path, *overrides: str, recipe: str = "show_tell.small") -> Recipe:
    return read_recipe(recipe, [*world, *TINY, *overrides], str(out))


class Killed(Exception):
    pass


class Deadly:
    """Of a sink: its learner dies when it has handed in ``lives`` checkpoints."""

    lives = math.inf

    def save_checkpoint(self, *args, **kwargs):
        super().save_checkpoint(*args, **kwargs)
        self.lives -= 1
        if self.lives == 0:
            raise Killed


class Mortal(Deadly, RunFolder):
    """A run folder whose learner dies."""


def learner(world: list[str], out: Path, *overrides: str, recipe: str = "show_tell.small") -> Learner:
    return learner_of(tiny_recipe(world, out, *overrides, recipe=recipe))


def learner_of(recipe: Recipe) -> Learner:
    """A learner outside Ray, whose desk is a ``Mortal`` journal."""
    journal = Mortal(recipe.out)
    journal.open(recipe.to_yaml(), {})
    return Learner(prepare(recipe)[0], journal)


def without_clock(lines):
    return [{key: value for key, value in line.items() if "second" not in key} for line in lines]


def resumed_equals_unbroken(
    make: Callable[[Path], Learner], folder: Path, lives: Iterable[int], names: tuple[str, ...] = ("best", "last")
) -> tuple[Learner, list[dict[str, Any]]]:
    """Hold runs that die when they have kept so many checkpoints, and are resumed, to the unbroken one, bit for bit.

    Args:
        make: a ``learner_of`` the same recipe, but for its folder.
        lives: of each broken run the checkpoints that it keeps.

    Returns:
        The unbroken learner, and its epochs.
    """
    whole = make(folder / "whole")
    whole.run()
    for count in lives:
        run = folder / f"broken after {count}"
        broken = make(run)
        broken.sink.lives = count
        with pytest.raises(Killed):
            broken.run()
        broken.sink.close()
        resumed = make(run)
        assert resumed.train_state.steps > 0
        resumed.run()
        assert resumed.sink.checkpoint()["state.safetensors"] == whole.sink.checkpoint()["state.safetensors"]
        for name in ("samples.jsonl", "metrics.jsonl"):
            lines, expected = (read_lines(root / name) for root in (run, folder / "whole"))
            assert without_clock(lines) == without_clock(expected)
        for name in names:
            assert load(run / name).model_id == load(folder / "whole" / name).model_id
    return whole, expected
