"""A small store of features and an untrained model that describes them, for the tests of what comes after training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import timm
import torch
from PIL import Image

from feature_store import Store, feature_schema, fingerprint, from_numpy
from rnncond import checkpoint, systems
from rnncond.text import Vocabulary

CAPTIONS = {
    "a.png": ["a red dog runs", "the dog is red"],
    "b.png": ["a blue cat sleeps", "one cat , sleeping"],
    "c.png": ["two birds fly", "birds in the sky"],
    "d.png": ["a man reads", "the man has a book"],
}
PREPROCESSING = {
    "crop": [20, 20], "resize": [24, 24], "interpolation": "bilinear", "mean": [0, 0, 0], "std": [1, 1, 1],
    "fit": "shorter",
}  # fmt: skip
RECIPE = {"backbone": "test/none", "preprocessing": PREPROCESSING}
ROWS, COLUMNS, SIZE = 2, 3, 4
WORDS = "a b c d e f g h"
BACKBONE = "timm/test_resnet"


def make_pictures(folder: Path) -> None:
    folder.mkdir()
    for number, name in enumerate(CAPTIONS):
        Image.new("RGB", (48, 24), (60 * number, 80, 120)).save(folder / name)


def make_captions(path: Path, without: str | None = None) -> Path:
    lines = [
        {"image_id": name[0], "file": f"images/{name}", "split": "val", "captions": said}
        for name, said in CAPTIONS.items()
        if name != without
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def make_store(root: Path, images: Path, without: str | None = None) -> str:
    """Returns the set's fingerprint."""
    names = [name for name in CAPTIONS if name != without]
    grids = np.random.default_rng(0).normal(size=(len(names), ROWS, COLUMNS, SIZE)).astype(np.float16)
    schema = feature_schema(["pooled", "grid"], {"pooled": (SIZE,), "grid": (ROWS, COLUMNS, SIZE)})
    count = len(names)
    columns = [
        pa.array(names), pa.array([str(images / name) for name in names]), pa.array(["1"] * count),
        pa.array([48] * count, pa.int32()), pa.array([24] * count, pa.int32()),
        from_numpy(grids.mean((1, 2))), from_numpy(grids),
    ]  # fmt: skip
    dataset = Store(root).dataset("features", RECIPE, schema)
    with dataset.begin() as term:
        handle = term.handle
        handle.commit(handle.part_name(names), pa.Table.from_arrays(columns, schema=schema))
    return dataset.fingerprint


def make_model(folder: Path, of: str, system: str = "show_attend_tell", **data: str) -> checkpoint.Trained:
    vocabulary = Vocabulary.train([caption for said in CAPTIONS.values() for caption in said])
    torch.manual_seed(0)
    sizes = {"embedding": 8, "hidden": 8} | ({"attention": 8} if system == "show_attend_tell" else {})
    model = systems.build(system, {"vocab_size": len(vocabulary), "feature_size": SIZE, **sizes})
    features = {"fingerprint": of, "recipe": RECIPE, "output": "grid" if "grid" in model.takes else "pooled"}
    info = {"recipe": {"data": data, "search": {"max_length": 6, "blocked": [3]}}}
    trained = checkpoint.Trained(system, model.eval(), vocabulary, None, features, info)
    checkpoint.save(trained, folder)
    return trained


def model_reading(folder: Path, system: str, output: str, recipe: dict, **search) -> checkpoint.Trained:
    """An untrained model of the features of ``recipe``, to which small differences between features matter."""
    torch.manual_seed(0)
    vocabulary = Vocabulary.train([WORDS])
    shape = recipe["outputs"][output]
    sizes = {"embedding": 16, "hidden": 16} | ({"attention": 16} if system == "show_attend_tell" else {})
    model = systems.build(system, {"vocab_size": len(vocabulary), "feature_size": shape[-1], **sizes})
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Linear) and module.in_features == shape[-1]:
                module.weight.mul_(30)
    described = {"fingerprint": fingerprint(recipe), "recipe": recipe, "output": output}
    info = {"recipe": {"search": {"max_length": 8, **search}}}
    trained = checkpoint.Trained(system, model.eval(), vocabulary, None, described, info)
    checkpoint.save(trained, folder)
    return trained


def weights_file(folder: Path) -> Path:
    """A pickled file of weights for ``BACKBONE`` that are neither the random ones nor anybody's."""
    torch.manual_seed(7)
    torch.save(timm.create_model(BACKBONE.removeprefix("timm/")).state_dict(), folder / "own.pth")
    return folder / "own.pth"
