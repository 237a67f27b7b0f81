"""What a search may vary, how it draws, and what it refuses before anything starts."""

from __future__ import annotations

import math

import numpy as np
import pytest
import yaml

from pipelines.config.choices import recipe_names
from pipelines.config.dotted import flat
from pipelines.config.recipe import load, read_recipe
from pipelines.config.search_space import read_search
from pipelines.errors import UserError

DATA = ("data.store=features", "data.captions=captions.jsonl")
RATE = "tune.space.training.learning_rate={log: [1e-4, 1e-2]}"
SHARES = np.linspace(0, 1, 1001)[:-1]


def search_of(*overrides, out=None):
    return read_search("show_tell.small", [*DATA, "tune=null", "tune={trials: 4}", *overrides], out)


def test_trials_have_the_values_of_the_space_and_nothing_else_of_their_own():
    search = search_of(RATE, "tune.space.model.hidden={uniform: [8, 32], step: 8}", "tune.metric=loss", out="found")
    params = search.drawn(2)
    assert params == search.drawn(2) != search.drawn(3)
    assert params["model.hidden"] in (8, 16, 24, 32)
    before, after = (dict(flat(recipe.model_dump())) for recipe in (search.recipe, search.recipe_of(params, "there")))
    changed = {key: after[key] for key in after if after[key] != before[key]}
    assert changed == {**params, "out": "there"}
    assert (search.metric, after["training.early_stopping.metric"]) == ("loss", "loss")
    assert not any(key.startswith("tune") for key in after)


def test_a_grid_has_every_combination_once():
    search = search_of("tune={algorithm: grid, space: {model.hidden: [8, 16], search.beam: [1, 2, 3]}}")
    assert search.count() == 6
    assert sorted((point["model.hidden"], point["search.beam"]) for point in search.grid()) == [
        (8, 1), (8, 2), (8, 3), (16, 1), (16, 2), (16, 3),
    ]  # fmt: skip


def test_a_population_explores_beside_the_best_and_sometimes_anew():
    learning_rate = "training.learning_rate"
    search = search_of(RATE, "tune.algorithm=pbt", "tune.pbt.resample=0.5")
    chance = np.random.default_rng(0)
    found = [search.beside({learning_rate: 1e-3}, chance)[learning_rate] for _ in range(400)]
    near = [value for value in found if any(math.isclose(value, 1e-3 * factor) for factor in (0.8, 1.2))]
    assert 160 < len(near) < 240
    assert all(1e-4 <= value <= 1e-2 for value in found)


def test_values_can_be_given_and_taken_away_on_the_command_line():
    search = search_of(
        "tune.space={training.learning_rate: {log: [1e-4, 1e-2]}, model.hidden: [8, 16], model.dropout: [0, 0.1]}",
        "tune.space.model.hidden=[32]", "tune.space.model.dropout=null",
    )  # fmt: skip
    assert set(search.settings.space) == {"training.learning_rate", "model.hidden"}
    assert search.settings.space["model.hidden"].choices == [32]


def test_the_saved_search_is_a_recipe_that_gives_it_again(tmp_path):
    search = search_of(RATE, "tune.space.model.hidden=[8, 16]", "tune.asha={}", "seed=7", out=str(tmp_path / "found"))
    (tmp_path / "search.yaml").write_text(search.to_yaml())
    again = read_search(str(tmp_path / "search.yaml"))
    assert again.recipe == search.recipe and again.settings == search.settings
    assert again.drawn(3) == search.drawn(3)
    trained = read_recipe(str(tmp_path / "search.yaml"))
    assert trained == search.recipe and trained.tune is None
    assert "tune" not in yaml.safe_load(trained.to_yaml())


