import threading
from collections import Counter

import numpy as np
import pytest
import torch

from pipelines.threads import ahead
from pipelines.training.data import feature_batches as module
from pipelines.training.data.feature_batches import Batches
from pipelines.training.data.task import prepare
from rnncond.text import Vocabulary
from rnncond.text.special_tokens import PAD
from tests.worlds.training import captions_of, features_of, make_world, tiny_recipe

IMAGES = 24
IMAGE_BYTES = 12
ALL = 1e9


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    world = make_world(folder, images=IMAGES + 6, validation=6)
    return prepare(tiny_recipe(world, folder / "run"))[0]


@pytest.fixture
def make(task, monkeypatch):
    monkeypatch.setattr(module, "WINDOW_BYTES", 7 * IMAGE_BYTES)  # two row groups of five images

    def batches(**settings) -> Batches:
        settings = {"output": "pooled", "images": 4, "captions": 2, "seed": 1} | settings
        return Batches(task.snapshot, task.train, **settings)

    return batches


def index_of(task, image: int) -> int:
    return int(task.train.image_ids[image].removeprefix("image"))


def sentences(task, batch) -> list[list[str]]:
    """Of each image of a batch, its captions there."""
    vocabulary = Vocabulary.from_json(task.vocabulary)
    rows = [vocabulary.decode(row[row != PAD][1:].tolist()) if (row != PAD).any() else None for row in batch.tokens]
    per_image = len(rows) // len(batch.source.values)
    return [[text for text in rows[start : start + per_image] if text] for start in range(0, len(rows), per_image)]


@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
@pytest.mark.parametrize("captions", [1, 2, 3, None])
@pytest.mark.parametrize("memory", [0, ALL])
def test_each_caption_is_there_once_an_epoch_with_its_own_features(task, make, ranks, captions, memory):
    seen, steps, words = Counter(), set(), 0
    for rank in range(ranks):
        own = list(make(captions=captions, memory=memory, rank=rank, ranks=ranks).epoch(3))
        steps.add(len(own))
        for batch in own:
            words += batch.words
            for image, values, texts in zip(batch.examples, batch.source.values, sentences(task, batch), strict=False):
                index = index_of(task, image)
                assert values.tolist() == features_of(index)[0].tolist()
                seen.update((index, text) for text in texts)
    expected = Counter((index, text) for index in range(IMAGES) for text in captions_of(index))
    assert seen == expected
    assert words == sum(len(text.split()) + 1 for _, text in expected)
    assert len(steps) == 1


@pytest.mark.parametrize("memory", [0, ALL])
def test_goes_on_from_any_step_as_if_never_stopped(make, memory):
    whole = list(make(memory=memory).epoch(2))
    assert len(whole) == make().steps > 3
    for start in range(len(whole)):
        rest = list(make(memory=memory).epoch(2, start))
        assert len(rest) == len(whole) - start
        for batch, expected in zip(rest, whole[start:], strict=True):
            assert batch.tokens.equal(expected.tokens)
            assert batch.source.values.equal(expected.source.values)


@pytest.mark.parametrize("memory", [0, ALL])
def test_the_order_is_a_function_of_seed_and_epoch(make, memory):
    def order(seed, epoch):
        return [image for batch in make(seed=seed, memory=memory).epoch(epoch) for image in batch.examples]

    assert order(1, 1) == order(1, 1)
    assert len({tuple(order(seed, epoch)) for seed in (1, 2) for epoch in (1, 2)}) == 4


def test_without_a_seed_images_come_in_order_with_all_their_captions(task, make):
    found = list(make(seed=None, captions=None).epoch())
    assert [image for batch in found for image in batch.examples] == list(range(IMAGES))
    assert [texts for batch in found for texts in sentences(task, batch)] == list(map(captions_of, range(IMAGES)))


def test_a_grid_comes_as_places_in_row_major_order(task, make):
    batch = next(make(output="grid").epoch(1))
    assert batch.source.values.dtype == torch.float16
    for image, places in zip(batch.examples, batch.source.values, strict=True):
        pooled = features_of(index_of(task, image))[0]
        assert places.tolist() == [pooled.tolist(), (2 * pooled).tolist()]


