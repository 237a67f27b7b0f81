"""The model that a run starts from has to fit the recipe."""

from __future__ import annotations

import pytest

from pipelines.errors import UserError
from pipelines.training.data.start_model import reward_of, start_of
from tests.worlds.training import learner, make_world, tiny_recipe


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """The overrides of a world, and a run of one epoch in it."""
    folder = tmp_path_factory.mktemp("begun")
    world = make_world(folder)
    made = learner(world, folder / "run", "training.epochs=1")
    made.run()
    return world, folder / "run", made.task


@pytest.mark.heavy
def test_the_model_and_its_vocabulary_are_those_of_the_run(begun, tmp_path):
    world, run, task = begun
    assert start_of(tiny_recipe(world, tmp_path)) is None
    start = start_of(tiny_recipe(world, tmp_path, f"training.start_from={run}"), task.features)
    assert start.vocabulary.to_json() == task.vocabulary


def test_all_differences_are_told_at_once(begun, tmp_path):
    world, run, task = begun
    start = f"training.start_from={run}"
    recipe = tiny_recipe(world, tmp_path, start, "model.hidden=9", "text.lowercase=false")
    with pytest.raises(UserError) as caught:
        start_of(recipe, task.features | {"output": "grid"})
    lines = str(caught.value).splitlines()
    assert [line for line in lines if " there, " in line] == [
        "  model.hidden: 8 there, 9 here",
        "  text.lowercase: True there, False here",
        "  features' output: 'pooled' there, 'grid' here",
    ]
    other = tiny_recipe(world, tmp_path, start, recipe="show_attend_tell.small")
    with pytest.raises(UserError, match="of the system show_tell, and the recipe of show_attend_tell"):
        start_of(other)


def test_only_self_critical_training_has_a_reward(begun, tmp_path):
    world, run, _ = begun
    with pytest.raises(ValueError, match="cross_entropy, which has no reward"):
        reward_of(tiny_recipe(world, tmp_path))
    critical = ("training.objective.kind=self_critical", "training.objective.reward=GLEU")
    assert reward_of(tiny_recipe(world, tmp_path, f"training.start_from={run}", *critical)) == "GLEU"
