import json
import socket
import time

import mlflow
import pytest
from training_world import make_world, tiny_recipe

from pipelines import tracking as module
from pipelines.console import UserError
from pipelines.tracking import Tracking

LINES = [{"epoch": epoch, "train_loss": 1.0 / epoch, "BLEU-4": float(epoch)} for epoch in (1, 2, 3)]


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture
def recipe(tmp_path, uri, monkeypatch):
    monkeypatch.chdir(tmp_path)
    world = make_world(tmp_path)
    overrides = (f"tracking.uri={uri}", f"tracking.experiment={tmp_path.name}", "tracking.registered_model=captioner")
    return tiny_recipe(world, tmp_path / "run", *overrides)


def runs(recipe):
    client = mlflow.MlflowClient(recipe.tracking.uri)
    experiment = client.get_experiment_by_name(recipe.tracking.experiment)
    return client, client.search_runs([experiment.experiment_id])


def test_a_run_has_parameters_curves_and_the_recipe(recipe):
    with Tracking(recipe, "run") as tracking:
        tracking.log(LINES[:2])
        tracking.log(LINES)
    client, (run,) = runs(recipe)
    assert run.info.status == "FINISHED"
    assert run.data.params["model.hidden"] == "8"
    assert run.data.params["training.learning_rate"] == "0.01"
    history = client.get_metric_history(run.info.run_id, "BLEU-4")
    assert [(metric.step, metric.value) for metric in history] == [(1, 1.0), (2, 2.0), (3, 3.0)]
    assert mlflow.artifacts.load_text(f"{run.info.artifact_uri}/recipe.yaml") == recipe.to_yaml()


def test_a_run_that_goes_on_is_the_same_run_with_each_epoch_once(recipe):
    with pytest.raises(RuntimeError), Tracking(recipe, "run") as tracking:
        tracking.log(LINES[:2])
        raise RuntimeError
    client, (run,) = runs(recipe)
    assert run.info.status == "FAILED"
    with Tracking(recipe, "run", tracking.run_id) as again:
        _, (run,) = runs(recipe)
        assert run.info.status == "RUNNING"
        again.log(LINES)
    _, (run,) = runs(recipe)
    assert run.info.status == "FINISHED"
    assert [metric.step for metric in client.get_metric_history(run.info.run_id, "epoch")] == [1, 2, 3]


def test_a_child_run_has_its_parent_and_tags(recipe):
    with Tracking(recipe, "search") as parent, Tracking(recipe, "trial", parent=parent.run_id, tags={"trial": "7"}):
        pass
    _, found = runs(recipe)
    child = next(run for run in found if run.info.run_name == "trial")
    assert child.data.tags["mlflow.parentRunId"] == parent.run_id
    assert child.data.tags["trial"] == "7"


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit(15)])
def test_an_interrupted_run_is_killed(recipe, end):
    with pytest.raises((KeyboardInterrupt, SystemExit)), Tracking(recipe, "run"):
        raise end
    assert [run.info.status for run in runs(recipe)[1]] == ["KILLED"]


def test_a_run_that_mlflow_has_lost_gets_a_new_one(recipe, capsys):
    with Tracking(recipe, "run", "0" * 32) as tracking:
        tracking.log(LINES)
    assert "does not know the run" in capsys.readouterr().err
    assert [run.info.run_id for run in runs(recipe)[1]] == [tracking.run_id]


def test_a_server_that_is_away_for_a_while_gets_the_missed_epochs_later(recipe, monkeypatch, capsys):
    def away(*_, **__):
        raise ConnectionError("refused")

    with Tracking(recipe, "run") as tracking:
        with monkeypatch.context() as patch:
            patch.setattr(tracking.client, "log_batch", away)
            tracking.log(LINES[:1])
            tracking.log(LINES[:2])
        assert capsys.readouterr().err.count("takes no metrics") == 1
        tracking.log(LINES)
    client, (run,) = runs(recipe)
    assert [metric.step for metric in client.get_metric_history(run.info.run_id, "train_loss")] == [1, 2, 3]


def make_model(folder, name):
    (folder / "best").mkdir(parents=True)
    (folder / "best" / "model.json").write_text(json.dumps({"name": name}))
    (folder / "samples.jsonl").write_text("{}\n")
    return folder


def test_the_best_registered_model_is_the_champion(recipe, tmp_path):
    for name, value in (("first", 5.0), ("worse", 4.0), ("better", 6.0)):
        with Tracking(recipe, name) as tracking:
            tracking.hand_in(make_model(tmp_path / name, name), "CIDEr", {"epoch": 1, "val_loss": 1.0, "CIDEr": value})
    client = mlflow.MlflowClient(recipe.tracking.uri)
    assert len(client.search_model_versions("name = 'captioner'")) == 3
    champion = client.get_model_version_by_alias("captioner", "champion")
    assert champion.tags == {"CIDEr": "6.0"}
    files = mlflow.artifacts.download_artifacts(champion.source, tracking_uri=recipe.tracking.uri)
    assert "better" in (tmp_path / "x" / files / "model.json").read_text()


def test_a_server_that_does_not_answer_is_said_in_time(recipe, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        uri = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        silent = recipe.model_copy(update={"tracking": recipe.tracking.model_copy(update={"uri": uri})})
        before = time.monotonic()
        with pytest.raises(UserError, match=f"MLflow at {uri} cannot be used: no answer within 0.5 seconds"):
            Tracking(silent, "run")
    assert time.monotonic() - before < 10


@pytest.mark.parametrize("uri", ["file:///proc/nothing", "sqlite:////proc/nothing/mlflow.db", "nonsense://x"])
def test_an_address_that_cannot_work_is_said(recipe, uri):
    other = recipe.model_copy(update={"tracking": recipe.tracking.model_copy(update={"uri": uri})})
    with pytest.raises(UserError, match="cannot be used"):
        Tracking(other, "run")


def test_the_environment_names_the_server_where_the_recipe_does_not(recipe, uri, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    plain = recipe.model_copy(update={"tracking": recipe.tracking.model_copy(update={"uri": None})})
    with Tracking(plain, "run") as tracking:
        assert tracking.uri == uri
