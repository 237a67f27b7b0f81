"""Batches of pairs by tokens: each pair once, little padding, the order a function of seed, epoch and rank."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from feature_store import Store
from pipelines.config.sections import PairText
from pipelines.inputs.corpus import Corpus
from pipelines.training.data.token_batches import Pairs, TokenBatches, cut, pairs_of
from pipelines.training.data.tokens import SCHEMA, rows_of, vocabularies
from rnncond.text.special_tokens import BOS, EOS, PAD
from tests.worlds.corpora import make_text, sentences

PAIRS, PER_PART = 60, 7
MEMORY = 1000
"""Bytes: less than all of the tokens, and more than those of a part."""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A set of tokens in parts of PER_PART, its vocabulary, and the sources as text."""
    folder = tmp_path_factory.mktemp("text")
    make_text(folder, PAIRS)
    store = Store(folder / "store")
    corpus = Corpus(str(folder / "source.txt"), str(folder / "target.txt"))
    source, target = vocabularies(store, corpus, PairText(level="word", joint=True))
    dataset = store.dataset("tokens", {"corpus": "x"}, SCHEMA, id_column="id")
    rows = rows_of(pa.concat_tables(corpus.chunks()), source, target)
    with dataset.begin() as term:
        for start in range(0, PAIRS, PER_PART):
            part = rows.slice(start, PER_PART)
            term.handle.commit(term.handle.part_name(part["id"].to_pylist()), part)
    return dataset.snapshot(), source, sentences(PAIRS)


def make(world, tokens=40, seed=1, **settings) -> TokenBatches:
    return TokenBatches(world[0], pairs_of(world[0], 50), tokens, seed, **settings)


def drawn(batches: TokenBatches, epoch: int) -> list[list[int]]:
    return [batch.examples.tolist() for batch in batches.make(epoch)]


def test_a_batch_is_its_pairs_with_bos_eos_and_padding(world):
    _, vocabulary, texts = world
    seen = 0
    for batch in make(world).make(1):
        assert batch.tokens[:, 0].eq(BOS).all()
        assert batch.words == int((batch.tokens[:, 1:] != PAD).sum())
        for row, pair in enumerate(batch.examples):
            words = texts[pair].split()
            source, target = batch.source.values[row].tolist(), batch.tokens[row].tolist()
            assert vocabulary.tokens(source[: len(words)]) == words
            assert source[len(words)] == EOS
            assert set(source[len(words) + 1 :]) <= {PAD}
            assert vocabulary.tokens(target[1 : len(words) + 1]) == words[::-1]
            assert target[len(words) + 1] == EOS
            assert set(target[len(words) + 2 :]) <= {PAD}
            real = torch.tensor(source) != PAD
            assert batch.source.mask is None or torch.equal(batch.source.mask[row], real)
            assert batch.source.mask is not None or real.all()
            seen += 1
    assert seen == PAIRS


@pytest.mark.parametrize("memory", [np.inf, MEMORY, 0])
@pytest.mark.parametrize("ranks", [1, 2, 5])
@pytest.mark.parametrize("seed", [None, 1, 2])
def test_every_pair_once_an_epoch_and_every_rank_the_same_steps(world, memory, ranks, seed):
    for epoch in (1, 2):
        shares = [drawn(make(world, seed=seed, rank=rank, ranks=ranks, memory=memory), epoch) for rank in range(ranks)]
        assert len({len(share) for share in shares}) == 1
        assert len(shares[0]) == make(world, ranks=ranks, memory=memory).steps
        assert sorted(pair for share in shares for batch in share for pair in batch) == list(range(PAIRS))


@pytest.mark.parametrize("memory", [np.inf, MEMORY])
def test_a_step_of_two_ranks_is_two_batches_of_one(world, memory):
    alone = drawn(make(world, memory=memory), 1)
    shares = [drawn(make(world, rank=rank, ranks=2, memory=memory), 1) for rank in range(2)]
    assert len(shares[0]) > 3
    assert [batch for step in zip(*shares, strict=True) for batch in step if batch] == alone


