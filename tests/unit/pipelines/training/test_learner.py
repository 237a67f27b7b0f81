import dataclasses
import json
from types import SimpleNamespace

import pytest
import safetensors.torch
import torch

from pipelines.config.metrics import best_of
from pipelines.errors import UserError
from pipelines.files.jsonl import read_lines
from pipelines.training import distributed
from pipelines.training import learner as learn
from pipelines.training.run.info import read_run
from rnncond.checkpoint import load, tensors_of
from rnncond.search import SearchOptions, search
from tests.worlds.training import Killed, learner, make_world, resumed_equals_unbroken, without_clock


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


DROPOUT = ("model.dropout=0.5", "training.checkpoint_steps=2", "training.schedule.kind=cosine")


@pytest.mark.heavy
@pytest.mark.parametrize("system", ["show_tell.small", "show_attend_tell.small"])
def test_interrupted_and_resumed_equals_unbroken_bit_for_bit(world, tmp_path, system):
    lives = (1, 3) if system == "show_tell.small" else [2]
    resumed_equals_unbroken(lambda out: learner(world, out, *DROPOUT, recipe=system), tmp_path, lives)


@pytest.mark.heavy
@pytest.mark.parametrize(
    "option",
    [
        "accumulate=2",
        "precision=bfloat16",
        "ema=0.9",
        "average_last=2",
        "schedule={kind: gnmt, start_decay_steps: 4, decay_every: 2}",
        "schedule={kind: inverse_sqrt, warmup_steps: 3}",
    ],
)
def test_so_with_every_option(world, tmp_path, option):
    names = ("best", "last", "averaged") if option.startswith("average") else ("best", "last")
    settings = ("model.dropout=0.5", "training.checkpoint_steps=2", f"training.{option}")
    resumed_equals_unbroken(lambda out: learner(world, out, *settings), tmp_path, [4], names)


def test_a_run_goes_on_from_the_state_before_a_damaged_one(world, tmp_path):
    whole = learner(world, tmp_path / "whole", *DROPOUT)
    whole.run()
    broken = learner(world, tmp_path / "broken", *DROPOUT)
    broken.run()
    broken.sink.close()
    newest = max((tmp_path / "broken" / "checkpoints").iterdir()) / "state.safetensors"
    newest.write_bytes(newest.read_bytes()[:-100])
    resumed = learner(world, tmp_path / "broken", *DROPOUT)
    assert 0 < resumed.train_state.steps < whole.train_state.steps
    resumed.run()
    assert resumed.sink.checkpoint() | {"position.json": b""} == whole.sink.checkpoint() | {"position.json": b""}
    lines, expected = (read_lines(tmp_path / folder / "metrics.jsonl") for folder in ("broken", "whole"))
    assert without_clock(lines) == without_clock(expected)


def test_an_epochs_seconds_are_those_of_its_steps_and_not_of_checkpoints(world, tmp_path, monkeypatch):
    """A processor's are those of all that was done since the epoch before."""
    made = learner(world, tmp_path, "training.checkpoint_steps=1")
    assert made.steps > 2
    now, made.processor_began = [0.0], 0.0
    monkeypatch.setattr(learn, "time", SimpleNamespace(monotonic=lambda: now[0], process_time=lambda: now[0]))

    def taking(seconds, work):
        def slow(*args, **kwargs):
            now[0] += seconds
            return work(*args, **kwargs)

        return slow

    made.update = taking(1, made.update)
    made.sink.save_checkpoint = taking(1000, made.sink.save_checkpoint)
    made.run()
    lines = read_lines(tmp_path / "metrics.jsonl")
    assert [line["seconds"] for line in lines] == [made.steps] * 3
    saved_within = 1000 * (made.steps - 1)
    expected = [made.steps + saved_within, *[made.steps + saved_within + 1000] * 2]
    assert [line["processor_seconds"] for line in lines] == expected


