"""What a training will take, by some steps of it."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from pipelines.config.recipe import read_recipe
from pipelines.config.training_sections import CaptionTraining
from pipelines.errors import UserError
from pipelines.files.jsonl import read_lines
from pipelines.training.data.task import prepare
from pipelines.training.dry_run import (
    MEASURED,
    WARM_UP,
    Measured,
    MeasuringLearner,
    Took,
    between,
    cost,
    error_of_mean,
    startup,
    temporary_data,
)
from pipelines.training.run.folder import RunFolder
from pipelines.verbs import train
from tests.worlds import corpora
from tests.worlds.training import TINY, learner_of, make_world, tiny_recipe


def measured(**changes) -> Measured:
    values = {
        "begun": 110.0, "warm_up": Took(9.0, 9.0), "steps": [Took(1.0, 0.5), Took(3.0, 1.5)], "words": 100.0,
        "steps_per_epoch": 10, "validations": [Took(4.0, 1.0)], "batches_per_validation": 3, "scores": Took(2.0, 1.0),
        "checkpoint": Took(1.0, 0.5), "state_bytes": 1000, "model_bytes": 100, "memory": 5, "gpu_memory": 0,
    }  # fmt: skip
    return Measured(**(values | changes))


def test_a_training_takes_its_steps_validations_and_checkpoints():
    """An epoch has 10 steps of 2 s, a validation 3 batches of 4 s and 2 s for the scores, a checkpoint takes 1 s; of 5
    epochs the second, the fourth and the last are validated."""
    training = CaptionTraining(epochs=5, validate_every=2)
    needed = cost(measured(), training, 5)
    assert needed.seconds == 5 * 10 * 2 + 3 * (3 * 4 + 2) + 5 * 1
    assert needed.processor == 5 * 10 * 1 + 3 * (3 * 1 + 1) + 5 * 0.5
    assert needed.written == 5 * 1000 + (5 + 3) * 100
    assert needed.kept == 2 * 1000 + 2 * 100  # two checkpoints; best/ and last/
    # The steps' standard deviation is the square root of 2, the error of their mean 1; one batch says nothing: 4.
    assert needed.error == pytest.approx(math.hypot(5 * 10 * 1, 3 * 3 * 4))


def test_checkpoints_within_epochs_and_averaged_models():
    """Of 10 steps three end with a checkpoint within the epoch: 3, 6 and 9. Five models of the history, averaged/,
    best/ and last/ are kept."""
    training = CaptionTraining(epochs=5, checkpoint_steps=3, average_last=5)
    needed = cost(measured(), training, 5)
    assert needed.written == 5 * 4 * 1000 + 10 * 100
    assert needed.kept == 2 * 1000 + 8 * 100


def test_the_bounds_are_students():
    assert error_of_mean([1.0, 3.0]) == pytest.approx(1.0)
    assert between(100.0, 2.0, 9) == pytest.approx((100, 100 - 2 * 2.31, 100 + 2 * 2.31))
    assert between(1.0, 2.0, 2).low == 0


def test_the_start_is_what_comes_before_the_steps_and_what_the_first_take_more():
    assert startup(measured(), 100.0) == pytest.approx(110 - 100 + 9 - WARM_UP * 2)
    assert startup(measured(warm_up=Took(1.0, 1.0)), 100.0) == pytest.approx(10)


def test_a_learner_measures_what_a_training_does(tmp_path):
    """The sizes are those of the files that a real training of one epoch leaves."""
    recipe = tiny_recipe(make_world(tmp_path), tmp_path / "dry", "training.epochs=1")
    folder = RunFolder(recipe.out)
    folder.open(recipe.to_yaml(), {})
    MeasuringLearner(prepare(recipe)[0], folder, sample=4).run()
    taken = Measured.read(tmp_path / "dry" / MEASURED)
    real = learner_of(tiny_recipe(make_world(tmp_path / "w"), tmp_path / "real", "training.epochs=1"))
    real.run()
    assert taken.steps_per_epoch == real.steps and taken.batches_per_validation == real.validation.steps
    assert len(taken.steps) == 4 and taken.words > 0 and taken.memory > 2**20
    line = read_lines(tmp_path / "real" / "metrics.jsonl")[0]
    assert line["step"] == real.steps

    def size(path):
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file() and file.name != "sha256.json")

    # What the files say of the way to them, numbers in JSON, differs by some digits.
    assert taken.state_bytes == pytest.approx(size(tmp_path / "real" / "checkpoints"), abs=200)
    assert taken.model_bytes == pytest.approx(size(tmp_path / "real" / "best"), abs=1000)


def test_text_is_tokenised_elsewhere_and_features_are_read_where_they_are(tmp_path):
    recipe = tiny_recipe(make_world(tmp_path), tmp_path / "run")
    with temporary_data(recipe, None) as same:
        assert same is recipe
    text = read_recipe("encdec_attention.small", [*corpora.make_text(tmp_path), *corpora.TINY], str(tmp_path / "t"))
    with temporary_data(text, None) as moved:
        place = moved.data.store
        assert place != text.data.store and moved.data.source == text.data.source
    assert not os.path.exists(place)


def test_a_price_is_for_a_dry_run(tmp_path):
    with pytest.raises(UserError, match="--price-per-hour is for --dry-run"):
        train.run("show_tell.small", [], price_per_hour="1 USD")
    with pytest.raises(UserError, match="expected an amount with its currency"):
        train.run("show_tell.small", [], price_per_hour="1", dry_run=True)


def test_a_folder_of_another_run_is_tried_all_the_same(without_ray, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [*make_world(tmp_path), *TINY, "cluster.threads=1"]
    recipe = read_recipe("show_tell.small", [*words, "seed=7"], "run")
    other = Path("run")
    other.mkdir()
    (other / "recipe.yaml").write_text(recipe.to_yaml())
    (other / "run.json").write_text('{"schema": 1, "status": "finished", "data_id": "x"}')
    (other / "metrics.jsonl").write_text('{"epoch": 3}\n')
    before = sorted(tmp_path.rglob("*"))
    outcome = train.run("show_tell.small", words, out="run", dry_run=True, sample=1, limit=8)
    assert sorted(tmp_path.rglob("*")) == before and outcome.code == 0
    assert outcome.summary["already done"] == 0 and outcome.summary["hours"] > 0
    assert "would be refused" in outcome.hint and "seed: was 7, is 1" in outcome.hint
    assert "Choose another --out, or give --restart" in outcome.hint
    (other / "recipe.yaml").write_text(read_recipe("show_tell.small", [*words, "data.train_images=8"], "run").to_yaml())
    (other / "metrics.jsonl").write_text('{"epoch": 1}\n')
    outcome = train.run("show_tell.small", words, out="run", dry_run=True, sample=1, limit=8)
    assert outcome.summary["already done"] == 0 and "begun with other data" in outcome.hint


def test_a_dry_run_keeps_nothing_and_says_what_a_training_takes(without_ray, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [*make_world(tmp_path), *TINY, "cluster.threads=1"]
    before = sorted(tmp_path.rglob("*"))
    outcome = train.run("show_tell.small", words, out="run", dry_run=True, sample=2, limit=8, price_per_hour="3600 USD")
    shown = outcome.summary  # of 8 images two have 3 captions, and come twice with 2 of them: 10 to 4 a step
    assert sorted(tmp_path.rglob("*")) == before
    assert (shown["images"], shown["epochs"], shown["steps an epoch"], shown["steps tried"]) == (8, 3, 3, 2)
    assert shown["hours"] > 0 and shown["gigabytes of memory per worker"] > 0.1 and "Nothing was kept" in outcome.hint
    amount = float(shown["price"].split()[0])
    assert amount == pytest.approx(3600 * shown["hours"], rel=0.01, abs=0.4)  # the hours shown are rounded
