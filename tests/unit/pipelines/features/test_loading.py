"""Where a worker's pictures are decoded, by what it has measured."""

from __future__ import annotations

from types import SimpleNamespace

import pyarrow as pa
import pytest

from pipelines.engine.counter import COUNTER
from pipelines.features import loading
from pipelines.features.loading import MEASURED, PART, Loader, Rates
from pipelines.features.preprocess import Loaded
from tests.worlds.hostile import Mean


def measured(decode_ms: float, network_ms: float, images: int = MEASURED) -> Rates:
    rates = Rates()
    for number in range(images):
        rates.decoded(Loaded(str(number), "", None, 1, 1, None, decode_ms / 1e3))
    rates.computed(images, images * network_ms / 1e3)
    return rates


@pytest.mark.parametrize(
    ("decode_ms", "network_ms", "cpus", "others", "decode", "told"),
    [
        (4, 0.5, 16, True, "local", "the network takes 2,000 images/s, its own 16 CPUs decode 4,000, which is enough"),
        (16, 0.5, 16, True, "cluster", "2,000 images/s, its own 16 CPUs decode 1,000, so other nodes decode, too"),
        (16, 0.5, 16, False, None, "2,000 images/s, its own 16 CPUs decode 1,000, and no other node has a free CPU;"),
    ],
)
def test_other_nodes_decode_where_the_own_cpus_are_too_slow(
    monkeypatch, decode_ms, network_ms, cpus, others, decode, told
):
    monkeypatch.setattr(loading, "are_cpus_free", lambda: others)
    loader = Loader(Mean.preprocess, 2, 8, None, cpus)
    COUNTER.begin(None, 0)
    loader.rates = measured(decode_ms, network_ms)
    assert loader.rates.cpus_needed == pytest.approx(decode_ms / network_ms)
    assert loader.others_help() == (decode == "cluster")
    assert loader.decode == decode
    assert [text for text in COUNTER.remarks.values() if told in text]


def test_nodes_that_come_later_help_from_then_on(monkeypatch):
    loader = Loader(Mean.preprocess, 2, 8, None, 16)
    loader.rates = measured(16, 0.5)
    for others in (False, True):
        monkeypatch.setattr(loading, "are_cpus_free", lambda others=others: others)
        assert loader.others_help() == others


def test_nothing_is_chosen_before_it_is_measured(monkeypatch):
    monkeypatch.setattr(loading, "are_cpus_free", lambda: True)
    loader = Loader(Mean.preprocess, 2, 8, None, 1)
    loader.rates = measured(16, 0.5, MEASURED - 1)
    assert not loader.others_help()
    assert loader.decode is None


@pytest.mark.parametrize("decode", ["local", "cluster"])
def test_the_user_may_choose(decode):
    assert Loader(Mean.preprocess, 2, 8, decode, 1).others_help() == (decode == "cluster")


def unit_of(*ids, part=None):
    columns = {"image_id": ids, "uri": [f"/{id_}" for id_ in ids], "version": [None] * len(ids)}
    return pa.table(columns | {PART: pa.array([part] * len(ids), pa.int32())})


class Pool:
    """Does at once what it is given, and writes down which images that are."""

    def __init__(self):
        self.read = []

    def submit(self, attempt, row, preprocess):
        self.read.append(row["image_id"])
        image = Loaded(row["image_id"], row["uri"], None, 1, 1, None)
        return SimpleNamespace(result=lambda: image, cancel=lambda: self.read.append("cancelled"))


@pytest.fixture
def loader(monkeypatch):
    """Has three images ahead."""
    made = Loader(Mean.preprocess, 1, 3)
    made.pool = Pool()
    monkeypatch.setattr(COUNTER, "waiting", {})
    COUNTER.begin(None, 0)
    return made


def ids_of(outcomes):
    return [image.image_id for _, image in outcomes]


def test_the_next_unit_is_read_when_this_one_is_begun_as_a_whole(loader):
    COUNTER.waiting[1] = unit_of("d", "e", "f", "g")
    outcomes = loader(unit_of("a", "b", "c").to_pylist())
    next(outcomes)
    assert loader.pool.read == ["a", "b", "c"]
    assert ids_of(outcomes) == ["b", "c"]
    assert loader.pool.read == ["a", "b", "c", "d", "e"]
    following = COUNTER.waiting.pop(1)
    assert ids_of(loader(following.to_pylist())) == ["d", "e", "f", "g"]
    assert loader.pool.read == list("abcdefg"), "each once"


def test_a_unit_that_comes_late_is_read_ahead_from_then_on(loader):
    outcomes = loader(unit_of("a", "b", "c").to_pylist())
    next(outcomes), next(outcomes)
    COUNTER.waiting[1] = unit_of("d", "e")
    next(outcomes)
    assert loader.pool.read == ["a", "b", "c", "d", "e"]


def test_images_whose_features_are_kept_are_not_read_ahead(loader):
    COUNTER.waiting[1] = pa.concat_tables([unit_of("d", part=0), unit_of("e")])
    list(loader(unit_of("a", "b").to_pylist()))
    assert loader.pool.read == ["a", "b", "e"]


def test_nothing_is_read_ahead_of_a_unit_whose_inputs_are_done_one_by_one(loader):
    COUNTER.waiting[1], COUNTER.alone = unit_of("d"), True
    assert ids_of(loader(unit_of("a", "b").to_pylist())) == ["a", "b"]
    assert loader.pool.read == ["a", "b"]


def test_what_was_read_ahead_of_another_unit_is_given_up(loader):
    COUNTER.waiting[1] = unit_of("d", "e")
    list(loader(unit_of("a").to_pylist()))
    del COUNTER.waiting[1]
    assert ids_of(loader(unit_of("x", "y").to_pylist())) == ["x", "y"]
    assert loader.pool.read == ["a", "d", "e", "cancelled", "cancelled", "x", "y"]
