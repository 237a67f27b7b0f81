"""Beam search against enumeration, against its definition, and against tables whose answers are known by hand."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from rnncond.contract import Step
from rnncond.search import SearchOptions, search
from rnncond.text.special_tokens import EOS, UNK
from tests.worlds import search as world


@st.composite
def scoring(draw):
    rank = {"length_penalty": draw(st.sampled_from(["none", "average", "gnmt"]))}
    rank |= {"alpha": draw(st.sampled_from([0.0, 0.2, 0.9, 1.4]))}
    return rank | {"coverage_beta": draw(st.sampled_from([0.0, 0.2, 0.7, 1.5]))}


@st.composite
def constraints(draw, longest: int):
    blocked = draw(st.sampled_from([(), (UNK,), (UNK, 4), (UNK, 5), (UNK, 4, 5, 6)]))
    lengths = {"max_length": draw(st.integers(1, longest)), "blocked": blocked}
    lengths |= {"min_length": draw(st.integers(0, lengths["max_length"]))}
    return lengths | {"no_repeat_ngram": draw(st.integers(0, 3))}


inputs = st.lists(st.sampled_from([number / 16 for number in range(97)]), min_size=1, max_size=3)


def agrees(hypotheses, examples: list[float], expected: list[list[world.Scored]], nbest: int) -> None:
    """The sentences, scores and log-probabilities of each example are the ``nbest`` first that are ``expected``."""
    for number, scored in enumerate(expected):
        for better, worse in pairwise(scored[: nbest + 1]):
            assume(better.score - worse.score > world.MARGIN)
        missing = world.Scored(-math.inf, -math.inf, ())
        best = [*scored, *[missing] * nbest][:nbest]
        assert world.sentences(hypotheses, number) == [one.words for one in best]
        for found, name in ((hypotheses.scores, "score"), (hypotheses.log_probs, "log_prob")):
            wanted = torch.tensor([getattr(one, name) for one in best])
            torch.testing.assert_close(found[number], wanted, rtol=1e-4, atol=1e-4)


@given(examples=inputs, nbest=st.integers(1, 6), rank=scoring(), rules=constraints(3))
def test_a_beam_that_holds_everything_finds_the_best_of_all_sentences(examples, nbest, rank, rules):
    """At most 4 + 16 + 64 sentences of up to three words, and EOS alone: all fit into a beam of 90."""
    options = SearchOptions(beam=90, nbest=nbest, **rank, **rules)
    expected = [world.enumerate_all(example, options) for example in examples]
    agrees(world.run(options, examples), examples, expected, nbest)


@given(examples=inputs, beam=st.integers(1, 6), rank=scoring(), rules=constraints(6), data=st.data())
def test_a_narrow_beam_is_the_plain_definition(examples, beam, rank, rules, data):
    options = SearchOptions(beam=beam, nbest=data.draw(st.integers(1, beam)), **rank, **rules)
    expected = [world.beam_search(example, options) for example in examples]
    agrees(world.run(options, examples), examples, expected, options.nbest)


def test_greedy_takes_the_most_probable_word_each_time():
    for example in world.EXAMPLES:
        words = ()
        while EOS not in words:
            following, _ = world.log_probs_after(example, words)
            choices = range(EOS, world.VOCAB) if len(words) < 8 else [EOS]
            words = (*words, max((word for word in choices if word != UNK), key=following.__getitem__))
        assert world.sentences(world.run(SearchOptions(max_length=8), [example]), 0) == [words]


@given(
    examples=st.lists(st.floats(0, 6, width=16), min_size=1, max_size=12),
    beam=st.integers(1, 4),
    rank=scoring(),
    rules=constraints(5),
)
def test_the_other_examples_of_a_batch_change_nothing(examples, beam, rank, rules):
    options = SearchOptions(**{"beam": beam, "nbest": beam, "attention": True, **rank, **rules})
    together = world.run(options, examples)
    for number, example in enumerate(examples):
        alone = world.run(options, [example])
        assert world.sentences(together, number) == world.sentences(alone, 0)
        torch.testing.assert_close(together.scores[number], alone.scores[0])
        longest = alone.tokens.shape[2]
        torch.testing.assert_close(together.attention[number, :, :longest], alone.attention[0])
        assert not together.attention[number, :, longest:].any()


def test_the_memory_is_neither_changed_nor_expanded():
    memory, state = world.condition(world.EXAMPLES)
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


def test_a_beam_escapes_the_trap_that_greed_falls_into():
    greedy = search(world.table_step(world.TRAP), *world.ONE, SearchOptions(max_length=3))
    assert world.sentences(greedy, 0) == [(4, EOS)]
    assert greedy.log_probs.item() == pytest.approx(math.log(0.6 * 0.5))
    beam = search(world.table_step(world.TRAP), *world.ONE, SearchOptions(beam=2, nbest=2, max_length=3))
    assert world.sentences(beam, 0) == [(5, EOS), (4, EOS)]
    assert beam.log_probs[0].tolist() == pytest.approx([math.log(0.4), math.log(0.3)])


def test_scores_by_hand():
    options = {"beam": 2, "nbest": 2, "max_length": 3}
    average = search(world.table_step(world.TRAP), *world.ONE, SearchOptions(**options, length_penalty="average"))
    assert average.scores[0, 0].item() == pytest.approx(math.log(0.4) / 2)
    gnmt = search(world.table_step(world.TRAP), *world.ONE, SearchOptions(**options, length_penalty="gnmt", alpha=0.5))
    assert gnmt.scores[0, 0].item() == pytest.approx(math.log(0.4) / math.sqrt(7 / 6))


def test_a_hypothesis_that_can_still_win_is_waited_for():
    """EOS at once scores log 0.3 = -1.20; word 4, then EOS for certain, log 0.2 / 2 = -0.80, though it starts worse."""
    table = [[0.2] * 6, [0.5, 0, 0.3, 0, 0.2, 0], [0.2] * 6, [0.2] * 6, [0, 0, 1.0, 0, 0, 0], [0.2] * 6]
    options = SearchOptions(beam=2, max_length=1, length_penalty="average")
    assert world.sentences(search(world.table_step(table), *world.ONE, options), 0) == [(4, EOS)]


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
    step, asked = world.table_step(table), []

    def watched(*args):
        asked.append(1)
        return step(*args)

    found = search(watched, *world.ONE, SearchOptions(beam=2, max_length=9, **options))
    assert world.sentences(found, 0)[0] == (EOS,)
    assert len(asked) == steps


def test_equals_are_told_apart_by_id():
    flat = torch.zeros(40)

    def even(tokens, state, memory):
        return Step(flat.expand(len(tokens), -1).clone(), state, None)

    found = search(even, *world.ONE, SearchOptions(beam=3, nbest=3, max_length=1, min_length=1))
    assert world.sentences(found, 0) == [(4, EOS), (5, EOS), (6, EOS)]


def test_the_coverage_penalty_leaves_padding_out():
    options = SearchOptions(beam=4, nbest=2, max_length=4, coverage_beta=1.0)

    def padded(tokens, state, memory):
        logits, state, attention = world.step(tokens, state, {"example": memory["example"]})
        return Step(logits, state, torch.nn.functional.pad(attention, (0, 2)))

    memory, state = world.condition(world.EXAMPLES)
    mask = torch.tensor([[True] * world.PLACES + [False] * 2] * len(world.EXAMPLES))
    found = search(padded, memory, state, options, mask=mask)
    torch.testing.assert_close(found.scores, world.run(options).scores)
    assert search(padded, memory, state, options).scores.max() < -50


def test_where_the_rules_leave_nothing_to_say_there_is_no_hypothesis():
    found = world.run(SearchOptions(beam=2, nbest=2, max_length=9, min_length=5, no_repeat_ngram=1), world.EXAMPLES[:2])
    assert found.lengths.tolist() == [[0, 0], [0, 0]]
    assert (found.scores == -torch.inf).all()
    assert found.tokens.shape == (2, 2, 0)


def test_a_coverage_penalty_needs_attention():
    with pytest.raises(ValueError, match="coverage_beta needs attention"):
        search(world.table_step(world.TRAP), *world.ONE, SearchOptions(coverage_beta=0.2))
