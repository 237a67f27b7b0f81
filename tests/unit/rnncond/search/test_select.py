"""Sampling: frequencies against the probabilities that theory gives, and what a seed promises."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rnncond.contract import Step
from rnncond.fast.lean import screen
from rnncond.search import SearchOptions, search
from rnncond.search.select import sample_words, select_best, select_screened, top_by_key, top_words
from rnncond.text.special_tokens import EOS, UNK
from tests.worlds import search as world

PROBABILITIES = torch.tensor([0.01, 0.01, 0.2, 0.08, 0.4, 0.1, 0.05, 0.15])
DRAWS = 4000


def one_word(tokens, state, memory):
    return Step(PROBABILITIES.log().repeat(len(tokens), 1), state, None)


def first_words(**options) -> torch.Tensor:
    """How often each word came first in ``DRAWS`` samples."""
    some = {"some": torch.zeros(1, 1)}
    found = search(one_word, some, some, SearchOptions(samples=DRAWS, max_length=1, **options))
    return torch.bincount(found.tokens[0, :, 0], minlength=len(PROBABILITIES))


def fits(counts: torch.Tensor, probabilities: dict[int, float]) -> None:
    """Pearson's chi-square stays under the 99.9% quantile of its distribution; impossible words never come."""
    expected = torch.zeros(len(counts), dtype=torch.double)
    expected[list(probabilities)] = torch.tensor(list(probabilities.values()), dtype=torch.double)
    expected = expected / expected.sum() * counts.sum()
    possible = expected > 0
    assert not counts[~possible].any()
    statistic = ((counts - expected)[possible] ** 2 / expected[possible]).sum()
    quantiles = {1: 10.83, 2: 13.82, 3: 16.27, 4: 18.47, 5: 20.52}
    assert statistic < quantiles[int(possible.sum()) - 1]


def test_words_come_as_often_as_the_model_says():
    fits(first_words(), {2: 0.2, 4: 0.4, 5: 0.1, 6: 0.05, 7: 0.15})


def test_blocked_words_leave_their_share_to_the_others():
    fits(first_words(blocked=(UNK, 4)), {2: 0.2, 5: 0.1, 6: 0.05, 7: 0.15})


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_temperature_raises_probabilities_to_its_inverse(temperature):
    powers = {word: PROBABILITIES[word].item() ** (1 / temperature) for word in (2, 4, 5, 6, 7)}
    fits(first_words(temperature=temperature), powers)


def test_top_k_draws_from_the_k_best():
    fits(first_words(top_k=3), {4: 0.4, 2: 0.2, 7: 0.15})


def test_top_p_draws_from_the_fewest_that_hold_it():
    # Of the 0.9 that is not blocked, 0.4 + 0.2 is two thirds: not yet 0.7, so the next word belongs to it.
    fits(first_words(top_p=0.7), {4: 0.4, 2: 0.2, 7: 0.15})
    assert set(first_words(top_p=0.1).nonzero().flatten().tolist()) == {4}


def test_top_k_of_one_is_greedy():
    memory, state = world.condition([0.3, 1.9, 2.6])
    greedy = search(world.step, memory, state, SearchOptions(max_length=6))
    drawn = search(world.step, memory, state, SearchOptions(samples=2, top_k=1, max_length=6))
    for place in range(2):
        assert torch.equal(drawn.tokens[:, place], greedy.tokens[:, 0])
    torch.testing.assert_close(drawn.log_probs, greedy.log_probs.expand(-1, 2))


def test_no_draw_is_a_word_without_probability():
    logits = torch.tensor([[-torch.inf, -torch.inf, 0.0, -torch.inf, 0.0, -torch.inf]])
    draws = torch.tensor([[0.0, 0.25, 0.5, 1 - 2**-24]])
    assert sample_words(logits, draws, SearchOptions(samples=1)).tolist() == [[2, 2, 4, 4]]


def test_log_probabilities_are_the_models_own():
    memory, state = world.condition([0.3, 1.9])
    options = SearchOptions(samples=5, max_length=5, temperature=1.7, top_k=4, length_penalty="average")
    found = search(world.step, memory, state, options)
    assert (found.scores.diff(dim=1) <= 0).all()
    for number, example in enumerate([0.3, 1.9]):
        for place, words in enumerate(world.sentences(found, number)):
            expected = world.finish(example, words, options)
            assert found.log_probs[number, place].item() == pytest.approx(expected.log_prob, abs=1e-4)
            assert found.scores[number, place].item() == pytest.approx(expected.score, abs=1e-4)


