import dataclasses

import pytest
import torch
from training_world import Killed, learner, make_world, without_clock

from pipelines.console import UserError
from pipelines.journal import read_lines
from pipelines.learn import Position, best_of, decide, factor
from pipelines.sections import EarlyStopping, Schedule, Training
from rnncond.checkpoint import load
from rnncond.contract import Source


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


DROPOUT = ("model.dropout=0.5", "training.checkpoint_steps=2", "training.schedule.kind=cosine")


@pytest.mark.parametrize("system", ["show_tell.small", "show_attend_tell.small"])
@pytest.mark.parametrize("lives", [1, 2, 3, 4, 5])
def test_interrupted_and_resumed_equals_unbroken_bit_for_bit(world, tmp_path, system, lives):
    whole = learner(world, tmp_path / "whole", *DROPOUT, recipe=system)
    whole.run()
    broken = learner(world, tmp_path / "broken", *DROPOUT, recipe=system)
    broken.desk.lives = lives
    with pytest.raises(Killed):
        broken.run()
    broken.desk.close()
    resumed = learner(world, tmp_path / "broken", *DROPOUT, recipe=system)
    assert resumed.position.steps > 0
    resumed.run()
    assert resumed.desk.checkpoint()["state.safetensors"] == whole.desk.checkpoint()["state.safetensors"]
    for name in ("metrics.jsonl", "samples.jsonl"):
        lines, expected = (read_lines(tmp_path / folder / name) for folder in ("broken", "whole"))
        assert without_clock(lines) == without_clock(expected)
    for name in ("best", "last"):
        assert load(tmp_path / "broken" / name).model_id == load(tmp_path / "whole" / name).model_id


def test_a_finished_run_does_nothing_more(world, tmp_path):
    first = learner(world, tmp_path)
    first.run()
    first.desk.close()
    before = first.desk.checkpoint()
    again = learner(world, tmp_path)
    again.run()
    assert again.desk.checkpoint() == before


def test_it_learns_and_says_so(world, tmp_path):
    made = learner(world, tmp_path, "training.epochs=40", "model.hidden=32", "training.learning_rate=0.02")
    made.run()
    lines = read_lines(tmp_path / "metrics.jsonl")
    assert [line["epoch"] for line in lines] == list(range(1, 41))
    assert lines[-1]["train_loss"] < 0.4 * lines[0]["train_loss"]
    best = best_of(lines, "CIDEr")
    assert best["BLEU-4"] >= 0
    trained = load(tmp_path / "best")
    assert trained.info["epoch"] == best["epoch"] == made.position.best_epoch
    assert trained.features == {
        "fingerprint": made.task.features["fingerprint"],
        "recipe": {"backbone": "drawn", "outputs": ["pooled", "grid"]},
        "output": "pooled",
    }
    sample = read_lines(tmp_path / "samples.jsonl")[-1]
    assert sample["image_id"] in made.task.validation.image_ids
    assert any(sample["caption"].split()[-1] in reference.split() for reference in sample["references"])


def test_the_model_standardises_the_training_features(world, tmp_path):
    made = learner(world, tmp_path)
    values = torch.cat([batch.source.values for batch in made.train.epoch(1)])
    standard = made.model.standardise(values.unique(dim=0))
    assert standard[:, 4].mean().abs() < 1e-3
    assert standard[:, 4].std(correction=0) == pytest.approx(1, abs=1e-3)


def test_validation_scores_every_image_once_and_the_same_however_it_is_batched(world, tmp_path):
    scores = []
    for images in (1, 4, 9):
        made = learner(world, tmp_path / str(images), f"training.images_per_batch={images}")
        found, samples = made.validate()
        assert len(samples) == 2
        scores.append(found)
    assert scores[0].keys() >= {"val_loss", "CIDEr", "BLEU-4"}
    for other in scores[1:]:
        assert other == pytest.approx(scores[0], rel=1e-5)


