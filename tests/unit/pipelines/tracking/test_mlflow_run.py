import hashlib
import json
import sys
import time
from pathlib import Path

import mlflow
import pytest
from mlflow.exceptions import MlflowException

from pipelines.errors import Fault, UserError
from pipelines.tracking import mlflow_run as module
from pipelines.tracking.mlflow_run import Tracking, log_evaluation, log_page
from pipelines.tracking.models import locate
from pipelines.training.data.task import prepare
from rnncond.checkpoint import load
from tests.worlds.training import make_world, tiny_recipe
from tests.worlds.translator import make_translator

pytestmark = pytest.mark.heavy

LINES = [{"epoch": epoch, "train_loss": 1.0 / epoch, "BLEU-4": float(epoch)} for epoch in (1, 2, 3)]


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture
def recipe(tmp_path, uri, monkeypatch):
    monkeypatch.chdir(tmp_path)
    world = make_world(tmp_path)
    overrides = (f"tracking.uri={uri}", f"tracking.experiment={tmp_path.name}", "tracking.registered_model=captioner",
                 "tracking.system_metrics=false")  # fmt: skip
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
    assert run.data.tags["mlflow.source.name"] and run.data.tags["rnncond.dataset"].endswith("/store")
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


def test_the_best_epoch_is_beside_the_last(recipe):
    cider = {1: 1.0, 2: 3.0, 4: 2.0}
    scores = [{"epoch": epoch, "val_loss": 5.0 - epoch, "CIDEr": score} for epoch, score in cider.items()]
    with Tracking(recipe, "run") as tracking:
        tracking.log([*scores[:2], {"epoch": 3, "train_loss": 1.0}, scores[2]])
    client, (run,) = runs(recipe)
    assert {key: value for key, value in run.data.metrics.items() if key in ("CIDEr", "val_loss", "epoch")} == scores[2]
    assert [run.data.metrics[f"best_{key}"] for key in ("CIDEr", "val_loss", "epoch")] == [3.0, 3.0, 2.0]
    history = client.get_metric_history(run.info.run_id, "best_CIDEr")
    assert [(metric.step, metric.value) for metric in history] == [(1, 1.0), (2, 3.0), (3, 3.0), (4, 3.0)]


def test_a_child_run_has_its_parent_and_tags(recipe):
    with Tracking(recipe, "search") as parent, Tracking(recipe, "trial", parent=parent.run_id, tags={"trial": "7"}):
        pass
    _, found = runs(recipe)
    child = next(run for run in found if run.info.run_name == "show_tell trial")
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
        assert tracking.log(LINES)
    client, (run,) = runs(recipe)
    assert [metric.step for metric in client.get_metric_history(run.info.run_id, "train_loss")] == [1, 2, 3]


def test_an_epoch_that_mlflow_did_not_take_is_not_passed_over(recipe, monkeypatch):
    """The next one gets through; were it logged, the first would never be."""
    with Tracking(recipe, "run") as tracking:
        take, calls = tracking.client.log_batch, []

        def refuse_once(*arguments, **keywords):
            calls.append(arguments)
            if len(calls) == 1:
                raise ConnectionError("refused")
            take(*arguments, **keywords)

        monkeypatch.setattr(tracking.client, "log_batch", refuse_once)
        assert not tracking.log(LINES)
        assert tracking.log(LINES)
    client, (run,) = runs(recipe)
    assert [metric.step for metric in client.get_metric_history(run.info.run_id, "epoch")] == [1, 2, 3]


def test_a_run_whose_id_was_not_written_down_is_found_by_its_key_and_gets_what_it_lacks(recipe, monkeypatch):
    """The driver was killed when MLflow had made the run, before its parameters."""
    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, "log_text", lambda *_: sys.exit(9))
        with pytest.raises(SystemExit):
            Tracking(recipe, "run", key="k1")
    _, (orphan,) = runs(recipe)
    assert orphan.data.params == {}
    with Tracking(recipe, "run", key="k1") as tracking, Tracking(recipe, "run", key="k2") as other:
        assert tracking.run_id == orphan.info.run_id != other.run_id
    run = tracking.client.get_run(tracking.run_id)
    assert run.data.params["model.hidden"] == "8"
    assert mlflow.artifacts.load_text(f"{run.info.artifact_uri}/recipe.yaml") == recipe.to_yaml()


