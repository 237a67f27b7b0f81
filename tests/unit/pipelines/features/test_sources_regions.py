"""Regions, of which each image has its own number, from the store through training and captioning to the report."""

import base64
import io
import json
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from feature_store import from_arrays, to_arrays
from pipelines.cluster.resources import Plan
from pipelines.engine.failures import Failures
from pipelines.errors import UserError
from pipelines.evaluation.caption_results import caption_images
from pipelines.features.columns import pad_regions
from pipelines.features.sources import FromStore
from pipelines.inference.captioner import Captioner
from pipelines.reporting.gallery import Attention, Card
from pipelines.training.data import feature_batches as module
from pipelines.training.data.feature_batches import Batches
from pipelines.training.data.task import prepare
from pipelines.verbs import caption
from rnncond import checkpoint, systems
from rnncond.search import SearchOptions
from rnncond.text import Vocabulary
from tests.worlds.training import learner, make_world, regions_of, tiny_recipe

IMAGES = 30
TOP_DOWN = ("data.output=regions", "model.attention=8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("regions")


@pytest.fixture(scope="module")
def world(folder):
    return make_world(folder, IMAGES, 6, regions=True)


@pytest.fixture(scope="module")
def task(folder, world):
    return prepare(tiny_recipe(world, folder / "run", *TOP_DOWN, recipe="top_down.small"))[0]


def test_lists_of_arrays_and_columns():
    arrays = [np.full((n, 3), n, np.float16) for n in (2, 1, 4)]
    column = from_arrays(arrays)
    for found, expected in zip(to_arrays(column[1:]), arrays[1:], strict=True):
        np.testing.assert_array_equal(found, expected)
    assert [len(one) for one in to_arrays(column)] == [2, 1, 4]
    assert to_arrays(column[:0]) == []


def test_padding_is_masked():
    source = pad_regions([np.ones((2, 3), np.float16), np.full((1, 3), 2, np.float16)])
    assert source.values.tolist() == [[[1] * 3] * 2, [[2] * 3, [0] * 3]]
    assert source.mask.tolist() == [[True, True], [True, False]]


@pytest.mark.parametrize("memory", [0, 1e9])
def test_batches_have_each_images_own_regions(task, memory, monkeypatch):
    monkeypatch.setattr(module, "WINDOW_BYTES", 200)
    seen = Counter()
    for rank in range(2):
        batches = Batches(task.snapshot, task.train, "regions", 4, 2, 1, rank, 2, memory)
        for batch in batches.epoch(1):
            lengths = batch.source.mask.sum(1).tolist()
            assert batch.source.values.shape == (len(batch.examples), max(lengths), 6)
            for image, values, length in zip(batch.examples, batch.source.values, lengths, strict=True):
                index = int(task.train.image_ids[image].removeprefix("image"))
                assert values[:length].tolist() == regions_of(index).tolist()
                assert not values[length:].any()
                seen[index] += 1
    assert set(seen) == set(range(IMAGES - 6))


def test_statistics_are_of_real_regions_only(task):
    everything = np.concatenate([regions_of(index) for index in range(IMAGES - 6)]).astype(np.float64)
    mean, deviation = Batches(task.snapshot, task.train, "regions", 4).statistics()
    np.testing.assert_allclose(mean, everything.mean(0), rtol=1e-5)
    np.testing.assert_allclose(deviation, everything.std(0), rtol=1e-4, atol=1e-5)


def test_a_rank_without_images_keeps_step(task):
    ranks = IMAGES
    idle = [next(Batches(task.snapshot, task.train, "regions", 4, 3, 1, r, ranks).epoch(1)) for r in range(ranks)]
    assert {batch.source.values.shape[2] for batch in idle} == {6}
    assert all(batch.source.mask.any(1).all() for batch in idle)


@pytest.mark.heavy
def test_top_down_learns_from_regions(folder, world):
    overrides = (*TOP_DOWN, "training.epochs=25", "training.learning_rate=0.02", "model.dropout=0")
    taught = learner(world, folder / "learnt", *overrides, recipe="top_down.small")
    taught.run()
    losses = [json.loads(line)["train_loss"] for line in (folder / "learnt" / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < 0.4 * losses[0]


def trained_on(task) -> checkpoint.Trained:
    vocabulary = Vocabulary.from_json(task.vocabulary)
    torch.manual_seed(1)
    sizes = {"embedding": 8, "hidden": 8, "attention": 8, "feature_size": 6}
    model = systems.build("top_down", {"vocab_size": len(vocabulary), **sizes}).eval()
    return checkpoint.Trained("top_down", model, vocabulary, None, task.features, {"recipe": {}})


def test_captions_and_attention_are_of_the_images_own_regions(task, folder):
    trained, options = trained_on(task), SearchOptions(beam=2, min_length=2, max_length=5, attention=True)
    source = FromStore.open(str(folder / "store"), task.features)
    captioner = Captioner([trained], options)
    captioner.check(source.shape)
    worker = caption.CaptionWorker(Plan(1, 1, 0), source, captioner, caption.schema_of(options, True))
    (unit,) = source.chunks()
    failures = Failures()
    rows, _ = worker.process(unit.append_column("tries", [[0] * len(unit)]))
    assert not failures.rows and rows.num_rows == IMAGES
    for row in rows.to_pylist():
        index = int(row["image_id"].removeprefix("image"))
        count = 1 + index % 3
        assert row["boxes"] == [[0, 0, 1, 1]] * count
        assert np.shape(row["attention"]) == (len(row["pieces"]), count)
        np.testing.assert_allclose(np.sum(row["attention"], axis=1), 1, atol=5e-3)
        assert row["pieces"]
        (alone,) = captioner([regions_of(index)])
        assert alone["caption"] == row["caption"]
        assert alone["log_prob"] == pytest.approx(row["log_prob"], abs=1e-5)
    ((_, shown),) = caption_images(captioner, source, ["image002"])
    assert shown["attention"]["boxes"] == [[0, 0, 1, 1]] * 3
    assert np.shape(shown["attention"]["weights"]) == (len(shown["attention"]["pieces"]), 3)


def test_the_boxes_of_a_word_are_drawn_where_they_are():
    boxes = np.array([[0, 0, 100, 50], [100, 50, 200, 100]])
    seen = Attention(1, 2, ["a", " dog"], np.array([[1.0, 0], [0.25, 0.75]]), boxes)
    card = Card("x", "a dog", attention=seen, seen_width=200, seen_height=100)
    assert card.data()["boxes"] == [[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1]]
    heat = seen.heat(seen.weights[1], 200, 100)
    half = len(heat) // 2
    assert (heat[:half, :half] == 0.25).all() and (heat[half:, half:] == 0.75).all()
    assert not heat[:half, half:].any() and not heat[half:, :half].any()


def test_a_region_that_is_the_whole_picture_hides_no_other_in_the_small_maps():
    boxes = np.array([[0, 0, 200, 100], [100, 50, 200, 100]])
    seen = Attention(1, 2, ["a"], np.array([[0.4, 0.6]]), boxes)
    ((_, uri),) = Card("x", "a", attention=seen, seen_width=200, seen_height=100).strip()
    alpha = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))[..., 3]
    half = len(alpha) // 2
    assert not alpha[:half].any() and (alpha[half:, half:] > 40).all()


def test_a_store_without_regions_says_how_to_make_them(tmp_path):
    world = make_world(tmp_path)
    with pytest.raises(
        UserError, match=r"have pooled, grid\. Make them: .*fasterrcnn_resnet50_fpn_v2 --outputs regions"
    ):
        prepare(tiny_recipe(world, tmp_path / "run", *TOP_DOWN, recipe="top_down.small"))
