"""What a folder of ``train`` or ``tune`` holds, and whether a command goes on with it."""

from __future__ import annotations

import json
import shutil
from contextlib import closing, nullcontext
from pathlib import Path

import mlflow
import pytest
import yaml

from pipelines.cli.commands import stage_command
from pipelines.cluster.resources import Cluster, Node
from pipelines.config.search_space import Search, read_search
from pipelines.console import Outcome
from pipelines.errors import OtherRun, UserError
from pipelines.tracking.mlflow_run import Tracking
from pipelines.training import driver
from pipelines.training.data.task import prepare
from pipelines.training.launch import TrainJob
from pipelines.training.run.folder import RunFolder
from pipelines.training.run.info import read_run
from pipelines.tuning.launch import TuneJob
from pipelines.verbs import run, train, tune
from tests.worlds.training import TINY, tiny_recipe
from tests.worlds.writer import local_writer

QUIET = "tracking.system_metrics=false"
GRID = 'tune={"algorithm": "grid", "asha": null, "space": {"training.learning_rate": [0.01]}}'


def search_of(world: list[str], *overrides: str) -> list[str]:
    return [*world, *TINY, QUIET, "tune=null", GRID, *overrides]


def begin_search(arguments: list[str], status: str) -> Search:
    """A search in ``found`` as one that has ended so leaves it; its only trial, too."""
    search = read_search("show_tell.small", arguments, "found")
    line = {"epoch": 3, "val_loss": 1.0, "CIDEr": 1.0, "seconds": 1.0}
    trial = RunFolder("found/trials/000")
    trial.open("", {"params": {"training.learning_rate": 0.01}})
    trial.epoch(line, [])
    trial.update(status=status)
    trial.close()
    journal = RunFolder("found")
    journal.open(search.recipe.to_yaml(), {"search": "grid", "data_id": prepare(search.recipe)[0].data_id})
    journal.write("search.yaml", search.to_yaml())
    journal.update(status=status, mlflow_run_id="x", best={"trial": "000", "params": {}, **line})
    journal.close()
    return search


def begin_train(arguments: list[str], status: str) -> None:
    """A run in ``found``, as ``begin_search``."""
    recipe = train.read_recipe("show_tell.small", arguments, "found")
    journal = RunFolder("found")
    journal.open(recipe.to_yaml(), {"data_id": prepare(recipe)[0].data_id})
    journal.update(status=status)
    journal.close()


def arguments_of(verb, world: list[str], *overrides: str) -> list[str]:
    return search_of(world, *overrides) if verb is tune else [*world, *TINY, QUIET, *overrides]


def begin(verb, arguments: list[str], status: str = "running") -> None:
    (begin_search if verb is tune else begin_train)(arguments, status)


def change_captions(change) -> None:
    path = Path("captions.jsonl")
    path.write_text("".join(json.dumps(change(json.loads(line))) + "\n" for line in path.read_text().splitlines()))


def other_captions() -> None:
    change_captions(lambda line: line | {"captions": ["something else"]})


def without_ray(monkeypatch, verb, meanwhile=lambda: None) -> None:
    """No Ray, and no training; ``meanwhile`` happens while Ray would start."""

    def connect(address):
        meanwhile()
        return nullcontext(Cluster((Node(2, 0),)))

    monkeypatch.setattr(driver, "connect", connect)
    monkeypatch.setattr(driver, "run_writer", local_writer)
    job = {train: TrainJob, tune: TuneJob}[verb]
    monkeypatch.setattr(job, "run", lambda *_: None)
    monkeypatch.setattr(job, "summary", lambda _: Outcome({}))


def test_a_finished_search_is_not_finished_for_other_data(world, capsys):
    arguments = search_of(world)
    begin_search(arguments, "finished")
    assert tune.run("show_tell.small", arguments, out="found").summary["best_trial"] == "000"
    assert "is finished" in capsys.readouterr().err
    other_captions()
    with pytest.raises(OtherRun, match="begun with other data"):
        tune.run("show_tell.small", arguments, out="found")


def test_a_search_with_other_settings_is_another_and_a_run_of_train_is_none(world):
    begin_search(search_of(world), "running")
    with pytest.raises(OtherRun, match=r"holds a search of another recipe:\n  seed: was 1, is 2"):
        tune.run("show_tell.small", search_of(world, "seed=2"), out="found")
    shutil.rmtree("found")
    begin_train(arguments_of(train, world), "running")
    with pytest.raises(UserError, match="holds a run of `rnncond train`") as caught:
        tune.run("show_tell.small", search_of(world), out="found")
    assert not isinstance(caught.value, OtherRun)