def test_beam_search_is_what_the_recipe_says(world, tmp_path):
    made = learner(world, tmp_path, "search.beam=3", "search.max_length=1")
    batch = next(made.validation.epoch())
    made.model.eval()
    assert all(len(caption.split()) <= 1 for caption in made.say(batch))
    assert made.model.step(torch.ones(3, dtype=torch.long), *three(made)).logits.shape[0] == 3


def three(made):
    memory = made.model.encode(Source(torch.zeros(3, 6)))
    return made.model.init_state(memory), memory


def test_a_loss_that_is_no_number_ends_with_advice(world, tmp_path):
    made = learner(world, tmp_path, "training.learning_rate=3e38", "training.clip_norm=null")
    with pytest.raises(UserError, match=r"loss of epoch \d is (nan|inf).*learning_rate"):
        made.run()


def test_early_stopping_ends_the_run(world, tmp_path):
    stopping = ("training.early_stopping.patience=2", "training.early_stopping.metric=loss")
    made = learner(world, tmp_path, *stopping, "training.learning_rate=1e-12", "training.epochs=9")
    made.model.requires_grad_(True)
    position = made.run()
    assert position.finished
    assert position.epoch == position.best_epoch + 2 < 9


def test_validation_can_be_rarer_than_epochs(world, tmp_path):
    learner(world, tmp_path, "training.validate_every=2").run()
    lines = read_lines(tmp_path / "metrics.jsonl")
    assert ["val_loss" in line for line in lines] == [False, True, True]


def settings(**changes) -> Training:
    return Training(epochs=10, **changes)


def test_constant_rate_after_a_linear_warm_up():
    rates = [factor(settings(schedule=Schedule(warmup_steps=4)), Position(steps=step), 5) for step in range(6)]
    assert rates == [0.25, 0.5, 0.75, 1, 1, 1]


def test_cosine_falls_from_one_to_nothing():
    cosine = settings(schedule=Schedule(kind="cosine"))
    rates = [factor(cosine, Position(steps=step), 5) for step in (0, 25, 50)]
    assert rates == pytest.approx([1, 0.5, 0], abs=1e-12)


def test_plateau_lowers_the_rate_when_the_loss_does_not_fall():
    plateau = settings(schedule=Schedule(kind="plateau", patience=2, factor=0.1))
    at, rates = Position(), []
    for loss in (5, 4, 4, 4.5, 3, 3, 3):
        decide(at, plateau, {"val_loss": loss, "CIDEr": 0})
        rates.append(factor(plateau, at, 5))
    assert rates == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01])


@pytest.mark.parametrize(
    ("metric", "improved"), [("CIDEr", [True, True, False, False]), ("loss", [True, False, True, False])]
)
def test_the_best_is_the_first_with_the_highest_value(metric, improved):
    training = settings(early_stopping=EarlyStopping(metric=metric, patience=2))
    values = [{"val_loss": 5, "CIDEr": 1.0}, {"val_loss": 6, "CIDEr": 2.0}, {"val_loss": 4, "CIDEr": 2.0}]
    values.append({"val_loss": 4, "CIDEr": 1.5})
    at, found = Position(), []
    for epoch, scores in enumerate(values, 1):
        at.epoch = epoch
        found.append(decide(at, training, scores))
    assert found == improved
    assert at.finished == (metric == "CIDEr")
    lines = [{"epoch": epoch, **scores} for epoch, scores in enumerate(values, 1)]
    assert best_of(lines, metric)["epoch"] == at.best_epoch


def test_another_number_of_ranks_begins_the_epoch_again(world, tmp_path):
    made = learner(world, tmp_path, *DROPOUT)
    made.desk.lives = 1
    with pytest.raises(Killed):
        made.run()
    state = made.state()
    assert made.position.step == 2
    two = dataclasses.replace(made.position, ranks=2)
    state = made.state(**dataclasses.asdict(two))
    made.restore(state)
    assert (made.position.step, made.position.steps, made.position.ranks, made.position.words) == (0, 2, 1, 0)
