"""Features read from a store, part by part."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from feature_store import Snapshot, Store, feature_schema, from_numpy
from pipelines.engine.failures import Failures
from pipelines.engine.resume import with_tries
from pipelines.errors import UserError
from pipelines.features import backbones, sources
from pipelines.features.featurizer import dataset_of
from pipelines.features.sources import FromStore
from tests.worlds.captioner import BACKBONE, weights_file

PARTS, ROWS = 6, 20


def test_each_part_is_opened_once_for_its_rows_in_whatever_order_ids_are(tmp_path, monkeypatch):
    dataset = Store(tmp_path).dataset("features", {}, feature_schema(["pooled"], {"pooled": (1,)}))
    ids = np.random.default_rng(0).permutation([f"{number:03d}" for number in range(PARTS * ROWS)]).reshape(PARTS, ROWS)
    with dataset.begin() as term:
        for own in ids.tolist():
            values = from_numpy(np.array(own, int).astype(np.float16)[:, None])
            same = [[None] * ROWS] * 3
            rows = pa.Table.from_arrays(
                [pa.array(own), pa.array(own), *map(pa.array, same), values], dataset.schema.names
            )
            rows = rows.cast(dataset.schema)
            term.handle.commit(term.handle.part_name(own), rows)

    source = FromStore(dataset.snapshot(), "pooled")
    unit = with_tries(pa.concat_tables(source.chunks()))
    opened, open_ = [], Snapshot._open
    monkeypatch.setattr(Snapshot, "_open", lambda self, part: opened.append(part.name) or open_(self, part))
    monkeypatch.setattr(sources, "READ_ROWS", ROWS)
    found = {
        image.image_id: value.item()
        for images, values, _ in source(unit, Failures())
        for image, value in zip(images, values, strict=True)
    }
    assert found == {f"{number:03d}": number for number in range(PARTS * ROWS)}
    assert sorted(opened) == sorted(part.name for part in source.snapshot.parts)


def test_features_of_another_backbone_are_told_by_its_whole_name():
    there = {"backbone": "timm/tf_efficientnet_lite2", "weights": "0847c30eb0efca52" * 4, "outputs": {"grid": [9, 9]}}
    wanted = {"backbone": "timm/tf_efficientnet_lite0", "weights": "20fee2f1366bb2f5" * 4, "outputs": {"grid": [7, 7]}}
    assert sources.differences(there, wanted) == [
        "backbone is timm/tf_efficientnet_lite2, expected timm/tf_efficientnet_lite0",
        "outputs.grid is [9, 9], expected [7, 7]",
        "weights is 0847c30eb0efca52..., expected 20fee2f1366bb2f5...",
    ]


def test_weights_of_a_file_are_asked_for_by_name_and_not_looked_for_elsewhere(tmp_path, monkeypatch):
    """The features were made with a file: what the network's makers offer is another one, and takes long to load."""
    weights = str(weights_file(tmp_path))
    network = backbones.load(BACKBONE, weights, ("pooled",))
    dataset = dataset_of(network, str(tmp_path / "store"))
    with dataset.begin():
        pass
    kept = Store(tmp_path / "store").open(kind="features")
    assert kept.about == {"weights": "own.pth"} and kept.fingerprint == dataset.fingerprint
    features = {"fingerprint": kept.fingerprint, "recipe": kept.recipe, "output": "pooled", **kept.about}
    monkeypatch.setattr(backbones, "download", lambda *_: pytest.fail("nothing is to be downloaded"))
    with pytest.raises(UserError, match=r"weights file own.pth .*say where it is: --weights FILE"):
        sources.rebuild(features, None)
    assert sources.rebuild(features, weights).recipe == kept.recipe


def test_weights_that_came_by_name_come_by_name_again(monkeypatch):
    network = backbones.load(BACKBONE, "random", ("pooled",))
    asked = []
    monkeypatch.setattr(sources, "build", lambda recipe, weights: asked.append(weights) or network)
    for made_with in ("pretrained", "random"):
        features = {"fingerprint": "x", "recipe": network.recipe, "output": "pooled", "weights": made_with}
        assert sources.rebuild(features, None) is network
    assert asked == ["pretrained", "random"]


def test_a_size_of_its_own_is_that_of_new_pictures_too():
    recipe = backbones.load(BACKBONE, "random", ("grid",), size=288).recipe
    assert sources.build(recipe, "random").recipe == recipe