@pytest.mark.parametrize(
    ("rules", "count", "quantile"),
    [
        ({}, 13, 32.91),
        ({"min_length": 1}, 12, 31.26),
        ({"no_repeat_ngram": 1}, 10, 27.88),
        ({"min_length": 1, "no_repeat_ngram": 1}, 9, 26.12),
    ],
    ids=str,
)
def test_whole_sentences_come_as_often_as_the_model_says(rules, count, quantile):
    """The histories of 3,000 samples stay apart: every sentence of at most two words has its product's share.

    ``count`` sentences follow the rules; 99.9% of chi-square with a degree of freedom less are below ``quantile``.
    """
    options = SearchOptions(samples=3000, max_length=2, **rules)
    memory, state = world.condition([1.9])
    drawn = world.sentences(search(world.step, memory, state, options), 0)
    sentences = world.enumerate_all(1.9, options)
    shares = {one.words: sampling_share(1.9, one.words, options) for one in sentences}
    assert math.fsum(shares.values()) == pytest.approx(1)
    assert set(drawn) <= set(shares)
    statistic = sum((drawn.count(words) - 3000 * share) ** 2 / (3000 * share) for words, share in shares.items())
    assert len(shares) == count
    assert statistic < quantile


def sampling_share(example: float, words: tuple[int, ...], options: SearchOptions) -> float:
    """The probability of drawing ``words``: the model's, shared among the words that the rules allow."""
    share = 1.0
    for position, word in enumerate(words):
        following, _ = world.log_probs_after(example, words[:position])
        choices = world.allowed(words[:position], options)
        share *= math.exp(following[word]) / sum(math.exp(following[choice]) for choice in choices)
    return share


def test_a_seed_gives_the_same_sentences_and_another_seed_others():
    memory, state = world.condition([0.3] * 8)
    first, again, other = (
        search(world.step, memory, state, SearchOptions(samples=4, max_length=6, seed=seed)).tokens
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert world_lines(first) != world_lines(other)
    assert len(set(map(tuple, world_lines(first)))) > 8


def world_lines(tokens: torch.Tensor) -> list[list[int]]:
    return tokens.flatten(0, 1).tolist()


@settings(max_examples=20)
@given(st.lists(st.floats(0, 6, width=16), min_size=2, max_size=8))
def test_the_other_examples_of_a_batch_change_no_draw(examples):
    options = SearchOptions(samples=3, max_length=6)
    together = search(world.step, *world.condition(examples), options)
    alone = search(world.step, *world.condition(examples[:1]), options)
    assert world.sentences(together, 0) == world.sentences(alone, 0)


@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0, 2.0, -math.inf]), min_size=1, max_size=12), st.integers(1, 12))
def test_the_best_words_are_those_of_a_stable_sort(values, k):
    rows = torch.tensor([values, values[::-1]])
    found, ids = top_words(rows, k)
    for row, row_values, row_ids in zip(rows.tolist(), found.tolist(), ids.tolist(), strict=True):
        expected = sorted(range(len(row)), key=lambda place: -row[place])[:k]
        possible = sum(row[place] > -math.inf for place in expected)
        assert row_ids[:possible] == expected[:possible]
        assert row_values == [row[place] for place in expected]
        assert [row[place] for place in row_ids] == row_values
        assert len(set(row_ids)) == len(row_ids)


def test_words_that_cannot_come_are_not_sorted(monkeypatch):
    """After a forced EOS all but one of the V words are equal, at minus infinity; only the k best are put in order."""
    logits = torch.full((2, 50), -torch.inf)
    logits[:, EOS] = 0.3
    logits[1, [20, 30]] = 0.2
    sort, widths = torch.Tensor.sort, []

    def watched(tensor, *args, **named):
        widths.append(tensor.shape[1])
        return sort(tensor, *args, **named)

    monkeypatch.setattr(torch.Tensor, "sort", watched)
    _, ids = top_words(logits, 5)
    assert ids[:, 0].tolist() == [EOS, EOS]
    assert ids[1, 1:3].tolist() == [20, 30]
    assert widths
    assert max(widths) == 5


