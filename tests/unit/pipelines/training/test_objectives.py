"""Recipes with an objective of their own: what they refuse, where they begin, and that they go on bit for bit."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from pipelines.config.recipe import read_recipe
from pipelines.errors import UserError
from pipelines.files.jsonl import read_lines
from pipelines.training.data.start_model import start_of
from pipelines.training.data.task import prepare
from pipelines.training.objectives import step_arguments
from rnncond.checkpoint import ModelError, load, save
from rnncond.objectives import ScheduledSampling, SelfCritical
from rnncond.rewards import CiderD, gleu
from rnncond.text.special_tokens import PAD
from tests.worlds.engine import without_ray
from tests.worlds.training import TINY, learner, learner_of, make_world, resumed_equals_unbroken, tiny_recipe
from tests.worlds.translator import PAIRS, make_translator, write_text

pytestmark = pytest.mark.heavy

SAMPLING = (
    "training.objective.kind=scheduled_sampling",
    "training.objective.decay.kind=linear",
    "training.objective.decay.c=0.1",
)
CRITICAL = ("training.objective.kind=self_critical", "training.objective.samples=3")
STEPS = ("training.checkpoint_steps=2", "model.dropout=0.5")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def begun(world, tmp_path_factory):
    """The folder of a run of three epochs of cross-entropy."""
    folder = tmp_path_factory.mktemp("begun") / "run"
    made = learner(world, folder, "model.dropout=0.5")
    made.run()
    made.sink.close()
    return folder


def overrides(kind, begun):
    return {
        "scheduled_sampling": (*SAMPLING, *STEPS),
        "self_critical": (*CRITICAL, *STEPS, f"training.start_from={begun}"),
        "mixed": (*CRITICAL, *STEPS, f"training.start_from={begun}", "training.objective.cross_entropy=0.5",
                  "training.objective.baseline=others", "training.objective.reward=GLEU"),
        "cross_entropy": (*STEPS, f"training.start_from={begun}"),
    }[kind]  # fmt: skip


@pytest.mark.parametrize("kind", ["scheduled_sampling", "self_critical", "mixed", "cross_entropy"])
def test_interrupted_and_resumed_equals_unbroken_bit_for_bit(world, begun, tmp_path, kind):
    settings = overrides(kind, begun)
    _, lines = resumed_equals_unbroken(lambda out: learner(world, out, *settings), tmp_path, [4])
    assert ("train_loss" in lines[0]) == (kind != "self_critical")
    assert ("reward" in lines[0]) == ("baseline" in lines[0]) == (kind in ("self_critical", "mixed"))


def test_it_begins_with_the_weights_and_the_vocabulary_of_the_start(world, begun, tmp_path):
    start = load(begun / "best")
    made = learner(world, tmp_path, *overrides("self_critical", begun), "text.min_count=2")
    assert made.vocabulary == start.vocabulary
    for name, tensor in start.model.state_dict().items():
        assert torch.equal(made.model.state_dict()[name], tensor)


def test_captions_are_worth_their_cider_among_all_training_images(world, begun, tmp_path):
    made = learner(world, tmp_path, *overrides("self_critical", begun))
    assert isinstance(made.objective, SelfCritical)
    assert isinstance(made.objective.reward, CiderD)
    assert made.objective.reward.unseen == pytest.approx(math.log(18))
    batch = next(made.train.epoch(1))
    images = len(batch.examples)
    captions = (batch.tokens[:, 1:] != PAD).any(1).view(images, -1).sum(1)
    # All captions of an image are its references, whatever captions_per_image says.
    assert captions.tolist() == np.diff(made.task.train.first)[batch.examples].tolist()
    assert captions.max() == 3


def test_self_critical_training_raises_the_reward(world, begun, tmp_path):
    made = learner(
        world, tmp_path, *CRITICAL, f"training.start_from={begun}", "model.dropout=0.5",
        "training.epochs=25", "training.validate_every=25", "training.learning_rate=0.02",
    )  # fmt: skip
    made.run()
    rewards = [line["reward"] for line in read_lines(tmp_path / "metrics.jsonl")]
    assert np.mean(rewards[-3:]) > 2 * np.mean(rewards[:3])


def test_gold_words_become_rarer_with_the_steps(world, tmp_path):
    made = learner(world, tmp_path, *SAMPLING, "training.objective.decay.lowest=0.25")
    assert isinstance(made.objective, ScheduledSampling)
    found = [step_arguments(made.settings, step) for step in (0, 1, 5, 50)]
    assert found == [(1.0,), pytest.approx((0.9,)), (0.5,), (0.25,)]


def test_the_resolved_recipe_is_a_recipe(world, begun, tmp_path, monkeypatch):
    monkeypatch.chdir(begun.parent)
    for name, settings in (("critical", overrides("self_critical", "run")), ("sampling", SAMPLING)):
        recipe = tiny_recipe(world, tmp_path, *settings)
        file = tmp_path / f"{name}.yaml"
        file.write_text(recipe.to_yaml())
        assert read_recipe(str(file)) == recipe
    assert recipe.training.objective.decay.c == 0.1
    assert tiny_recipe(world, tmp_path, *overrides("self_critical", "run")).training.start_from == str(begun)
    uri = tiny_recipe(world, tmp_path, *CRITICAL, "training.start_from=models:/captioner@champion")
    assert uri.training.start_from == "models:/captioner@champion"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (CRITICAL, "training: objective.kind is self_critical, but start_from names no model"),
        (["training.objective.kind=self_critcal"],
         "training.objective.kind: found 'self_critcal', expected 'cross_entropy', 'scheduled_sampling', "
         "'self_critical'. Did you mean 'self_critical'"),
        (["training.objective.samples=3"], "training.objective.samples: no such key. There are kind."),
        ([*SAMPLING, "training.objective.samples=3"],
         "training.objective.samples: no such key. There are kind, decay."),
        ([*CRITICAL, "training.start_from=x", "training.objective.reward=CIDEr"],
         "training.objective.reward: found 'CIDEr', expected 'CIDEr-D', 'GLEU' or 'BLEU'. Did you mean 'CIDEr-D'"),
        ([*CRITICAL, "training.start_from=x", "training.objective.baseline=others", "training.objective.samples=1"],
         "training.objective: samples is 1; the baseline 'others' needs at least 2"),
        ([*CRITICAL, "training.start_from=x", "training.label_smoothing=0.1"],
         "training: label_smoothing is 0.1, but self_critical has labels to smooth only with objective.cross_entropy "
            "above 0. Set one of the two"),
        ([*CRITICAL, "training.start_from=x", "training.label_smoothing=0", "training.word_dropout=0.1"],
         "training: word_dropout is 0.1, but self_critical reads sentences of people only with objective.cross_entropy "
            "above 0. Set one of the two"),
        (["training.objective.kind=scheduled_sampling"], "training.objective.decay: missing"),
        ([*SAMPLING, "training.objective.decay.kind=exponential"],
         "training.objective.decay: k is 1.0; for exponential it must be above 0 and below 1"),
        ([*SAMPLING, "training.objective.decay.slope=3"],
         "training.objective.decay.slope: no such key. There are kind, k, c, lowest"),
        (["training.objective=self_critical"], "training.objective: found 'self_critical', expected"),
    ],
)  # fmt: skip
def test_what_the_objective_has_no_use_for_is_refused(world, tmp_path, settings, message):
    with pytest.raises(UserError) as caught:
        tiny_recipe(world, tmp_path, *settings)
    assert message in str(caught.value)


def test_a_translators_reward_is_none_of_captions():
    files = [f"data.{side}=x" for side in ("source", "target", "validation_source", "validation_target")]
    objective = ("training.objective.kind=self_critical", "training.start_from=x", "training.label_smoothing=0")
    assert read_recipe("encdec.small", [*files, *objective]).training.objective.reward == "GLEU"
    with pytest.raises(UserError, match=r"training.objective.reward: found 'CIDEr-D', expected 'GLEU' or 'BLEU'"):
        read_recipe("encdec.small", [*files, *objective, "training.objective.reward=CIDEr-D"])


@pytest.mark.parametrize(
    ("settings", "recipe", "parts"),
    [
        (["model.hidden=9", "model.dropout=0.5", "text.lowercase=false"], "show_tell.small",
         ["does not fit", "model.hidden: 8 there, 9 here", "text.lowercase: True there, False here", "recipe.yaml"]),
        ([], "show_attend_tell.small", ["is of the system show_tell, and the recipe of show_attend_tell"]),
    ],
)  # fmt: skip
def test_a_start_that_does_not_fit_is_refused(world, begun, tmp_path, settings, recipe, parts):
    chosen = tiny_recipe(world, tmp_path, *settings, f"training.start_from={begun}", recipe=recipe)
    with pytest.raises(UserError) as caught:
        prepare(chosen)
    assert all(part in str(caught.value) for part in parts)


def test_a_start_with_other_features_or_none_is_refused(world, begun, tmp_path):
    recipe = tiny_recipe(world, tmp_path, "model.dropout=0.5", f"training.start_from={begun}")
    features = load(begun / "best").features
    assert start_of(recipe, features).system == "show_tell"
    with pytest.raises(UserError, match=r"features' fingerprint: '[0-9a-f]+' there, 'other' here"):
        start_of(recipe, features | {"fingerprint": "other"})
    missing = tiny_recipe(world, tmp_path, f"training.start_from={tmp_path / 'nowhere'}")
    with pytest.raises(UserError, match="There is no model"):
        prepare(missing)


def test_a_damaged_start_is_refused(world, begun, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for file in (begun / "best").iterdir():
        (folder / file.name).write_bytes(file.read_bytes()[:200])
    with pytest.raises(ModelError, match="damaged"):
        prepare(tiny_recipe(world, tmp_path / "run", "model.dropout=0.5", f"training.start_from={folder}"))


def test_a_start_with_a_vocabulary_of_each_language_is_none_for_a_joint_one(tmp_path):
    start = make_translator(None, "encdec")
    start.info["recipe"]["text"]["joint"] = False
    save(start, tmp_path)
    files = [f"data.{side}=x" for side in ("source", "target", "validation_source", "validation_target")]
    recipe = read_recipe("encdec.small", [*files, f"training.start_from={tmp_path}"])
    with pytest.raises(UserError, match=r"text\.joint: False there, True here"):
        start_of(recipe)
    start.info["recipe"]["text"]["joint"] = True
    save(start, tmp_path)
    with pytest.raises(UserError, match="does not fit") as caught:
        start_of(recipe)
    assert "joint" not in str(caught.value)


def test_a_translator_resumes_from_its_run_with_gleu(tmp_path):
    sides = [write_text(tmp_path / name, lines) for name, lines in (("en", PAIRS), ("de", PAIRS.values()))]
    data = [f"data.{part}{side}={file}" for part in ("", "validation_")
            for side, file in zip(("source", "target"), sides, strict=True)]  # fmt: skip
    sizes = [
        "model.embedding=8",
        "model.hidden=8",
        "model.layers=1",
        "text.level=word",
        f"data.store={tmp_path / 'tokens'}",
    ]
    settings = [*data, *sizes, *(key for key in TINY if key.startswith("training") and "image" not in key)]

    def made(out, *more):
        return learner_of(read_recipe("encdec.small", [*settings, *more], str(tmp_path / out)))

    with without_ray():
        first = made("first")
        first.run()
        second = made("second", *CRITICAL, f"training.start_from={tmp_path / 'first'}", "training.label_smoothing=0")
    assert second.objective.reward is gleu
    assert second.vocabulary == first.vocabulary
    second.run()
    line = read_lines(tmp_path / "second" / "metrics.jsonl")[-1]
    assert 0 <= line["reward"] <= 1
    assert json.loads((tmp_path / "second" / "last" / "model.json").read_text())["info"]["reward"] == line["reward"]