def test_accumulated_batches_are_the_step_of_one_that_is_as_big(world, tmp_path):
    exact = ("model.dropout=0", "training.captions_per_image=3")
    parts = learner(world, tmp_path / "parts", *exact, "training.images_per_batch=3", "training.accumulate=3")
    whole = learner(world, tmp_path / "whole", *exact, "training.images_per_batch=9")
    assert len({batch.words for batch in parts.train.epoch(1)}) > 1
    assert parts.run().steps == whole.run().steps == 2 * 3
    for name, tensor in parts.model.state_dict().items():
        torch.testing.assert_close(tensor, whole.model.state_dict()[name], atol=2e-5, rtol=1e-3)
    lines, expected = (read_lines(tmp_path / folder / "metrics.jsonl") for folder in ("parts", "whole"))
    for line, other in zip(lines, expected, strict=True):
        assert line["train_loss"] == pytest.approx(other["train_loss"], rel=1e-4)


def test_the_last_step_of_an_epoch_takes_the_batches_that_are_left(world, tmp_path):
    made = learner(world, tmp_path, "training.images_per_batch=4", "training.accumulate=4", "training.epochs=1")
    assert made.train.steps == 6
    assert [len(batches) for batches in made.parts_of_steps()] == [4, 2]
    made.train_state.step = 1
    (left,) = made.parts_of_steps()
    expected = list(made.train.epoch(1))[4:]
    assert [batch.examples.tolist() for batch in left] == [batch.examples.tolist() for batch in expected]


def test_the_average_is_of_the_last_models_and_has_scores(world, tmp_path):
    ends = [learner(world, tmp_path / str(epochs), f"training.epochs={epochs}") for epochs in (2, 3)]
    for made in ends:
        made.run()
    second, third = (tensors_of(made.model) for made in ends)
    made = learner(world, tmp_path / "mean", "training.average_last=2")
    made.run()
    averaged = load(tmp_path / "mean" / "averaged")
    for name, tensor in tensors_of(averaged.model).items():
        torch.testing.assert_close(tensor, (second[name] + third[name]) / 2)
    assert any(not torch.equal(tensor, third[name]) for name, tensor in second.items())
    for name, tensor in tensors_of(made.model).items():
        assert torch.equal(tensor, third[name])
    made.model.load_state_dict(averaged.model.state_dict())
    scores, _ = made.validate()
    assert read_run(tmp_path / "mean")["averaged"] == {"epoch": 3, "averaged_epochs": 2, **scores}


def test_the_moving_average_is_what_is_validated_and_saved(world, tmp_path):
    plain = learner(world, tmp_path / "plain", "training.epochs=1")
    expected = {name: weight.detach().clone() for name, weight in plain.model.named_parameters()}
    plain.objective.train()
    for steps, batches in enumerate(plain.parts_of_steps()):
        plain.update(batches)
        plain.train_state.steps += 1
        decay = min(0.3, (1 + steps) / (10 + steps))
        for name, weight in plain.model.named_parameters():
            expected[name] = decay * expected[name] + (1 - decay) * weight.detach()
    made = learner(world, tmp_path / "ema", "training.epochs=1", "training.ema=0.3")
    made.run()
    last = load(tmp_path / "ema" / "last").model
    for name, weight in last.named_parameters():
        torch.testing.assert_close(weight, expected[name], atol=1e-6, rtol=1e-5)
    for name, weight in made.model.named_parameters():
        assert torch.equal(weight, plain.model.get_parameter(name))
    plain.model.load_state_dict(last.state_dict())
    assert plain.validate()[0]["val_loss"] == pytest.approx(read_lines(tmp_path / "ema/metrics.jsonl")[0]["val_loss"])


def test_float16_is_refused_without_a_gpu(world, tmp_path):
    with pytest.raises(UserError, match=r"float16, but the workers have no GPU.*bfloat16"):
        learner(world, tmp_path, "training.precision=float16")


def test_a_finished_run_does_nothing_more(world, tmp_path):
    first = learner(world, tmp_path)
    first.run()
    first.sink.close()
    before = first.sink.checkpoint()
    again = learner(world, tmp_path)
    again.run()
    assert again.sink.checkpoint() == before


