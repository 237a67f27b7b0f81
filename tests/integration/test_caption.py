"""Captions of images and of stored features: the same, each image once, and a clear word where it cannot be done."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from feature_store import Store, feature_schema, fingerprint
from pipelines.engine import driver
from pipelines.errors import UserError
from pipelines.features import backbones, sources
from pipelines.inference.captioner import Captioner
from pipelines.verbs import caption, features
from rnncond import checkpoint
from rnncond.search import SearchOptions
from tests.worlds.captioner import WORDS, model_reading

BACKBONE = "timm/test_resnet"
ONE = driver.Options(workers=1)


@pytest.fixture(scope="module")
def network():
    return backbones.load(BACKBONE, "random")


@pytest.fixture
def model(tmp_path, network):
    """A function that makes a model folder: ``model(system, output)``."""

    def make(system: str = "show_attend_tell", output: str = "grid", **search) -> str:
        model_reading(tmp_path / system, system, output, network.recipe, **search)
        return str(tmp_path / system)

    return make


def rows_of(out) -> dict[str, dict]:
    snapshot = Store(out).open(kind="captions").snapshot()
    rows = [row for batch in snapshot.scan() for row in batch.to_pylist()]
    assert len({row["image_id"] for row in rows}) == len(rows) == snapshot.rows
    return {row["image_id"]: row for row in rows}


def failures_of(out) -> dict[str, dict]:
    return {row["image_id"]: row for row in Store(out).open(kind="captions").snapshot().failures().to_pylist()}


def test_captions_of_images_are_those_of_their_features(without_ray, tmp_path, make_photos, model):
    """Which are kept on the way, but for those that were there; and then they need no picture."""
    photos, folder, store = make_photos(40), model(), str(tmp_path / "store")
    (photos / "broken.jpg").write_bytes(b"\xff\xd8 nothing")
    (photos / "notes.txt").write_text("no picture")
    features.run(str(photos / "00007.jpg"), store, BACKBONE, "random", options=ONE)
    asked = {"beam": 3, "nbest": 2, "attention": True, "options": ONE}
    seen = caption.run(folder, str(tmp_path / "seen"), str(photos), weights="random", keep_features=store, **asked)
    read = caption.run(folder, str(tmp_path / "read"), store=store, **asked)
    again = features.run(str(photos), store, BACKBONE, "random", options=ONE)

    assert (read.failed, read.summary["images"], read.summary["images without features"]) == (0, 40, 1)
    assert (seen.failed, seen.summary["images"], seen.summary["other files ignored"]) == (1, 41, 1)
    assert (seen.summary["features added"], again.summary["already_done"], again.summary["computed"]) == (39, 40, 0)
    assert list(failures_of(tmp_path / "seen")) == ["broken.jpg"]
    assert "broken.jpg: decode: " in seen.failures[0]
    assert seen.summary["set"] == read.summary["set"]
    about = Store(tmp_path / "read").open(kind="captions").about
    assert json.loads(about["models"]) == [folder] and len(json.loads(about["trained_on"])) == 1
    one, other = rows_of(tmp_path / "read"), rows_of(tmp_path / "seen")
    assert set(one) == set(other) == {path.name for path in photos.glob("0*.jpg")}
    for image_id, row in one.items():
        assert row["caption"] == other[image_id]["caption"]
        assert row["score"] == pytest.approx(other[image_id]["score"], abs=1e-4)
        assert row["uri"] == str(photos / image_id) and row["version"] == other[image_id]["version"]
    assert len({round(row["score"], 2) for row in one.values()}) > 10

    trained = checkpoint.load(folder)
    for row in one.values():
        assert [len(row["nbest"]), row["nbest"][0]["caption"]] == [2, row["caption"]]
        assert row["nbest"][0]["score"] == row["score"] >= row["nbest"][1]["score"]
        assert row["model"] == trained.model_id
        assert "".join(row["pieces"]) == row["caption"]
        assert set(row["caption"].split()) <= set(WORDS.split())
        weights = np.array(row["attention"], np.float32)
        assert weights.shape == (len(row["pieces"]), 25)
        np.testing.assert_allclose(weights.sum(1), 1, atol=2e-3)
    recipe = Store(tmp_path / "read").open(kind="captions").recipe
    assert (recipe["places"], recipe["search"]["beam"], recipe["search"]["max_length"]) == ([5, 5], 3, 8)


def test_running_again_captions_what_is_new_and_nothing_else(without_ray, tmp_path, make_photos, model):
    photos, folder, out = make_photos(20), model("show_tell", "pooled"), str(tmp_path / "out")
    (photos / "broken.jpg").write_bytes(b"")
    first = caption.run(folder, out, str(photos), options=ONE)
    assert (first.summary["computed"], first.failed) == (20, 1)
    (photos / "00000.jpg").rename(photos / "new.jpg")
    second = caption.run(folder, out, str(photos), options=ONE)
    assert (second.summary["already_done"], second.summary["computed"], second.failed) == (19, 1, 1)
    assert "--retry-failed" in second.hint
    (photos / "new.jpg").rename(photos / "broken.jpg")
    third = caption.run(folder, out, str(photos), options=replace(ONE, retry_failed=True))
    assert (third.summary["computed"], third.failed) == (1, 0)
    assert set(rows_of(out)) == {path.name for path in photos.iterdir()} | {"00000.jpg", "new.jpg"}


def test_another_search_or_model_makes_another_set(tmp_path, network):
    prints = set()
    for system, output in (("show_tell", "pooled"), ("show_attend_tell", "grid")):
        trained = model_reading(tmp_path / system, system, output, network.recipe)
        for beam in (1, 2):
            captioner = Captioner([trained], SearchOptions(beam=beam))
            prints.add(fingerprint(caption.recipe_of(captioner, network.shapes[output])))
    assert len(prints) == 4


def test_a_worker_is_refused_what_the_cluster_has_not(without_ray, tmp_path, make_photos, model):
    with pytest.raises(UserError, match="workers: 9 asked for"):
        caption.run(model(), str(tmp_path / "out"), str(make_photos(2)), options=driver.Options(workers=9))


def test_where_the_rules_leave_nothing_to_say_it_is_a_failure(network, tmp_path):
    trained = model_reading(tmp_path, "show_tell", "pooled", network.recipe)
    options = SearchOptions(max_length=30, min_length=20, no_repeat_ngram=1)
    assert Captioner([trained], options)(np.zeros((2, *network.shapes["pooled"]), np.float16)) == [None, None]


def test_features_of_another_recipe_are_refused(tmp_path, network, model):
    other = network.recipe | {"weights": "0" * 64, "preprocessing": network.recipe["preprocessing"] | {"crop": [8, 8]}}
    schema = feature_schema(network.outputs, network.shapes)
    dataset = Store(tmp_path / "store").dataset("features", other, schema)
    with dataset.begin():
        pass
    with pytest.raises(UserError) as refused:
        caption.run(model(), str(tmp_path / "out"), store=str(tmp_path / "store"))
    message = str(refused.value)
    assert fingerprint(network.recipe) in message and dataset.fingerprint in message
    assert "weights is 0000000000000000..., expected " + network.recipe["weights"][:16] in message
    assert "preprocessing.crop is [8, 8], expected [160, 160]" in message
    assert not (tmp_path / "out").exists()


def test_the_backbone_comes_back_from_random_numbers_or_a_file_and_no_other_weights_do(network, tmp_path):
    described = {"fingerprint": fingerprint(network.recipe), "recipe": network.recipe, "output": "grid"}
    assert sources.rebuild(described, None).recipe == network.recipe
    weights = network.trunk.network.state_dict()
    torch.save(weights, tmp_path / "weights.pth")
    assert sources.rebuild(described, str(tmp_path / "weights.pth")).recipe == network.recipe
    others = {name: value + 1 if value.is_floating_point() else value for name, value in weights.items()}
    torch.save(others, tmp_path / "others.pth")
    expected = f"features {described['fingerprint']}.*weights is .*expected {network.recipe['weights'][:16]}"
    with pytest.raises(UserError, match=expected):
        sources.rebuild(described, str(tmp_path / "others.pth"))


def test_a_model_whose_weights_cannot_be_had_asks_for_them(network, monkeypatch):
    def no_network(name, fetch):
        raise UserError("no network")

    monkeypatch.setattr(backbones, "download", no_network)
    recipe = network.recipe | {"weights": "f" * 64}
    with pytest.raises(UserError, match=r"weights ffffffffffffffff\.\.\.; say where they are: --weights FILE"):
        sources.rebuild({"fingerprint": fingerprint(recipe), "recipe": recipe, "output": "grid"}, None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either IMAGES, or --store"),
        ({"images": "photos", "store": "store"}, "either IMAGES, or --store"),
        ({"store": "store", "weights": "random"}, "--weights is of the backbone"),
        ({"images": "nowhere"}, "there is no file or folder nowhere"),
        ({"store": "nowhere"}, "there is no store at"),
        ({"images": "photos", "beam": 2, "nbest": 3}, "nbest is 3, more than beam 2"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_before_anything_is_done(
    arguments, message, tmp_path, make_photos, model, monkeypatch
):
    make_photos(1)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Exception, match=message) as refused:
        caption.run(model(), "out", **arguments)
    assert type(refused.value).__name__ in ("UserError", "StoreError")
    assert not Path("out").exists()
