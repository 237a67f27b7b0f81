"""What MLflow and trials.jsonl are told of trials."""

from __future__ import annotations

import threading
from pathlib import Path

import mlflow
import pytest
from mlflow.exceptions import MlflowException

from pipelines.config.search_space import read_search
from pipelines.console import Progress
from pipelines.errors import Fault
from pipelines.files.jsonl import read_lines
from pipelines.threads import in_background
from pipelines.tracking.mlflow_run import Tracking
from pipelines.training.run.info import RunPlace, read_run
from pipelines.tuning import monitor as tune_monitor
from pipelines.tuning.trials import Record, records
from tests.worlds.searches import RATE, epochs_of, runs, write_trial
from tests.worlds.training import TINY
from tests.worlds.writer import local_writer


def test_the_table_has_a_line_for_each_trial(tmp_path):
    write_trial(tmp_path, "001", [], status="failed", reason="diverged")
    write_trial(tmp_path, "000", [{"epoch": 1, "val_loss": 2.0, "seconds": 1.0}], status="finished")
    tune_monitor.write_table(tmp_path, "loss")
    rows = read_lines(tmp_path / "trials.jsonl")
    assert [(row["trial"], row["status"], row["score"]) for row in rows] == [
        ("000", "finished", 2.0), ("001", "failed", None),
    ]  # fmt: skip


def test_what_mlflow_missed_of_a_trial_that_ended_is_handed_in_later(world, monkeypatch):
    arguments = [
        *world,
        *TINY,
        "tracking.system_metrics=false",
        "tune={trials: 1, space: {training.learning_rate: [0.1, 0.2]}}",
    ]
    search = read_search("show_tell.small", arguments, "found")
    lines = [{"epoch": epoch, "val_loss": 1.0 / epoch, "CIDEr": 1.0, "seconds": 1.0} for epoch in (1, 2)]
    write_trial(Path("found"), "000", lines, status="running")

    def away(*_, **__):
        raise MlflowException("refused")

    with (
        local_writer(Path("found")) as writer,
        Tracking(search.recipe, "found") as parent,
        Progress("tune", "epochs", 2) as progress,
    ):
        watch = tune_monitor.TuneMonitor(search, RunPlace.at("found"), writer, parent, progress, 1)
        child = watch.child("000", {RATE: 0.1})
        with monkeypatch.context() as patch:
            patch.setattr(child.client, "log_batch", away)
            patch.setattr(child.client, "set_terminated", away)
            (record,) = records(Path("found"))
            assert search.recipe.training.epochs > 2
            watch.show()
            assert (progress.done, progress.note) == (2, "0 of 1 trial, 0 running, best CIDEr 1.000 by 000")
            watch.settle(record, "finished")
            assert (progress.done, progress.total) == (2, 2), "it is spared the rest"
            assert progress.note == "1 of 1 trial, 0 running, best CIDEr 1.000 by 000"
        client, found, _ = runs()
        assert (found["000"].info.status, epochs_of(client, found["000"])) == ("RUNNING", [])
        with monkeypatch.context() as patch, pytest.raises(Fault, match="Run the same command again"):
            patch.setattr(mlflow.MlflowClient, "log_batch", away)
            tune_monitor.catch_up(search, RunPlace.at("found"), parent, writer)
        tune_monitor.catch_up(search, RunPlace.at("found"), parent, writer)
    client, found, _ = runs()
    assert (found["000"].info.status, epochs_of(client, found["000"])) == ("FINISHED", [1, 2])
    assert read_run("found/trials/000")["mlflow_run_id"] == found["000"].info.run_id


def test_a_trial_that_begins_while_the_search_is_ended_is_not_left_running(world, monkeypatch):
    """Its run in MLflow is being made by Ray Tune's thread when Ctrl-C ends the search in the main one."""
    space = "tune={trials: 2, space: {training.learning_rate: [0.1, 0.2]}}"
    search = read_search("show_tell.small", [*world, *TINY, "tracking.system_metrics=false", space], "found")
    making, make = threading.Event(), threading.Event()

    def slowly(*arguments):
        making.set()
        assert make.wait(30)
        return child_of(*arguments)

    child_of = tune_monitor.child_of
    monkeypatch.setattr(tune_monitor, "child_of", slowly)
    with (
        local_writer(Path("found")) as writer,
        Tracking(search.recipe, "found") as parent,
        Progress("tune", "epochs", 4) as progress,
    ):
        watch = tune_monitor.TuneMonitor(search, RunPlace.at("found"), writer, parent, progress, 2)
        first = in_background(lambda: watch.child("000", {RATE: 0.1}))
        assert making.wait(30)
        ended = in_background(lambda: watch.end("KILLED"))
        make.set()
        assert first.result(30) is not None
        ended.result(30)
        assert watch.child("001", {RATE: 0.2}) is None
    _, found, _ = runs()
    assert {name: run.info.status for name, run in found.items()} == {"000": "KILLED"}


@pytest.mark.parametrize(("epochs", "shown"), [(0, "  0 epochs"), (1, "  1 epoch"), (12, " 12 epochs")])
def test_epochs_have_their_plural(epochs, shown):
    record = Record("000", {}, "finished", {}, [{"epoch": epochs}] if epochs else [])
    assert tune_monitor.epochs_of(record) == shown
