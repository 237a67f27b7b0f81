import dataclasses
import json
import math

import pytest

from pipelines.config.metrics import best_of
from pipelines.config.training_sections import EarlyStopping, Training
from pipelines.errors import UserError
from pipelines.training.optimizer import lr_factor
from pipelines.training.run.state import SCHEMA, TrainState, decide, newest_whole, read_checkpoint, step_name, with_sums

OF_0_1_0 = {
    "epoch": 2, "step": 1, "steps": 7, "skipped": 0, "ranks": 2, "best": -1.5, "best_epoch": 1, "waited": 1,
    "rate": 0.1, "lowest": 1.5, "flat": 3, "objective": 4.0, "loss": 4.0, "words": 9.0, "reward": 0.0, "baseline": 0.0,
    "examples": 0.0, "seconds": 2.5, "finished": False,
}  # fmt: skip
"""A position.json as rnncond 0.1.0 wrote them."""


def test_what_is_written_is_read():
    state = TrainState(epoch=3, bad_epochs=2, best=-0.5)
    assert TrainState.from_json(state.to_json()) == state
    assert json.loads(state.to_json())["schema"] == SCHEMA
    assert TrainState.from_json(TrainState().to_json()).best_val_loss == math.inf


def test_a_checkpoint_of_0_1_0_is_resumed_from():
    state = TrainState.from_json(json.dumps(OF_0_1_0).encode())
    assert (state.bad_epochs, state.lr_factor, state.best_val_loss, state.plateau_epochs) == (1, 0.1, 1.5, 3)
    same = {key: value for key, value in OF_0_1_0.items() if key not in ("waited", "rate", "lowest", "flat")}
    assert same.items() <= dataclasses.asdict(state).items()


def test_a_checkpoint_of_another_version_is_told():
    with pytest.raises(UserError, match=rf"has schema {SCHEMA + 1}; .*up to {SCHEMA}"):
        TrainState.from_json(json.dumps({"schema": SCHEMA + 1, "epoch": 3}).encode())
    with pytest.raises(UserError, match=r"has momentum, which .* does not know; it expects .*bad_epochs.*--restart"):
        TrainState.from_json(b'{"schema": 1, "epoch": 3, "momentum": 1}')


def settings(**changes) -> Training:
    return Training(epochs=10, **changes)


def test_plateau_lowers_the_rate_when_the_loss_does_not_fall():
    plateau = settings(schedule={"kind": "plateau", "patience": 2, "factor": 0.1})
    at, rates = TrainState(), []
    for loss in (5, 4, 4, 4.5, 3, 3, 3):
        decide(at, plateau, {"val_loss": loss, "CIDEr": 0})
        rates.append(lr_factor(plateau, at, 5))
    assert rates == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01])


@pytest.mark.parametrize(
    ("metric", "improved"),
    [("CIDEr", [True, True, True, False, False]), ("loss", [True, False, True, False, False])],
)
def test_the_best_is_the_first_with_the_highest_value_and_the_lowest_loss(metric, improved):
    training = settings(early_stopping=EarlyStopping(metric=metric, patience=2))
    values = [{"val_loss": 5, "CIDEr": 1.0}, {"val_loss": 6, "CIDEr": 2.0}, {"val_loss": 4, "CIDEr": 2.0}]
    values += [{"val_loss": 4, "CIDEr": 1.5}, {"val_loss": 4, "CIDEr": 2.0}]
    at, found = TrainState(), []
    for epoch, scores in enumerate(values, 1):
        at.epoch = epoch
        found.append(decide(at, training, scores))
    assert found == improved
    assert at.finished
    lines = [{"epoch": epoch, **scores} for epoch, scores in enumerate(values, 1)]
    assert best_of(lines, metric)["epoch"] == at.best_epoch


def test_names_are_in_the_order_of_steps():
    names = [step_name(step) for step in (2, 10, 999, 12345678)]
    assert names == sorted(names)


def test_a_checkpoint_is_whole_or_says_what_is_not(tmp_path):
    state = {"state": b"x" * 1000, "position.json": b"{}"}
    for name, content in with_sums(state).items():
        (tmp_path / name).write_bytes(content)
    assert read_checkpoint(tmp_path) == (state, "")
    (tmp_path / "state").write_bytes(b"x" * 999)
    assert read_checkpoint(tmp_path) == ({}, "state, 999 bytes, is not what was written")
    (tmp_path / "state").unlink()
    assert "No such file" in read_checkpoint(tmp_path)[1]


def read(place):
    return ({}, place) if place.startswith("bad") else ({"state": place.encode()}, "")


def test_the_newest_that_is_whole_is_resumed_from():
    noted = []
    places = {"step-1": "one", "step-3": "bad sums", "step-2": "two"}
    assert newest_whole("OUT", places, read, lambda *note: noted.append(note)) == {"state": b"two"}
    assert noted == [
        ("step-3", "OUT: the checkpoint step-3 is damaged (bad sums); the run resumes from the one before it.")
    ]
    assert newest_whole("OUT", {}, read, lambda *note: noted.append(note)) is None
    with pytest.raises(UserError, match=r"from any checkpoint in OUT: step-1: bad.*--restart"):
        newest_whole("OUT", {"step-1": "bad"}, read, lambda *note: None)