def count_reads(monkeypatch, task) -> Counter:
    reads = Counter()
    original = type(task.snapshot).read_row_group

    def read(self, part, index, columns=None):
        reads[part.name, index] += 1
        return original(self, part, index, columns)

    monkeypatch.setattr(type(task.snapshot), "read_row_group", read)
    return reads


def test_streaming_reads_each_row_group_once_an_epoch(task, make, monkeypatch):
    reads = count_reads(monkeypatch, task)
    list(make().epoch(1))
    assert set(reads.values()) == {1}
    assert len(reads) == 5


def test_what_fits_in_memory_is_read_once_and_shuffled_as_a_whole(task, make, monkeypatch):
    reads = count_reads(monkeypatch, task)
    resident = make(memory=IMAGES * IMAGE_BYTES)
    for epoch in range(3):
        list(resident.epoch(epoch))
    assert set(reads.values()) == {1}
    assert len(resident.order(1)) == 1
    assert len(make(memory=IMAGES * IMAGE_BYTES - 1).order(1)) == 3


@pytest.mark.parametrize(("ranks", "images"), [(2, 3), (3, 2), (6, 1)])
def test_a_step_has_the_same_pictures_on_any_number_of_ranks(make, ranks, images):
    alone = make(memory=ALL, images=6)
    assert alone.steps > 3
    shares = [list(make(memory=ALL, images=images, rank=rank, ranks=ranks).epoch(1)) for rank in range(ranks)]
    for expected, *parts in zip(alone.epoch(1), *shares, strict=True):
        assert [image for part in parts for image in part.examples] == expected.examples.tolist()
        assert sum(part.words for part in parts) == expected.words
        assert all(len(part.examples) <= images for part in parts)


def test_ranks_that_stream_share_the_reading(task, make, monkeypatch):
    reads = count_reads(monkeypatch, task)
    for rank in range(2):
        list(make(rank=rank, ranks=2).epoch(1))
    assert len(reads) == 5
    assert sum(reads.values()) <= 5 + 2  # the window in which one ends and the other begins


def test_batches_of_a_share_differ_by_at_most_one_image(make):
    sizes = [len(batch.examples) for batch in make(images=5, captions=None).epoch(1)]
    assert len(sizes) == 5
    assert max(sizes) - min(sizes) <= 1
    assert sum(sizes) == IMAGES


def test_a_rank_without_images_keeps_step_with_nothing_to_learn(task):
    ranks = IMAGES + 1
    found = [list(Batches(task.snapshot, task.train, "pooled", 4, 3, 1, rank, ranks).epoch(1)) for rank in range(ranks)]
    assert {len(own) for own in found} == {1}
    (idle,) = [own[0] for own in found if own[0].words == 0]
    assert idle.tokens.eq(PAD).all()
    assert idle.source.values.shape == (1, 6)
    assert len(idle.examples) == 0


def test_statistics_are_those_of_the_training_images(make):
    expected = np.concatenate([features_of(index)[1].reshape(-1, 6) for index in range(IMAGES)])
    mean, deviation = make(output="grid").statistics()
    np.testing.assert_allclose(mean, expected.mean(0), rtol=1e-5)
    np.testing.assert_allclose(deviation, expected.std(0), rtol=1e-4, atol=1e-4)


def test_statistics_of_many_images_are_taken_from_some(task, make, monkeypatch):
    reads = count_reads(monkeypatch, task)
    monkeypatch.setattr(module, "SAMPLE", 7)
    make(output="grid").statistics()
    assert len(reads) == 2


def test_a_failure_while_making_batches_reaches_the_consumer():
    def broken():
        yield 1
        raise OSError("gone")

    found = ahead(broken(), 2)
    assert next(found) == 1
    with pytest.raises(OSError, match="gone"):
        next(found)


def test_a_consumer_that_stops_early_ends_the_thread():
    before = threading.active_count()
    endless = ahead(iter_closing := (number for number in iter(int, 1)), 2)
    assert next(endless) == 0
    endless.close()
    assert threading.active_count() == before
    with pytest.raises(StopIteration):
        next(iter_closing)
