"""What MLflow is given of a model: no pickle, what it takes and opens, and the weights that travel with it."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest

from pipelines.features import backbones
from pipelines.tracking.packaging import log_model, requirements, saved
from pipelines.tracking.registry import ALLOWED_URIS
from tests.worlds.captioner import BACKBONE, model_reading, weights_file
from tests.worlds.translator import make_translator

pytestmark = pytest.mark.heavy

SUFFIXES = {".typed", "", ".py", ".yaml", ".txt", ".json", ".safetensors", ".html", ".css", ".js", ".md"}


def test_what_is_logged_needs_no_pickle_and_says_what_it_takes(tmp_path):
    weights = weights_file(tmp_path)
    recipe = backbones.load(BACKBONE, str(weights)).recipe
    trained = model_reading(tmp_path / "best", "show_tell", "pooled", recipe)
    with saved(tmp_path / "best", trained, str(weights), allowed_uris=["s3://bucket/"]) as folder:
        files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
        assert {path.suffix for path in files} <= SUFFIXES
        assert Path("artifacts/backbone/own.safetensors") in files
        assert Path("code/rnncond/contract.py") in files
        about = mlflow.models.Model.load(folder)
        assert [column.name for column in about.signature.inputs] == ["image", "uri"]
        assert {param.name: param.default for param in about.signature.params}["max_length"] == 8
        assert (folder / "requirements.txt").read_text().split() == requirements()
        example = about.load_input_example(folder)
        model = mlflow.pyfunc.load_model(str(folder))
        assert model.predict(example)["error"].isna().all()
        assert model.model_config["allowed_uris"] == ["s3://bucket/"]
        assert model.unwrap_python_model().model.allowed.prefixes == ["s3://bucket/"]
    assert all("==" in line for line in requirements())


def test_a_model_is_logged_once_for_what_it_opens(tmp_path):
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    run_id = client.create_run(client.create_experiment("e", (tmp_path / "artifacts").as_uri())).info.run_id
    make_translator(tmp_path / "best")
    first = log_model(client, run_id, tmp_path / "best")
    assert client.get_logged_model(first).tags[ALLOWED_URIS] == "none"
    assert log_model(client, run_id, tmp_path / "best") == first
    other = log_model(client, run_id, tmp_path / "best", allowed_uris=["s3://a/", "https://b/"])
    assert other != first and client.get_logged_model(other).tags[ALLOWED_URIS] == "s3://a/ https://b/"


@pytest.mark.parametrize("tags", [{}, {ALLOWED_URIS: "s3://a/"}])
def test_one_that_opens_other_addresses_is_not_taken_for_it(tmp_path, tags):
    """Version 0.1.0 logged no such tag, and its models open whatever they are asked to."""
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    run_id = client.create_run(client.create_experiment("e", (tmp_path / "artifacts").as_uri())).info.run_id
    make_translator(tmp_path / "best")
    first = log_model(client, run_id, tmp_path / "best")
    client.delete_logged_model_tag(first, ALLOWED_URIS)
    client.set_logged_model_tags(first, tags)
    assert log_model(client, run_id, tmp_path / "best") != first
