"""MODEL as a user may name it, found as a folder."""

import pytest

from pipelines.errors import UserError
from pipelines.files.remote_folder import RemoteFolder
from pipelines.tracking.client import IMPATIENT
from pipelines.tracking.models import locate
from pipelines.verbs import caption, evaluate, promote, translate
from rnncond import checkpoint
from tests.worlds.translator import make_translator

pytestmark = pytest.mark.heavy


def folder(path):
    path.mkdir(parents=True)
    (path / "model.json").write_text("{}")
    return path


def test_a_model_folder_a_run_folder_and_one_that_holds_a_single_model(tmp_path):
    best = folder(tmp_path / "run" / "best")
    folder(tmp_path / "run" / "last")
    other = folder(tmp_path / "export" / "deep" / "captioner")
    assert locate(best) == best
    assert locate(tmp_path / "run") == best
    assert locate(tmp_path / "export") == other


def test_what_is_no_model_is_told(tmp_path):
    with pytest.raises(UserError, match="There is no model nowhere"):
        locate("nowhere")
    (tmp_path / "recipe.yaml").touch()
    with pytest.raises(UserError, match=r"no model\.json .* it has recipe\.yaml"):
        locate(tmp_path)
    folder(tmp_path / "a")
    folder(tmp_path / "b")
    with pytest.raises(UserError, match=r"2 models \(a, b\)"):
        locate(tmp_path)


def test_a_model_in_a_bucket(bucket, tmp_path):
    uri, put = bucket
    make_translator(tmp_path / "model")
    for file in (tmp_path / "model").iterdir():
        put(f"runs/nightly/best/{file.name}", file.read_bytes())
    expected = checkpoint.load(tmp_path / "model").model_id
    for name in ("runs/nightly", "runs/nightly/", "runs/nightly/best"):
        assert checkpoint.load(locate(f"{uri}/{name}")).model_id == expected
    put("half/best/model.json", (tmp_path / "model" / "model.json").read_bytes())
    with pytest.raises(checkpoint.ModelError, match="safetensors"):
        checkpoint.load(locate(f"{uri}/half"))
    with pytest.raises(UserError, match=r"/runs has no model: no model\.json in it or in its folder best"):
        locate(f"{uri}/runs")
    with pytest.raises(UserError, match="no-bucket-of-this-name"):
        locate("s3://no-bucket-of-this-name/model")


def test_a_model_of_a_run_that_was_trained_in_a_bucket(bucket, tmp_path):
    uri = f"{bucket[0]}/runs/nightly"
    remote = RemoteFolder.at(uri)
    writer = remote.begin()
    with pytest.raises(UserError, match=r"nightly has no model best: found none\. It gets one"):
        locate(uri)
    for seed, name in enumerate(("best", "last")):
        make_translator(tmp_path / name, seed=seed)
        files = {file.name: file.read_bytes() for file in (tmp_path / name).iterdir()}
        writer.contents.folders[name] = remote.send(name, files)
    writer.commit()
    expected = {name: checkpoint.load(tmp_path / name).model_id for name in ("best", "last")}
    for address, name in ((uri, "best"), (f"{uri}/", "best"), (f"{uri}/best", "best"), (f"{uri}/last", "last")):
        assert checkpoint.load(locate(address)).model_id == expected[name]
    with pytest.raises(UserError, match=r"has no model averaged: found best, last"):
        locate(f"{uri}/averaged")
    put = bucket[1]
    put(f"runs/nightly/{writer.contents.folders['last']['model.safetensors'].path}", b"half")
    with pytest.raises(UserError, match=r"nightly/last is damaged: model\.safetensors, 4 bytes"):
        locate(f"{uri}/last")
    writer.close()


def test_every_verb_that_takes_a_model_may_be_told_where_mlflow_is(tmp_path):
    (tmp_path / "text").write_text("a\n")
    model, tracking = "models:/x@champion", {"tracking_uri": f"sqlite:///{tmp_path}/other.db"}
    for call in (
        lambda: caption.run(model, "out", store="store", **tracking),
        lambda: translate.run(str(tmp_path / "text"), model, "out", **tracking),
        lambda: evaluate.run(model=model, **tracking),
        lambda: promote.run(model=model, name="x", **tracking),
    ):
        with pytest.raises(UserError, match=r"no database sqlite:///.*other\.db"):
            call()


@pytest.fixture
def tracking(tmp_path, monkeypatch):
    """An MLflow database with a run that has a model, registered under an alias."""
    import mlflow

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    for key, value in IMPATIENT.items():
        monkeypatch.setenv(key, value)
    client = mlflow.MlflowClient(uri, uri)
    run = client.create_run(client.create_experiment("x", (tmp_path / "artifacts").as_uri()))
    client.log_artifacts(run.info.run_id, folder(tmp_path / "made" / "best"), "model/best")
    client.create_registered_model("captioner")
    version = client.create_model_version("captioner", f"{run.info.artifact_uri}/model/best", run.info.run_id)
    client.set_registered_model_alias("captioner", "champion", version.version)
    return run.info.run_id


def test_from_mlflow(tracking):
    for uri in (f"runs:/{tracking}", f"runs:/{tracking}/model", "models:/captioner@champion", "models:/captioner/1"):
        assert (locate(uri) / "model.json").read_text() == "{}"
    for uri in ("models:/captioner@nobody", "models:/unknown/1", "runs:/unknown"):
        with pytest.raises(UserError, match=f"did not give {uri}: .*not found"):
            locate(uri)


def test_from_an_mlflow_that_only_the_caller_names(tracking, tmp_path, monkeypatch):
    """Whatever the environment says, and without another database in the current folder; of models of both kinds: in a
    run's artifacts, and logged beside it."""
    import mlflow

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    client = mlflow.MlflowClient(uri, uri)
    logged = client.create_logged_model(client.get_run(tracking).info.experiment_id, "other", tracking)
    client.log_model_artifacts(logged.model_id, folder(tmp_path / "logged" / "best"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for name in (f"runs:/{tracking}", f"runs:/{tracking}/model", f"runs:/{tracking}/other", "models:/captioner/1"):
        assert (locate(name, uri) / "model.json").read_text() == "{}"
    with pytest.raises(UserError, match=f"did not give runs:/{tracking}/none"):
        locate(f"runs:/{tracking}/none", uri)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_mlflow_is_not_made_to_create_an_empty_database(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(UserError, match="there is no database"):
        locate("models:/captioner@champion")
    assert not list(tmp_path.iterdir())