def test_a_server_that_is_away_at_the_end_is_a_fault_and_the_same_again_hands_all_in(recipe, tmp_path, monkeypatch):
    recipe = recipe.model_copy(update={"tracking": recipe.tracking.model_copy(update={"registered_model": None})})
    out = tmp_path / "run"
    make_translator(out / "best", seed=1)
    (out / "samples.jsonl").write_text("{}\n")
    (out / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES))
    best = {"epoch": 1, "val_loss": 1.0, "CIDEr": 1.0}

    def away(*_, **__):
        raise MlflowException("refused")

    for method in ("log_batch", "log_artifact", "create_logged_model"):
        with monkeypatch.context() as patch, pytest.raises(Fault, match="Run the same command again"):
            tracking = Tracking(recipe, "run", key="k")
            patch.setattr(tracking.client, method, away)
            tracking.hand_in(out, "CIDEr", best)
    tracking = Tracking(recipe, "run", key="k")
    tracking.hand_in(out, "CIDEr", best)
    history = tracking.client.get_metric_history(tracking.run_id, "epoch")
    assert [metric.step for metric in history] == [1, 2, 3]
    assert [model.name for model in outputs(tracking)] == ["model"]


def hand_in(recipe, out, seed, value, averaged=False):
    """The end of a run in ``out`` whose best model, made of ``seed``, has the score ``value``."""
    make_translator(out / "best", seed=seed)
    if averaged:
        make_translator(out / "averaged", seed=seed + 100)
    (out / "samples.jsonl").write_text("{}\n")
    with Tracking(recipe, out.name) as tracking:
        tracking.registered = tracking.hand_in(out, "CIDEr", {"epoch": 1, "val_loss": 1.0, "CIDEr": value})
    return tracking


def champion(tracking):
    return tracking.client.get_model_version_by_alias("captioner", "champion")


def test_a_model_that_beats_the_champion_on_the_same_data_takes_its_place(recipe, tmp_path, capsys):
    verdicts = {
        1: "it is the champion, the first",
        2: "not the champion: CIDEr 4 against 5 of version 1",
        3: "it is the champion: CIDEr 6 against 5 of version 1",
        4: "not the champion: CIDEr 6 against 6 of version 3",
    }
    for seed, value, best in ((1, 5.0, 5.0), (2, 4.0, 5.0), (3, 6.0, 6.0), (4, 6.0, 6.0)):
        tracking = hand_in(recipe, tmp_path / str(seed), seed, value, averaged=seed == 4)
        assert champion(tracking).tags["CIDEr"] == str(best)
        uri = "models:/captioner@champion" if seed in (1, 3) else f"models:/captioner/{seed}"
        expected = {"name": "captioner", "version": seed, "uri": uri, "verdict": verdicts[seed]}
        assert tracking.registered == expected
    assert len(tracking.client.search_model_versions("name = 'captioner'")) == 4
    assert champion(tracking).version == 3
    assert locate("models:/captioner@champion", recipe.tracking.uri).name == "model"
    found = load(locate("models:/captioner@champion", recipe.tracking.uri))
    assert found.model_id == load(tmp_path / "3" / "best").model_id
    assert {model.name for model in outputs(tracking)} == {"model", "averaged"}
    assert "is not known" not in capsys.readouterr().err

    with open(recipe.data.captions, "a") as file:
        file.write("\n")
    tracking = hand_in(recipe, tmp_path / "5", 5, 9.0)
    assert champion(tracking).version == 3
    assert "was judged by other data" in capsys.readouterr().err