@pytest.mark.heavy
def test_it_learns_and_says_so(world, tmp_path):
    made = learner(world, tmp_path, "training.epochs=40", "model.hidden=32", "training.learning_rate=0.02")
    made.run()
    lines = read_lines(tmp_path / "metrics.jsonl")
    assert [line["epoch"] for line in lines] == list(range(1, 41))
    assert lines[-1]["train_loss"] < 0.4 * lines[0]["train_loss"]
    best = best_of(lines, "CIDEr")
    assert best["CIDEr"] == max(line["CIDEr"] for line in lines) > lines[0]["CIDEr"]
    trained = load(tmp_path / "best")
    assert trained.info["epoch"] == best["epoch"] == made.train_state.best_epoch
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
    assert standard[:, 4].std(correction=0) == pytest.approx(made.model.standardise.deviation, rel=1e-3)


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
    made = learner(world, tmp_path, "search.beam=3", "search.max_length=4")
    batch = next(made.validation.epoch())
    made.model.eval()
    memory = made.model.encode(batch.source)

    def found(beam: int) -> list[str]:
        options = SearchOptions(beam=beam, max_length=4)
        tokens = search(made.model.step, memory, made.model.init_state(memory), options).tokens
        return [made.vocabulary.decode(words) for words in tokens[:, 0].tolist()]

    assert made.decode(batch) == found(3) != found(1)


SAMPLING = "training.objective={kind: scheduled_sampling, decay: {kind: linear, c: 0.1}}"
DIVERGING = ("training.learning_rate=3e38", "training.clip_norm=null")


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("recipe", "settings"),
    [
        ("show_tell.small", ()),
        ("show_tell.small", (SAMPLING,)),
        ("show_tell.small", ("training.objective.kind=self_critical",)),
        ("show_tell.small", ("training.objective={kind: self_critical, baseline: others, cross_entropy: 0.1}",)),
        ("show_attend_tell.small", ()),
        ("show_attend_tell.small", ("model.attention_kind=hard",)),
        ("show_attend_tell.small", ("model.attention_kind=hard", SAMPLING)),
    ],
)
def test_training_that_diverges_ends_with_advice_whatever_it_minimises(world, tmp_path, recipe, settings):
    if "self_critical" in str(settings):
        start = learner(world, tmp_path / "start", "training.epochs=1")
        start.run()
        settings = (*settings, f"training.start_from={tmp_path / 'start'}")
    made = learner(world, tmp_path / "run", *DIVERGING, *settings, recipe=recipe)
    with pytest.raises(UserError, match=r"diverged: the loss of epoch \d is (nan|-?inf).*learning_rate.*clip_norm"):
        made.run()


def test_a_state_that_has_diverged_is_not_saved(world, tmp_path):
    """Also in the middle of an epoch: a run that is resumed from it could do nothing but diverge again."""
    made = learner(world, tmp_path, *DIVERGING, "training.checkpoint_steps=2")
    with pytest.raises(UserError, match="diverged"):
        made.run()
    assert made.sink.checkpoint() is None
    weights = learner(world, tmp_path / "late", "training.epochs=1")
    weights.train_epoch()
    next(weights.model.parameters()).data.fill_(torch.nan)
    with pytest.raises(UserError, match="diverged: the loss of epoch 1 is nan"):
        weights.end_epoch()
    assert weights.sink.checkpoint() is None


HARD = ("model.attention_kind=hard", "training.learning_rate=1e-12", "training.captions_per_image=3")


def baseline_after_a_step(made) -> tuple[float, list[float]]:
    """Hard attention's baseline after one step, and the log-probability of each caption that the step saw."""
    seen: list[float] = []
    regulariser = made.model.regulariser

    def noting(unrolled, log_probs, mask):
        assert made.model.baseline == 0
        seen.extend(log_probs.sum(1)[mask.any(1)].tolist())
        return regulariser(unrolled, log_probs, mask)

    made.model.regulariser = noting
    made.objective.train()
    made.update(next(made.parts_of_steps()))
    return made.model.baseline.item(), seen


