"""Several models as one: the mean of their probabilities, and a state and a memory of their own for each."""

from __future__ import annotations

import pytest
import torch

from rnncond.contract import Step
from rnncond.search import SearchOptions, ensemble, join, search
from rnncond.search.ensemble import mean_attention, split
from tests.worlds import search as world


def test_an_ensemble_of_two_is_their_mean():
    first = torch.tensor(world.TRAP)
    second = first[:, torch.tensor([0, 1, 2, 3, 5, 4])]
    parts = world.ONE[0], {"memory": torch.ones(1, 1)}
    states = {"state": torch.zeros(1, 1)}, {"other": torch.zeros(1, 1)}
    both = ensemble(world.table_step(first.tolist()), world.table_step(second.tolist()))
    options = SearchOptions(beam=4, nbest=4, max_length=3)
    found = search(both, join(parts), join(states), options)
    expected = search(world.table_step(((first + second) / 2).tolist()), *world.ONE, options)
    assert torch.equal(found.tokens, expected.tokens)
    torch.testing.assert_close(found.scores, expected.scores)


def test_an_ensemble_follows_the_states_and_attention_of_its_models():
    memory, state = world.condition(world.EXAMPLES)
    options = SearchOptions(beam=3, nbest=3, max_length=5, attention=True)
    found = search(ensemble(world.step, world.step), join([memory] * 2), join([state] * 2), options)
    alone = world.run(options)
    assert torch.equal(found.tokens, alone.tokens)
    torch.testing.assert_close(found.attention, alone.attention)


def test_an_ensemble_refuses_two_vocabularies():
    steps = world.table_step(world.TRAP), world.table_step([[0.2] * 7] * 7)
    with pytest.raises(ValueError, match=r"\[6, 7\] words"):
        search(ensemble(*steps), join([world.ONE[0]] * 2), join([world.ONE[1]] * 2), SearchOptions())


def test_what_is_joined_can_be_split():
    """Names that begin alike, that have dots, and more models than a digit counts."""
    parts = [{"h": torch.tensor(number), f"h.{number}": torch.tensor(-number)} for number in range(12)]
    assert split(join(parts), 12) == parts


def test_attention_is_the_mean_where_all_models_look_at_the_same_places():
    def of(weights):
        return Step(torch.zeros(1, 1), {}, None if weights is None else torch.tensor(weights))

    mean = mean_attention([of([[0.2, 0.8]]), of([[0.6, 0.4]])])
    torch.testing.assert_close(mean, torch.tensor([[0.4, 0.6]]))
    assert mean_attention([of([[0.2, 0.8]]), of(None)]) is None
    assert mean_attention([of([[0.2, 0.8]]), of([[0.2, 0.3, 0.5]])]) is None