def outputs(tracking):
    run = tracking.client.get_run(tracking.run_id)
    return [tracking.client.get_logged_model(output.model_id) for output in run.outputs.model_outputs]


def test_a_model_is_logged_and_registered_once(recipe, tmp_path):
    tracking = hand_in(recipe, tmp_path / "1", 1, 5.0, averaged=True)
    versions = len(tracking.client.search_model_versions("name = 'captioner'"))
    again = tracking.hand_in(tmp_path / "1", "CIDEr", {"epoch": 1, "val_loss": 1.0, "CIDEr": 5.0})
    assert again["version"] == tracking.registered["version"]
    assert len(outputs(tracking)) == 2
    assert len(tracking.client.search_model_versions("name = 'captioner'")) == versions


def test_what_a_run_learnt_from_is_kept(recipe):
    task, _ = prepare(recipe)
    with Tracking(recipe, "run") as tracking:
        tracking.describe(task)
        tracking.describe(task)
    run = tracking.client.get_run(tracking.run_id)
    found = {
        (entry.tags[0].value, entry.dataset.digest, json.loads(entry.dataset.source).get("split"))
        for entry in run.inputs.dataset_inputs
    }
    digest = hashlib.sha256(Path(recipe.data.captions).read_bytes()).hexdigest()[:32]
    assert found == {
        ("training", task.features["fingerprint"], None),
        ("training", digest, "train"),
        ("validation", digest, "val"),
    }
    assert mlflow.artifacts.load_dict(f"{run.info.artifact_uri}/vocabulary.json") == json.loads(task.vocabulary)


def test_the_scores_of_an_evaluation_go_to_the_run_and_trouble_is_told(recipe, tmp_path, capsys):
    with Tracking(recipe, "run") as tracking:
        pass
    (tmp_path / "evaluation.json").write_text("{}")
    run = {"mlflow_run_id": tracking.run_id, "mlflow_uri": tracking.uri}
    log_evaluation(run, tmp_path / "evaluation.json", {"CIDEr": 50.5, "BLEU-4": 20.0}, "the split val of x.json")
    assert tracking.client.get_run(tracking.run_id).data.tags["evaluate_of"] == "the split val of x.json"
    metrics = tracking.client.get_run(tracking.run_id).data.metrics
    assert (metrics["evaluate_CIDEr"], metrics["evaluate_BLEU-4"]) == (50.5, 20.0)
    assert "evaluation.json" in [file.path for file in tracking.client.list_artifacts(tracking.run_id)]
    log_evaluation({}, tmp_path / "evaluation.json", {"CIDEr": 1.0}, "")
    log_evaluation(run | {"mlflow_run_id": "f" * 32}, tmp_path / "evaluation.json", {"CIDEr": 1.0}, "")
    assert "did not take the scores" in capsys.readouterr().err


def test_the_page_of_a_run_goes_to_mlflow_and_trouble_is_told(recipe, tmp_path, capsys):
    (tmp_path / "report.html").write_text("page")
    with Tracking(recipe, "run") as tracking:
        pass
    log_page({"mlflow_run_id": tracking.run_id, "mlflow_uri": tracking.uri}, tmp_path / "report.html")
    artifacts = [file.path for file in tracking.client.list_artifacts(tracking.run_id)]
    assert "report.html" in artifacts and "recipe.yaml" in artifacts
    log_page({}, tmp_path / "report.html")  # captions, which have no run
    assert capsys.readouterr().err == ""
    log_page({"mlflow_run_id": "0" * 32, "mlflow_uri": tracking.uri}, tmp_path / "report.html")
    assert "did not take the page" in capsys.readouterr().err


