"""How the best trial of a search is kept, and what the search says in the end."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

import pytest

from pipelines.config.search_space import read_search
from pipelines.errors import UserError
from pipelines.tracking.mlflow_run import Tracking
from pipelines.training.data.task import prepare
from pipelines.training.run.info import RunPlace, read_run
from pipelines.training.run.writer import RunClient
from pipelines.tuning import launch
from pipelines.tuning.monitor import child_of
from rnncond.checkpoint import load
from tests.worlds.searches import RATE, epochs_of, runs, write_trial
from tests.worlds.training import TINY
from tests.worlds.translator import make_translator
from tests.worlds.writer import local_writer

LINES = [{"epoch": epoch, "val_loss": 1.0 / epoch, "CIDEr": 3.0 - epoch, "seconds": 1.0} for epoch in (1, 2)]


@pytest.fixture
def search(world):
    name = "tracking.registered_model=small"
    section = "tune={trials: 2, space: {training.learning_rate: [0.1, 0.2]}}"
    return read_search("show_tell.small", [*world, *TINY, "tracking.system_metrics=false", name, section], "found")


@contextmanager
def begun(search, folder: Path, status: str):
    """The search's run in its folder and in MLflow, with one trial that has a model."""
    write_trial(folder, "000", LINES, status=status)
    make_translator(folder / "trials" / "000" / "best", seed=1)
    (folder / "trials" / "000" / "samples.jsonl").write_text("{}\n")
    (folder / "trials.jsonl").write_text("{}\n")
    with local_writer(folder) as writer, Tracking(search.recipe, "found") as parent:
        run = RunClient(writer)
        run.open("", {})
        run.update(mlflow_run_id=parent.run_id)
        yield run, parent


@pytest.mark.heavy
def test_the_best_trial_is_kept_and_told_once_however_often(search):
    """CIDEr is 2 at the first epoch and 1 at the second, so the first is the best; the other trial has none."""
    folder = Path("found")
    write_trial(folder, "001", [], status="failed", reason="diverged")
    task, _ = prepare(search.recipe)
    with begun(search, folder, "finished") as (run, parent):
        for _ in range(2):
            launch.register_best(search, task, RunPlace.at("found"), run, parent)
        outcome = launch.TuneJob(search).summary()
    assert load("found/best").model_id == load("found/trials/000/best").model_id
    client, found, told = runs()
    assert found["000"].info.status == "FINISHED"
    assert found["000"].inputs.dataset_inputs
    assert epochs_of(client, told) == [2], "the epochs of all trials: a search that goes on has more"
    assert told.data.metrics["best_epoch"] == 1 and told.data.metrics["best_CIDEr"] == 2
    expected = {"trials": 2, "stopped_early": 0, "epochs": 2, "best_trial": "000", RATE: 0.1, "best_epoch": 1}
    assert expected.items() <= outcome.summary.items()
    expected = {"name": "small", "version": 1, "verdict": "it is the champion already"}
    assert expected.items() <= outcome.summary.items()
    assert "rnncond caption IMAGES --model models:/small@champion --weights FILE --out output" in outcome.hint
    assert (outcome.failed, outcome.failures) == (1, ["trial 001: diverged"])


def test_a_search_without_a_model_says_why_of_its_trials(search, tmp_path):
    write_trial(Path("found"), "000", [], status="failed", reason="diverged")
    with pytest.raises(UserError, match="No trial of 1 came to a validation:\n  000: diverged"):
        launch.register_best(search, None, RunPlace.at("found"), None, None)


def test_a_run_of_train_is_no_search(search):
    job = launch.TuneJob(search)
    assert job.changed({}) == []
    with pytest.raises(UserError, match="holds a run of `rnncond train`"):
        job.changed({"status": "running"})


@pytest.mark.heavy
def test_the_best_trial_keeps_its_run_in_mlflow_though_it_was_at_work_when_the_time_was_over(search):
    """So run.json has none yet."""
    folder = Path("found")
    task, _ = prepare(search.recipe)
    with begun(search, folder, "running") as (run, parent):
        child = child_of(search, RunPlace.at("found"), "000", {RATE: 0.1}, parent, None)
        launch.register_best(search, task, RunPlace.at("found"), run, parent)
    assert read_run(folder)["best"]["mlflow_run_id"] == child.run_id
    client, _, told = runs()
    children = client.search_runs([told.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.run_id}'")
    assert [one.info.run_id for one in children] == [child.run_id]
