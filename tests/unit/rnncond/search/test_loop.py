"""Beam search against enumeration, against its definition, and against tables whose answers are known by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rnncond.contract import BOS, EOS, PAD, UNK, Step
from rnncond.search import SearchOptions, ensemble, join, search
from tests.worlds import search as world

RANKS = [
    {},
    {"length_penalty": "average"},
    {"length_penalty": "gnmt", "alpha": 0.9},
    {"coverage_beta": 0.7},
    {"length_penalty": "gnmt", "alpha": 0.2, "coverage_beta": 0.2},
    {"length_penalty": "average", "coverage_beta": 1.5},
]
RULES = [
    {},
    {"min_length": 2},
    {"no_repeat_ngram": 1},
    {"no_repeat_ngram": 2, "min_length": 3},
    {"blocked": (UNK, 5)},
    {"blocked": (), "max_length": 3},
    {"blocked": (UNK, 4), "no_repeat_ngram": 2, "min_length": 1},
]
EXAMPLES = [0.3, 1.9, 2.6, 4.4]


def run(options: SearchOptions, examples=EXAMPLES, **more):
    memory, state = world.condition(examples)
    return search(world.step, memory, state, options, **more)


def agrees(found, example: int, expected: list[world.Scored]) -> None:
    """The sentences, scores and log-probabilities of one example are ``expected``."""
    assert world.sentences(found, example) == [one.words for one in expected]
    torch.testing.assert_close(found.scores[example].tolist(), [one.score for one in expected], rtol=1e-4, atol=1e-4)
    expected_log_probs = [one.log_prob for one in expected]
    torch.testing.assert_close(found.log_probs[example].tolist(), expected_log_probs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rules", RULES, ids=str)
@pytest.mark.parametrize("rank", RANKS, ids=str)
def test_a_beam_that_holds_everything_finds_the_best_of_all_sentences(rank, rules):
    options = SearchOptions(**{"beam": 90, "nbest": 4, "max_length": 3, **rank, **rules})
    found = run(options)
    for number, example in enumerate(EXAMPLES):
        agrees(found, number, world.enumerate_all(example, options)[:4])


@pytest.mark.parametrize("beam", [1, 2, 3, 5])
@pytest.mark.parametrize("rules", RULES, ids=str)
@pytest.mark.parametrize("rank", RANKS, ids=str)
def test_a_narrow_beam_is_the_plain_definition(rank, rules, beam):
    options = SearchOptions(**{"beam": beam, "nbest": max(1, beam // 2), "max_length": 6, **rank, **rules})
    found = run(options)
    for number, example in enumerate(EXAMPLES):
        agrees(found, number, world.beam_search(example, options)[: options.nbest])


def test_greedy_takes_the_most_probable_word_each_time():
    for example in EXAMPLES:
        words = ()
        while EOS not in words:
            following, _ = world.log_probs_after(example, words)
            choices = range(EOS, world.VOCAB) if len(words) < 8 else [EOS]
            words = (*words, max((word for word in choices if word != UNK), key=following.__getitem__))
        assert world.sentences(run(SearchOptions(max_length=8), [example]), 0) == [words]


@settings(max_examples=40, deadline=None)
@given(
    examples=st.lists(st.floats(0, 6, width=16), min_size=1, max_size=12),
    beam=st.integers(1, 4),
    rank=st.sampled_from(RANKS),
    rules=st.sampled_from(RULES[:-1]),
)
def test_the_other_examples_of_a_batch_change_nothing(examples, beam, rank, rules):
    options = SearchOptions(**{"beam": beam, "nbest": beam, "max_length": 5, "attention": True, **rank, **rules})
    together = run(options, examples)
    for number, example in enumerate(examples):
        alone = run(options, [example])
        assert world.sentences(together, number) == world.sentences(alone, 0)
        torch.testing.assert_close(together.scores[number], alone.scores[0])
        longest = alone.tokens.shape[2]
        torch.testing.assert_close(together.attention[number, :, :longest], alone.attention[0])
        assert not together.attention[number, :, longest:].any()


def test_attention_is_that_of_the_step_which_chose_the_word():
    found = run(SearchOptions(beam=3, nbest=3, max_length=5, attention=True))
    for number, example in enumerate(EXAMPLES):
        for place, words in enumerate(world.sentences(found, number)):
            expected = torch.tensor([world.log_probs_after(example, words[:t])[1] for t in range(len(words))])
            torch.testing.assert_close(found.attention[number, place, : len(words)], expected, rtol=1e-4, atol=1e-5)
            assert not found.attention[number, place, len(words) :].any()


def test_attention_is_kept_only_when_asked_for():
    assert run(SearchOptions()).attention is None


def test_sentences_end_with_eos_and_padding():
    found = run(SearchOptions(beam=4, nbest=4, max_length=5))
    for line, length in zip(found.tokens.flatten(0, 1).tolist(), found.lengths.flatten().tolist(), strict=True):
        assert line[length - 1] == EOS
        assert not {PAD, BOS, EOS, UNK} & set(line[: length - 1])
        assert set(line[length:]) <= {PAD}


def test_the_memory_is_neither_changed_nor_expanded():
    memory, state = world.condition(EXAMPLES)
    before = {name: tensor.clone() for name, tensor in memory.items()}
    sizes = []

    def watched(tokens, state, memory):
        sizes.append(len(memory["example"]))
        return world.step(tokens, state, memory)

    search(watched, memory, state, SearchOptions(beam=3, max_length=6))
    assert all(torch.equal(memory[name], before[name]) for name in before)
    assert sizes[0] == 4
    assert sizes == sorted(sizes, reverse=True)


def test_finished_examples_leave_the_work():
    """Example b says nothing but its first word b times, then ends: the rows asked for shrink with those at work."""
    asked = []

    def count_down(tokens, state, memory):
        asked.append(len(tokens))
        going = state["left"] > 0
        logits = torch.full((len(tokens), 6), -30.0)
        logits[:, 5] = going.float().log()
        logits[:, EOS] = (~going).float().log()
        return Step(logits, {"left": state["left"] - 1}, None)

    left = torch.tensor([0, 1, 2, 3])
    found = search(count_down, {"unused": left}, {"left": left}, SearchOptions(max_length=9))
    assert found.lengths.flatten().tolist() == [1, 2, 3, 4]
    assert asked == [4, 3, 2, 1]


def table_step(table):
    """A model that knows the last word only; ``table`` (V, V) has probabilities."""
    logits = torch.tensor(table).log()

    def step(tokens, state, memory):
        return Step(logits[tokens], state, None)

    return step


ONE = ({"memory": torch.zeros(1, 1)}, {"state": torch.zeros(1, 1)})
# From BOS: word 4 (0.6) looks best, but word 5 (0.4) goes on with certainty and ends better.
TRAP = [
    [0.2] * 6,
    [0, 0, 0, 0, 0.6, 0.4],
    [0.2] * 6,
    [0.2] * 6,
    [0, 0, 0.5, 0, 0.25, 0.25],
    [0, 0, 1.0, 0, 0, 0],
]  # fmt: skip


def test_a_beam_escapes_the_trap_that_greed_falls_into():
    greedy = search(table_step(TRAP), *ONE, SearchOptions(max_length=3))
    assert world.sentences(greedy, 0) == [(4, EOS)]
    assert greedy.log_probs.item() == pytest.approx(math.log(0.6 * 0.5))
    beam = search(table_step(TRAP), *ONE, SearchOptions(beam=2, nbest=2, max_length=3))
    assert world.sentences(beam, 0) == [(5, EOS), (4, EOS)]
    assert beam.log_probs[0].tolist() == pytest.approx([math.log(0.4), math.log(0.3)])


def test_scores_by_hand():
    options = {"beam": 2, "nbest": 2, "max_length": 3}
    average = search(table_step(TRAP), *ONE, SearchOptions(**options, length_penalty="average"))
    assert average.scores[0, 0].item() == pytest.approx(math.log(0.4) / 2)
    gnmt = search(table_step(TRAP), *ONE, SearchOptions(**options, length_penalty="gnmt", alpha=0.5))
    assert gnmt.scores[0, 0].item() == pytest.approx(math.log(0.4) / math.sqrt(7 / 6))


def test_a_hypothesis_that_can_still_win_is_waited_for():
    """EOS at once scores log 0.3 = -1.20; word 4, then EOS for certain, log 0.2 / 2 = -0.80, though it starts worse."""
    table = [[0.2] * 6, [0.5, 0, 0.3, 0, 0.2, 0], [0.2] * 6, [0.2] * 6, [0, 0, 1.0, 0, 0, 0], [0.2] * 6]
    options = SearchOptions(beam=2, max_length=1, length_penalty="average")
    assert world.sentences(search(table_step(table), *ONE, options), 0) == [(4, EOS)]


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        # Less than 0.4 cannot outrank an EOS of 0.6 ...
        ({}, 1),
        # ... but divided by ten, the most words there may be, it can until 10 log 0.6 > log 0.4 + (t - 1) log 0.4.
        ({"length_penalty": "average"}, 6),
        # A second sentence is still to come: it ends where the limit is.
        ({"nbest": 2}, 10),
    ],
    ids=str,
)
def test_the_search_ends_once_nothing_can_outrank_what_has_ended(options, steps):
    """EOS at once, or word 4 again and again."""
    table = [[0.2] * 6, [0, 0, 0.6, 0, 0.4, 0], [0.2] * 6, [0.2] * 6, [0, 0, 0.3, 0, 0.4, 0.3], [0.2] * 6]
    step, asked = table_step(table), []

    def watched(*args):
        asked.append(1)
        return step(*args)

    found = search(watched, *ONE, SearchOptions(beam=2, max_length=9, **options))
    assert world.sentences(found, 0)[0] == (EOS,)
    assert len(asked) == steps


def test_equals_are_told_apart_by_id():
    flat = torch.zeros(40)

    def even(tokens, state, memory):
        return Step(flat.expand(len(tokens), -1).clone(), state, None)

    found = search(even, *ONE, SearchOptions(beam=3, nbest=3, max_length=1, min_length=1))
    assert world.sentences(found, 0) == [(4, EOS), (5, EOS), (6, EOS)]


def test_the_coverage_penalty_leaves_padding_out():
    options = SearchOptions(beam=4, nbest=2, max_length=4, coverage_beta=1.0)

    def padded(tokens, state, memory):
        logits, state, attention = world.step(tokens, state, {"example": memory["example"]})
        return Step(logits, state, torch.nn.functional.pad(attention, (0, 2)))

    memory, state = world.condition(EXAMPLES)
    mask = torch.tensor([[True] * world.PLACES + [False] * 2] * len(EXAMPLES))
    found = search(padded, memory, state, options, mask=mask)
    torch.testing.assert_close(found.scores, run(options).scores)
    assert search(padded, memory, state, options).scores.max() < -50


def test_where_the_rules_leave_nothing_to_say_there_is_no_hypothesis():
    found = run(SearchOptions(beam=2, nbest=2, max_length=9, min_length=5, no_repeat_ngram=1), EXAMPLES[:2])
    assert found.lengths.tolist() == [[0, 0], [0, 0]]
    assert (found.scores == -torch.inf).all()
    assert found.tokens.shape == (2, 2, 0)


def test_an_ensemble_of_two_is_their_mean():
    first = torch.tensor(TRAP)
    second = first[:, torch.tensor([0, 1, 2, 3, 5, 4])]
    parts = ONE[0], {"memory": torch.ones(1, 1)}
    states = {"state": torch.zeros(1, 1)}, {"other": torch.zeros(1, 1)}
    both = ensemble(table_step(first.tolist()), table_step(second.tolist()))
    options = SearchOptions(beam=4, nbest=4, max_length=3)
    found = search(both, join(parts), join(states), options)
    expected = search(table_step(((first + second) / 2).tolist()), *ONE, options)
    assert torch.equal(found.tokens, expected.tokens)
    torch.testing.assert_close(found.scores, expected.scores)


def test_an_ensemble_follows_the_states_and_attention_of_its_models():
    memory, state = world.condition(EXAMPLES)
    options = SearchOptions(beam=3, nbest=3, max_length=5, attention=True)
    found = search(ensemble(world.step, world.step), join([memory] * 2), join([state] * 2), options)
    alone = run(options)
    assert torch.equal(found.tokens, alone.tokens)
    torch.testing.assert_close(found.attention, alone.attention)


def test_an_ensemble_refuses_two_vocabularies():
    steps = table_step(TRAP), table_step([[0.2] * 7] * 7)
    with pytest.raises(ValueError, match=r"\[6, 7\] words"):
        search(ensemble(*steps), join([ONE[0]] * 2), join([ONE[1]] * 2), SearchOptions())


def test_a_coverage_penalty_needs_attention():
    with pytest.raises(ValueError, match="coverage_beta needs attention"):
        search(table_step(TRAP), *ONE, SearchOptions(coverage_beta=0.2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam": 0}, "beam is 0"),
        ({"beam": 2, "nbest": 3}, "nbest is 3"),
        ({"min_length": 30}, "min_length is 30"),
        ({"length_penalty": "mean"}, "none, average, gnmt"),
        ({"alpha": -1}, "alpha is -1"),
        ({"blocked": (EOS,)}, "cannot have EOS"),
        ({"samples": 2, "temperature": 0}, "temperature is 0"),
        ({"samples": 2, "top_p": 1.5}, "top_p 1.5"),
        ({"samples": 2, "beam": 2}, "mean nothing to samples"),
        ({"temperature": 0.5}, "mean nothing without samples"),
        ({"coverage_beta": math.nan}, "coverage_beta is nan"),
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SearchOptions(**options)