def test_a_pipeline_begins_its_own_search_again_for_other_settings(world, monkeypatch):
    monkeypatch.setattr(run, "connect", lambda address: nullcontext())
    stage = {"verb": "tune", "args": {"recipe": "show_tell.small", "out": "found", "overrides": search_of(world)}}
    Path("pipeline.yaml").write_text(yaml.safe_dump({"stages": {"search": stage}}))
    begin_search(search_of(world), "finished")
    assert run.run(stage_command, "pipeline.yaml").summary["search"].startswith("done")
    restarted = []
    original = tune.run

    def once_more(*arguments, restart, **settings):
        if not restart:
            return original(*arguments, restart=restart, **settings)
        restarted.append(arguments)
        return Outcome({})

    monkeypatch.setattr(tune, "run", once_more)
    stage["args"]["overrides"] = search_of(world, "seed=2")
    Path("pipeline.yaml").write_text(yaml.safe_dump({"stages": {"search": stage}}))
    assert run.run(stage_command, "pipeline.yaml").summary["search"].startswith("done")
    assert len(restarted) == 1


class Reached(Exception):
    pass


@pytest.mark.parametrize("verb", [train, tune])
def test_the_same_command_goes_on_in_another_working_folder(world, monkeypatch, tmp_path, verb):
    arguments = arguments_of(verb, ["data.store=store", "data.captions=captions.jsonl"])
    begin(verb, arguments)
    copy = tmp_path / "copy"
    shutil.copytree("store", copy / "store")
    shutil.copy("captions.jsonl", copy)
    monkeypatch.chdir(copy)

    def reached(address):
        raise Reached

    monkeypatch.setattr(driver, "connect", reached)
    with pytest.raises(Reached):
        verb.run("show_tell.small", arguments, out=str(tmp_path / "found"))
    other_captions()
    with pytest.raises(OtherRun, match="begun with other data"):
        verb.run("show_tell.small", arguments, out=str(tmp_path / "found"))


@pytest.mark.parametrize("what", ["recipe", "data"])
@pytest.mark.parametrize("verb", [train, tune])
def test_a_run_that_was_put_there_while_ray_started_is_left_alone(world, monkeypatch, verb, what):
    arguments = arguments_of(verb, world)
    begin(verb, arguments)

    def another():
        shutil.rmtree("found")
        begin(verb, arguments_of(verb, world, *(["seed=2"] if what == "recipe" else [])))
        if what == "data":
            with closing(RunFolder("found")) as journal:
                journal.take_lock(0)
                journal.update(data_id="of other captions")

    without_ray(monkeypatch, verb, another)
    with pytest.raises(OtherRun):
        verb.run("show_tell.small", arguments, out="found")
    assert yaml.safe_load(Path("found/recipe.yaml").read_text())["seed"] == (2 if what == "recipe" else 1)
    assert "mlflow_run_id" not in read_run("found") or verb is tune
    with closing(RunFolder("found")) as journal:
        journal.take_lock(0)


@pytest.mark.parametrize("verb", [train, tune])
def test_a_run_that_is_thrown_away_does_not_stay_open_in_mlflow(world, monkeypatch, verb):
    arguments = arguments_of(verb, world)
    begin(verb, arguments)
    recipe = tiny_recipe(world, Path("found"))
    old = Tracking(recipe, "old")
    Tracking(recipe, "000", parent=old.run_id, tags={"trial": "000"})
    done = Tracking(recipe, "001", parent=old.run_id, tags={"trial": "001"})
    done.client.set_terminated(done.run_id, "FINISHED")
    stranger = Tracking(recipe, "stranger")
    with closing(RunFolder("found")) as journal:
        journal.take_lock(0)
        journal.update(mlflow_run_id=old.run_id, mlflow_uri=old.uri)
    without_ray(monkeypatch, verb)
    verb.run("show_tell.small", arguments, out="found", restart=True)
    client = mlflow.MlflowClient(old.uri)
    found = client.search_runs([client.get_experiment_by_name("rnncond").experiment_id])
    assert {(run.info.run_name.removeprefix("show_tell "), run.info.status) for run in found} == {
        ("old", "KILLED"), ("000", "KILLED"), ("001", "FINISHED"), ("stranger", "RUNNING"), ("found", "FINISHED"),
    }  # fmt: skip
    assert stranger.run_id != read_run("found")["mlflow_run_id"] != old.run_id


def test_a_restart_does_not_need_what_the_old_run_says_of_mlflow(world, monkeypatch, capsys):
    arguments = arguments_of(train, world)
    for damaged in (
        '{"status": "runn',
        '{"data_id": "", "mlflow_run_id": "gone", "mlflow_uri": "sqlite:///mlflow.db"}',
    ):
        Path("found").mkdir(exist_ok=True)
        Path("found/run.json").write_text(damaged)
        without_ray(monkeypatch, train)
        train.run("show_tell.small", arguments, out="found", restart=True)
        assert read_run("found")["status"] == "finished"
    assert "was not told that the run before has ended" in capsys.readouterr().err
