"""What the folders of trials say, and what trials tell Ray Tune."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ray import tune

from pipelines.training.run.info import read_run
from pipelines.training.run.state import TrainState
from pipelines.tuning.trials import ORIGIN, Record, Reports, open_trial, records, take_over
from tests.worlds.searches import RATE, write_trial
from tests.worlds.writer import local_writer

LINES = [
    {"epoch": 1, "val_loss": 3.0, "CIDEr": 5.0, "seconds": 1.0},
    {"epoch": 2, "seconds": 1.25},  # not validated
    {"epoch": 3, "val_loss": 2.0, "CIDEr": 4.0, "seconds": 1.0},
]


def test_a_record_is_what_the_folder_says(tmp_path):
    write_trial(tmp_path, "001", [], status="running")
    write_trial(tmp_path, "000", LINES, status="stopped", reason="worse")
    first, second = records(tmp_path)
    assert (first.name, first.done, first.epoch, second.done, second.epoch) == ("000", True, 3, False, 0)
    assert first.best("CIDEr") == LINES[0] and first.best("loss") == LINES[2] and second.best("CIDEr") is None
    assert first.row("loss") == {
        "trial": "000", "status": "stopped", "params": {RATE: 0.1}, "score": 2.0, "best_epoch": 3,
        "val_loss": 2.0, "epochs": 3, "seconds": 3.2, "reason": "worse",
    }  # fmt: skip
    assert second.row("loss")["score"] is None


def test_schedulers_are_told_the_best_so_far_at_each_validated_epoch():
    record = Record("000", {}, "running", {}, LINES)
    assert record.reports("CIDEr") == [{"epoch": 1, "score": 5.0}, {"epoch": 3, "score": 5.0}]
    assert record.reports("loss") == [{"epoch": 1, "score": -3.0}, {"epoch": 3, "score": -2.0}]


def test_a_trial_reports_as_its_record_says_but_the_last_epoch_at_its_end(monkeypatch):
    told: list[dict[str, float]] = []
    monkeypatch.setattr(tune, "report", told.append)
    recipe = SimpleNamespace(training=SimpleNamespace(epochs=3))
    search = SimpleNamespace(settings=SimpleNamespace(algorithm="grid"), metric="CIDEr", recipe=recipe)
    reports = Reports(search, "000")
    for line in LINES:
        reports.tell(line, lambda: pytest.fail("only a population needs the state"))
    assert told == [{"epoch": 1, "score": 5.0}]
    reports.end()
    assert told == Record("000", {}, "running", {}, LINES).reports("CIDEr")


def test_a_trial_that_only_has_to_end_is_not_stopped(monkeypatch):
    """A driver died between its last epoch and its end; the next one might stop it at an epoch before."""
    told = []
    monkeypatch.setattr(tune, "report", told.append)
    recipe = SimpleNamespace(training=SimpleNamespace(epochs=2))
    reports = Reports(
        SimpleNamespace(settings=SimpleNamespace(algorithm="random"), metric="CIDEr", recipe=recipe), "000"
    )
    for epoch in (1, 2):
        reports.tell({"epoch": epoch, "val_loss": 1.0, "CIDEr": 3.0 - epoch}, dict, ask=False)
    assert told == []
    reports.end()
    assert told == [{"epoch": 2, "score": 2.0}]


def test_the_weights_of_another_trial_are_taken_over_once(tmp_path):
    given = tmp_path / "given"
    given.mkdir()
    theirs = TrainState(epoch=2, steps=8, best=9.0, best_epoch=2)
    (given / "position.json").write_bytes(theirs.to_json())
    (given / "state.safetensors").write_bytes(b"weights")
    (given / ORIGIN).write_text("001")
    checkpoint = tune.Checkpoint.from_directory(str(given))
    with local_writer(tmp_path) as writer:
        run = open_trial(writer, "000", "", {RATE: 0.1})
        run.save_checkpoint(4, {"position.json": TrainState(epoch=1, steps=4, best=5.0, best_epoch=1).to_json()})
        for _ in range(2):
            take_over(run, run, checkpoint, {RATE: 0.2})
        state = run.checkpoint()
        taken = TrainState.from_json(state["position.json"])
        origin = open_trial(writer, "001", "", {RATE: 0.1})
        take_over(origin, origin, checkpoint, {RATE: 0.2})
        assert origin.checkpoint() is None  # they are its own
    # The best epoch stays the trial's own until the new weights do better.
    assert (taken.epoch, taken.steps, taken.best, taken.best_epoch) == (2, 8, 5.0, 1)
    assert state["state.safetensors"] == b"weights" and ORIGIN not in state
    info = read_run(tmp_path / "trials" / "000")
    assert info["exploited"] == [{"epoch": 2, "of": "001", "params": {RATE: 0.2}}]
    assert info["params"] == {RATE: 0.2}


def test_how_a_trial_ended_for_a_driver_that_died_is_not_how_it_ends_now(tmp_path):
    with local_writer(tmp_path) as writer:
        open_trial(writer, "000", "", {"seed": 1}).update(ending="failed", reason="the disk is full", exploited=[])
        open_trial(writer, "000", "", {"seed": 1})
    run = read_run(tmp_path / "trials" / "000")
    assert (run["status"], run["params"], run["exploited"]) == ("running", {"seed": 1}, [])
    assert not run.keys() & {"ending", "reason"}