@pytest.mark.parametrize("accumulate", [1, 2, 3])
def test_hard_attentions_baseline_moves_once_a_step(world, tmp_path, accumulate):
    made = learner(world, tmp_path, *HARD, f"training.accumulate={accumulate}", recipe="show_attend_tell.small")
    baseline, seen = baseline_after_a_step(made)
    assert len(seen) > 4 * accumulate
    assert baseline == pytest.approx(0.1 * sum(seen) / len(seen), rel=1e-4)


def test_hard_attentions_baseline_is_that_of_all_ranks(world, tmp_path, monkeypatch):
    """Another rank that has 6 captions of log-probability -50 each, as the sums of all ranks show it."""
    made = learner(world, tmp_path, *HARD, recipe="show_attend_tell.small")
    monkeypatch.setattr(
        distributed, "total", lambda values: values + torch.tensor([-300.0, 6.0]) if values.shape == (2,) else values
    )
    baseline, seen = baseline_after_a_step(made)
    assert baseline == pytest.approx(0.1 * (sum(seen) - 300) / (len(seen) + 6), rel=1e-4)


@pytest.mark.heavy
def test_a_run_of_0_1_0_is_resumed_bit_for_bit(world, tmp_path):
    """What that version wrote otherwise: names of tensors and of counters, no schemas."""
    old_names = {"bad_epochs": "waited", "lr_factor": "rate", "best_val_loss": "lowest", "plateau_epochs": "flat"}
    whole = learner(world, tmp_path / "whole", *DROPOUT)
    whole.run()
    broken = learner(world, tmp_path / "broken", *DROPOUT)
    broken.sink.lives = 4
    with pytest.raises(Killed):
        broken.run()
    state = broken.sink.checkpoint()
    tensors = safetensors.torch.load(state["state.safetensors"])
    renamed = {name.replace("optimizer.", "optimiser.", 1): tensor for name, tensor in tensors.items()}
    assert renamed.keys() != tensors.keys()
    position = json.loads(state["position.json"])
    del position["schema"]
    position = {old_names.get(name, name): value for name, value in position.items()}
    broken.sink.save_checkpoint(
        position["steps"],
        state | {"state.safetensors": safetensors.torch.save(renamed), "position.json": json.dumps(position).encode()},
    )
    broken.sink.update(schema=None)
    broken.sink.close()
    resumed = learner(world, tmp_path / "broken", *DROPOUT)
    assert resumed.train_state.steps == position["steps"] > 0
    resumed.run()
    assert resumed.sink.checkpoint()["state.safetensors"] == whole.sink.checkpoint()["state.safetensors"]


def test_early_stopping_ends_the_run(world, tmp_path):
    stopping = ("training.early_stopping.patience=2", "training.early_stopping.metric=loss")
    made = learner(world, tmp_path, *stopping, "training.learning_rate=1e-12", "training.epochs=9")
    position = made.run()
    assert position.finished
    assert position.epoch == position.best_epoch + 2 < 9


def test_validation_can_be_rarer_than_epochs(world, tmp_path):
    learner(world, tmp_path, "training.validate_every=2").run()
    lines = read_lines(tmp_path / "metrics.jsonl")
    assert ["val_loss" in line for line in lines] == [False, True, True]


def test_another_number_of_ranks_begins_the_epoch_again(world, tmp_path):
    made = learner(world, tmp_path, *DROPOUT)
    made.sink.lives = 1
    with pytest.raises(Killed):
        made.run()
    state = made.state()
    assert made.train_state.step == 2
    two = dataclasses.replace(made.train_state, ranks=2, seconds=3600.0)
    state = made.state(**dataclasses.asdict(two))
    made.restore(state)
    found = made.train_state
    assert (found.step, found.steps, found.ranks, found.words, found.seconds) == (0, 2, 1, 0, 0.0)
