"""A training's fits, without Ray: how often lost workers are replaced, and what a run says of its best epoch."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from ray.exceptions import ActorDiedError, OutOfMemoryError
from ray.train import ControllerError
from ray.train.v2.api.exceptions import WorkerGroupError

from pipelines.config.recipe import read_recipe
from pipelines.errors import Fault, OtherRun, UserError
from pipelines.training import launch
from pipelines.training.run.info import RunPlace
from rnncond.checkpoint import save
from tests.worlds.translator import make_translator

KILLED = ControllerError(OutOfMemoryError("killed"))


def fit(monkeypatch, tmp_path, outcomes, reported=None, max_failures=2) -> int:
    """Fit with trainers of which each comes to the next of ``outcomes``; returns how many there were."""
    begun = []

    def trainer(*_):
        def fit():
            begun.append(None)
            if outcome := outcomes[len(begun) - 1]:
                raise outcome

        return SimpleNamespace(fit=fit)

    monkeypatch.setattr(launch, "trainer_of", trainer)
    task = SimpleNamespace(recipe=SimpleNamespace(cluster=SimpleNamespace(max_failures=max_failures)))
    try:
        launch.fit(task, SimpleNamespace(reported_error=lambda: reported), None, RunPlace.at(str(tmp_path)))
    finally:
        monkeypatch.undo()
        fit.begun = len(begun)
    return len(begun)


def test_workers_that_ray_train_does_not_replace_are_replaced_as_often_as_allowed(monkeypatch, tmp_path):
    assert fit(monkeypatch, tmp_path, [KILLED, KILLED, None]) == 3
    with pytest.raises(Fault, match="no memory left"):
        fit(monkeypatch, tmp_path, [KILLED] * 9)
    assert fit.begun == 3


@pytest.mark.parametrize("rank", [0, 1])
def test_the_first_rank_says_what_goes_on_before_the_first_step(monkeypatch, rank):
    told = []
    run = SimpleNamespace(reported_error=lambda: None, writer=lambda: SimpleNamespace(phase=told.append))

    def make_learner(*_):
        told.append("made")
        return SimpleNamespace(run=lambda: told.append("run"))

    monkeypatch.setattr(launch, "ray", SimpleNamespace(get=lambda reference: reference))
    monkeypatch.setattr(launch, "get_device", lambda: "cpu")
    monkeypatch.setattr(launch.distributed, "rank", lambda: rank)
    threads = torch.get_num_threads()
    launch.work({"threads": threads, "run": run, "remote": None, "task": None, "make_learner": make_learner})
    phases = ["loading the data and the model", "made", "computing the first step", "run"]
    assert told == (phases if rank == 0 else ["made", "run"])


@pytest.mark.parametrize(
    ("error", "reported", "expected"),
    [
        (WorkerGroupError("", {0: ActorDiedError()}), None, Fault),  # Ray Train has tried often enough
        (KILLED, "the disk is full", UserError),
        (ControllerError(UserError("no such file")), None, UserError),
        (ControllerError(KeyError("x")), None, ControllerError),
    ],
)
def test_what_another_attempt_cannot_mend_is_not_tried_again(monkeypatch, tmp_path, error, reported, expected):
    with pytest.raises(expected) as caught:
        fit(monkeypatch, tmp_path, [error] * 9, reported)
    assert fit.begun == 1
    assert type(caught.value) is expected


def test_what_a_worker_reported_is_told_also_where_ray_train_is_content(monkeypatch, tmp_path):
    with pytest.raises(UserError, match="the disk is full"):
        fit(monkeypatch, tmp_path, [None], "the disk is full")


def test_what_a_run_says_of_its_best_epoch_is_what_its_model_says(tmp_path):
    """An epoch that came again, with other workers, is written but once; the model is of the second time."""
    trained = make_translator(None, seed=1)
    trained.info = {"recipe": {}, "epoch": 2, "val_loss": 0.5}
    save(trained, tmp_path / "best")
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 2, "val_loss": 0.7}\n')
    told = []
    run = SimpleNamespace(update=lambda **changes: told.append(changes))
    registered = {"name": "small", "version": 1}
    tracking = SimpleNamespace(hand_in=lambda folder, metric, best: told.append(best) or registered)
    launch.hand_in(tmp_path, run, tracking, "loss")
    best = {"epoch": 2, "val_loss": 0.5}
    assert told == [{"best": best}, best, {"registered": registered}]


def test_a_run_goes_on_with_more_epochs_and_not_with_fewer_than_it_has(tmp_path):
    data = ["data.store=s", "data.captions=c.json"]
    out = tmp_path / "run"
    out.mkdir()

    def job(epochs: int) -> launch.TrainJob:
        return launch.TrainJob(read_recipe("show_tell.small", [*data, f"training.epochs={epochs}"], str(out)))

    (out / "recipe.yaml").write_text(job(3).recipe.to_yaml())
    (out / "metrics.jsonl").write_text('{"epoch": 1}\n{"epoch": 2}\n')
    info = {"status": "interrupted"}
    assert job(3).changed(info) == []
    assert job(5).changed(info) == job(2).changed(info) == ["training.epochs"]
    with pytest.raises(OtherRun, match=r"has 2 epochs already, and training\.epochs=1 asks for fewer"):
        job(1).changed(info)
    assert job(1).changed({}) == []


@pytest.mark.parametrize("epochs", [2, 3], ids=["early", "whole"])
def test_more_epochs_go_on_with_a_run_unless_early_stopping_ended_it(tmp_path, capsys, epochs):
    data = ["data.store=s", "data.captions=c.json"]

    def job(epochs: int) -> launch.TrainJob:
        return launch.TrainJob(read_recipe("show_tell.small", [*data, f"training.epochs={epochs}"], str(tmp_path)))

    (tmp_path / "recipe.yaml").write_text(job(3).recipe.to_yaml())
    (tmp_path / "metrics.jsonl").write_text("".join(f'{{"epoch": {epoch}}}\n' for epoch in range(1, epochs + 1)))
    early, finished = epochs < 3, {"status": "finished"}
    assert job(3).is_done(finished, []) and job(9).is_done(finished, ["training.epochs"]) == early
    job(3).hint_done([])
    told = " ".join(capsys.readouterr().err.split())
    assert ("Early stopping ended it" in told) == early and ("A larger training.epochs goes on" in told) != early