def test_curves_within_epochs_are_drawn_now_and_then_and_each_step_once(recipe, monkeypatch):
    entry = {"epoch": 1, "step": 3, "of": 9, "steps": 3, "train_loss": 2.5, "learning_rate": 0.1, "words_per_second": 7}
    with Tracking(recipe, "run") as tracking:
        tracking.log_step(entry)
        tracking.log_step(entry | {"steps": 4})  # too soon
    monkeypatch.setattr(module, "STEP_SECONDS", 0)
    with Tracking(recipe, "run", tracking.run_id) as again:
        again.log_step(entry)  # trained again after a failure
        again.log_step(entry | {"steps": 6})
    history = again.client.get_metric_history(again.run_id, "step/train_loss")
    assert [(metric.step, metric.value) for metric in history] == [(3, 2.5), (6, 2.5)]
    names = again.client.get_run(again.run_id).data.metrics
    assert {name for name in names if name.startswith("step/")} == {
        "step/train_loss", "step/learning_rate", "step/words_per_second"
    }  # fmt: skip


def test_the_machine_is_watched(recipe, monkeypatch):
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.05")
    watched = recipe.model_copy(update={"tracking": recipe.tracking.model_copy(update={"system_metrics": True})})
    with Tracking(watched, "run") as tracking:
        end = time.monotonic() + 60
        while not tracking.client.get_run(tracking.run_id).data.metrics:
            assert time.monotonic() < end
            time.sleep(0.05)
    assert "system/cpu_utilization_percentage" in tracking.client.get_run(tracking.run_id).data.metrics


def test_a_run_is_not_left_running_where_its_artifacts_cannot_be_written(recipe):
    client = mlflow.MlflowClient(recipe.tracking.uri)
    client.create_experiment(recipe.tracking.experiment, artifact_location="/proc/nothing")
    for _ in range(2):  # the second finds the run of the first by its key
        with pytest.raises(UserError, match="cannot be used"):
            Tracking(recipe, "run", key="k")
        assert [run.info.status for run in runs(recipe)[1]] == ["FAILED"]


def test_a_machine_that_cannot_be_watched_is_trained_on_all_the_same(recipe, monkeypatch, capsys):
    def broken(*_, **__):
        raise MlflowException("no sensors")

    monkeypatch.setattr("mlflow.system_metrics.system_metrics_monitor.SystemMetricsMonitor", broken)
    watched = recipe.model_copy(update={"tracking": recipe.tracking.model_copy(update={"system_metrics": True})})
    with Tracking(watched, "run") as tracking:
        tracking.log(LINES)
    assert "is not watched: no sensors" in capsys.readouterr().err
    assert [run.info.status for run in runs(recipe)[1]] == ["FINISHED"]


def test_the_environment_names_the_server_where_the_recipe_does_not(recipe, uri, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    plain = recipe.model_copy(update={"tracking": recipe.tracking.model_copy(update={"uri": None})})
    with Tracking(plain, "run") as tracking:
        assert tracking.uri == uri


SECRETS = {
    "AWS_ACCESS_KEY_ID": "planted-id-1",
    "AWS_SECRET_ACCESS_KEY": "planted-key-2",
    "AWS_SESSION_TOKEN": "planted-session-3",
    "MLFLOW_TRACKING_PASSWORD": "planted-password-4",
    "MLFLOW_TRACKING_TOKEN": "planted-token-5",
    "HF_TOKEN": "planted-hub-6",
}


def test_nothing_that_a_run_writes_has_a_secret_of_its_environment(recipe, tmp_path, monkeypatch, capfd):
    for key, value in SECRETS.items():
        monkeypatch.setenv(key, value)
    tracking = hand_in(recipe, tmp_path / "run", 1, 5.0)
    database = Path(recipe.tracking.uri.removeprefix("sqlite:///"))
    artifacts = Path(tracking.client.get_run(tracking.run_id).info.artifact_uri).parents[1]
    files = [file for root in (tmp_path, artifacts) for file in root.rglob("*") if file.is_file()]
    assert len({file.name for file in files} & {"MLmodel", "recipe.yaml", "model.json"}) == 3
    written = b"".join(file.read_bytes() for file in [database, *files]) + "".join(capfd.readouterr()).encode()
    assert b"BLEU" in written and not any(secret.encode() in written for secret in SECRETS.values())