@pytest.mark.parametrize("find", [top_words, top_by_key], ids=lambda find: find.__name__)
@pytest.mark.parametrize("width", [9, 64, 130, 1000])
@pytest.mark.parametrize("k", [1, 2, 5])
def test_the_highest_words_are_those_of_a_stable_sort(find, width, k):
    """Of few values, so that equals are everywhere, of many, and of minus infinity."""
    generator = torch.Generator().manual_seed(width * k)
    few = torch.randint(-2, 3, (40, width), generator=generator).float()
    many = torch.randn(40, width, generator=generator)
    for logits in (few, many, many.where(many > 2, -torch.inf), many[:, : width - 1]):
        expected = logits.sort(dim=1, descending=True, stable=True)
        values, words = find(logits, k)
        assert torch.equal(values, expected.values[:, :k])
        possible = values > -torch.inf
        assert torch.equal(words[possible], expected.indices[:, :k][possible])


def screened(exact: torch.Tensor, noise: torch.Tensor, live: torch.Tensor, slots: torch.Tensor, width: int):
    """The choice by ``exact`` logits, by those with ``noise``, and by those with ``noise`` that know the exact ones."""

    def by(logits: torch.Tensor):
        return select_best(logits, logits.logsumexp(1, keepdim=True), live, slots, width)

    noisy = exact + noise
    normaliser = noisy.logsumexp(1, keepdim=True)
    return by(exact), by(noisy), select_screened(noisy, normaliser, live, slots, width, lambda at: exact.gather(1, at))


@pytest.mark.parametrize("width", [1, 3, 5])
def test_noise_among_the_best_words_changes_nothing_where_exact_logits_decide(width):
    """Noise on the two best words of each row, less than their distance from the third."""
    torch.manual_seed(0)
    examples, rows = 20, min(width, 2)
    exact = torch.stack([torch.randperm(300) for _ in range(examples * rows)]).float() / 4
    best = exact >= 298 / 4
    noise = best * (torch.rand(exact.shape) * 0.98 - 0.49)
    exact[best] += 0.5
    live = -torch.rand(examples, rows)
    slots = torch.randint(0, width + 1, (examples,))
    expected, worse, found = screened(exact, noise, live, slots, width)
    assert not torch.equal(worse.words, expected.words)
    here = expected.log_probs > -torch.inf
    assert torch.equal(found.words[here], expected.words[here])
    assert torch.equal(found.parents[here], expected.parents[here])
    torch.testing.assert_close(found.log_probs, expected.log_probs)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(2, 400))
def test_log_probabilities_are_off_by_no_more_than_the_noise(seed, width, vocabulary):
    """A log-sum-exp moves by no more than the largest move of a logit, and the word's own logit is exact."""
    torch.manual_seed(seed)
    exact, live = 3 * torch.randn(4 * width, vocabulary), -torch.rand(4, width)
    noise = 0.2 * torch.rand(exact.shape) - 0.1
    slots = torch.full((4,), width)
    _, _, found = screened(exact, noise, live, slots, width)
    rows = torch.arange(4)[:, None] * width + found.parents
    expected = exact.log_softmax(1)[rows, found.words] + live.gather(1, found.parents)
    assert ((found.log_probs - expected).abs() <= 0.1 + 1e-4).all()
    assert (found.log_probs[:, :-1] >= found.log_probs[:, 1:]).all()


def test_a_search_asks_for_exact_logits_and_never_for_blocked_words():
    """UNK, which is blocked, and word 4 change places with word 7 by the noise."""
    exact, noisy = PROBABILITIES.log(), PROBABILITIES.log().clone()
    noisy[[UNK, 4, 7]] += torch.tensor([2.0, -1.0, 0.5])

    def step(tokens, state, memory):
        count = len(tokens)
        logits = screen(noisy.repeat(count, 1), torch.ones(count, 1), exact[:, None], None)
        return Step(logits, state, None)

    some = {"some": torch.zeros(1, 1)}
    for beam in (1, 2):
        found = search(step, some, some, SearchOptions(beam=beam, max_length=1, min_length=1))
        assert found.tokens[0, 0, 0] == 4