@pytest.mark.parametrize(
    ("overrides", "messages"),
    [
        ([], ["tune.space: missing"]),
        (["tune=null"], ["has no section tune", "tune.space.training.learning_rate={log:"]),
        ([RATE, "tune.trails=3"], ["tune.trails: no such key", "Did you mean 'trials'"]),
        (["tune.space.training.lerning_rate=[1]"], ["training.lerning_rate: no such key", "'learning_rate'"]),
        (["tune.space.trainng.epochs=[1]"], ["trainng: no such key", "Did you mean 'training'"]),
        (["tune.space.model.hidden={unform: [1, 2]}"], ["tune.space.model.hidden.unform: no such key", "'uniform'"]),
        (["tune.space.model.hidden=3"], ["found 3, expected a list of choices, or one of uniform"]),
        (["tune.space.model.hidden={step: 2}"], ["found no values, expected a list of choices"]),
        (["tune.space.model.hidden={uniform: [9, 3]}"], ["uniform is [9, 3], expected the lower number first"]),
        (["tune.space.model.dropout={log: [0, 0.5]}"], ["log is [0, 0.5], expected", "above zero"]),
        (["tune.space.model.hidden={uniform: [8, 16]}"], ["model.hidden: found 11.", "expected a whole number"]),
        (["tune.space.model.dropout={uniform: [0, 1.5]}"], ["dropout is 1.5", "(model.dropout=1.5)"]),
        (["tune.space.model.hidden=[8, 0]", RATE], ["hidden is 0", "model.hidden=0, training.learning_rate=0.0001"]),
        (["tune.space.training.schedule.kind=[constant, gnmt]"], ["decay_every: missing", "(training.schedule.kind="]),
        (["tune.space.data.memory_gb=[1, 2]"], ["data.memory_gb cannot be searched over"]),
        (["tune.space.text.min_count=[1, 2]"], ["text.min_count cannot be searched over"]),
        ([RATE, "tune.metric=ROUGE"], ["tune.metric: found 'ROUGE', expected 'CIDEr', 'BLEU-4' or 'loss'"]),
        ([RATE, "tune.trials=null"], ["trials is missing; algorithm optuna"]),
        ([RATE, "tune.algorithm=grid"], ["learning_rate has no end of values; a grid needs choices"]),
        (["tune.algorithm=grid", "tune.space.model.hidden=[8]"], ["trials is 4, but a grid", "say tune.trials=null"]),
        ([RATE, "tune.asha={}", "tune.space.training.epochs=[2, 3]"], ["equally many epochs"]),
        ([RATE, "tune.algorithm=pbt", "tune.asha={}"], ["set asha to null"]),
        ([RATE, "tune.algorithm=pbt", "tune.trials=1"], ["a population has at least 2"]),
        ([RATE, "tune.algorithm=pbt", "tune.space.model.hidden=[8, 9]"], ["model.hidden cannot change while"]),
        ([RATE, "tune.algorithm=pbt", "training.validate_every=3"], ["interval is 2, but only every 3 epochs"]),
        ([RATE, "tune.algorithm=genetic"], ["found 'genetic', expected 'random', 'grid', 'optuna' or 'pbt'"]),
    ],
)  # fmt: skip
def test_what_cannot_be_searched_is_refused(overrides, messages):
    with pytest.raises(UserError) as caught:
        search_of(*overrides)
    for message in messages:
        assert message in str(caught.value)


@pytest.mark.parametrize(
    "space",
    [
        ["tune.space.model.hiden=[8, 16]", "tune.space.training.clip={log: [1, 2]}"],
        ["tune.space={model.hiden: [8, 16], training.clip: {log: [1, 2]}}"],
    ],
    ids=["key by key", "as a whole"],
)
def test_mistakes_of_the_recipe_and_of_the_space_are_told_together(space):
    with pytest.raises(UserError) as refused:
        search_of("training.epohcs=2", *space)
    told = str(refused.value)
    assert "3 mistakes" in told
    assert all(f"{key}: no such key" in told for key in ("training.epohcs", "model.hiden", "training.clip"))


@pytest.mark.parametrize(
    ("overrides", "messages"),
    [
        (["tune.space.training.learning_rat=[1]", "tune.space.model.dropout={uniform: [0.5, 0.1]}"],
         ["learning_rat: no such key", "expected the lower number first"]),
        (["tune.space.training.learning_rate=[1e-3, fast]", "training.epochs=two"],
         ["training.learning_rate: found 'fast'", "training.epochs: found 'two'"]),
    ],
)  # fmt: skip
def test_a_mistake_in_one_dimension_does_not_hide_another(overrides, messages):
    with pytest.raises(UserError) as refused:
        search_of(*overrides)
    assert all(message in str(refused.value) for message in ["2 mistakes", *messages])


def test_values_that_fit_only_together_are_tried_together():
    tied = ["data.source=a", "data.validation_source=b", "tune.trials=2"]
    space = "tune.space={model.embedding: [128], model.hidden: [128], model.readout: [128]}"
    assert read_search("encdec_bidirectional.small", [*tied, "tune.asha=null", space]).count() == 2
    with pytest.raises(UserError, match=r"tune.space has values that no trial can have:\n.*\(model.embedding=128\)"):
        read_search("encdec_bidirectional.small", [*tied, "tune.asha=null", "tune.space={model.embedding: [128]}"])


@pytest.mark.parametrize("name", [name for name in recipe_names() if "tune" in load(name)[0]])
def test_the_searches_of_recipes_that_come_with_the_project_are_possible(name):
    text = ["data.source=a", "data.target=b", "data.validation_source=a", "data.validation_target=b"]
    search = read_search(name, text if "bidirectional" in name else DATA)
    assert search.count() >= 12 and search.settings.asha
    for number in range(20):
        search.recipe_of(search.drawn(number), "out")


def test_trials_too_short_for_asha_are_all_trained_to_their_end(capsys):
    """A small search with one epoch a trial is what one begins with."""
    words = [RATE, "tune.asha.grace_epochs=2"]
    search = search_of(*words, "training.epochs=1")
    assert search.settings.asha is None
    told = " ".join(capsys.readouterr().err.split())
    assert "No trial is given up early: tune.asha.grace_epochs is 2, and a trial has 1 epoch." in told
    assert search_of(*words, "training.epochs=3").settings.asha.grace_epochs == 2
    assert capsys.readouterr().err == ""
