"""Where a worker's pictures are decoded, by what it has measured."""

from __future__ import annotations

import pytest

from pipelines.engine.counter import COUNTER
from pipelines.features import loading
from pipelines.features.loading import MEASURED, Loader, Rates
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
        (16, 0.5, 16, False, None, "2,000 images/s, its own 16 CPUs decode 1,000, and no other node has a free CPU"),
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