def test_memory_bounds_what_is_read_together(world):
    batches = make(world, memory=MEMORY)
    assert 1 < len(batches.windows) < PAIRS / PER_PART
    for members in batches.windows[:-1]:
        assert 4 * (batches.pairs.source_length[members] + batches.pairs.target_length[members]).sum() < 2 * MEMORY
    groups = [set(batches.pairs.group[members]) for members in batches.windows]
    assert sum(map(len, groups)) == len(set().union(*groups))


def test_a_rank_without_pairs_keeps_step_with_padding_alone(world):
    batches = make(world, tokens=10_000, rank=1, ranks=2)
    (idle,) = batches.make(1)
    assert (len(idle.examples), idle.words, idle.tokens.tolist()) == (0, 0, [[PAD, PAD]])


@pytest.mark.parametrize("memory", [np.inf, MEMORY])
def test_an_epoch_goes_on_from_any_step(world, memory):
    whole = drawn(make(world, memory=memory), 3)
    for start in range(len(whole) + 1):
        rest = [batch.examples.tolist() for batch in make(world, memory=memory).epoch(3, start)]
        assert rest == whole[start:]


def test_the_order_changes_with_epoch_and_seed_and_with_nothing_else(world):
    first = drawn(make(world), 1)
    assert first == drawn(make(world), 1)
    others = [drawn(make(world), 2), drawn(make(world, seed=2), 1)]
    for other in others:
        assert other != first
        assert {frozenset(batch) for batch in other} != {frozenset(batch) for batch in first}


def test_a_batch_has_at_most_so_many_tokens_and_a_longer_pair_stands_alone():
    chance = np.random.default_rng(0)
    lengths = np.sort(chance.integers(1, 90, (2, 500)))
    starts = cut(*lengths, 64)
    for members in np.split(np.arange(500), starts[1:]):
        width = max(lengths[0][members].max(), lengths[1][members].max() + 1)
        assert len(members) * width <= 64 or len(members) == 1
    assert starts[0] == 0


def test_little_of_a_batch_is_padding(world):
    """29,000 pairs whose lengths spread like those of picture captions: 5% at 4,000 tokens."""
    chance = np.random.default_rng(0)
    source = np.clip(chance.normal(14, 4.5, 29_000).round(), 3, 45).astype(np.int32)
    target = np.clip((source * chance.normal(1, 0.18, 29_000)).round(), 2, 48).astype(np.int32)
    pairs = Pairs(np.zeros(29_000, np.int64), np.arange(29_000), source, target)
    batches = TokenBatches(world[0], pairs, 4000, seed=1)
    real = padded = 0
    for _, members in batches.order(1):
        real += source[members].sum() + (target[members] + 1).sum()
        padded += len(members) * (source[members].max() + target[members].max() + 1)
    assert 1 - real / padded <= 0.05


def test_pairs_too_long_or_empty_are_left_out_of_training_only(world, tmp_path):
    _, source, _ = world
    texts = ["a b c", "a b", "", "a"], ["a", "a b c", "a", ""]
    pairs = pa.table({"id": list("0123"), "source": texts[0], "target": texts[1]})
    dataset = Store(tmp_path).dataset("tokens", {}, SCHEMA, id_column="id")
    with dataset.begin() as term:
        term.handle.commit(term.handle.part_name(list("0123")), rows_of(pairs, source, source))
    snapshot = dataset.snapshot()
    assert len(pairs_of(snapshot).row) == 4
    assert (pairs_of(snapshot, 3).row.tolist(), pairs_of(snapshot, 3).left_out) == ([0, 1], 2)
    assert pairs_of(snapshot, 2).left_out == 4
    assert pairs_of(snapshot, first=2).row.tolist() == [0, 1]
