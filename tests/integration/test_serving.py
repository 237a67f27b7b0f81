"""Models in MLflow: loaded and asked, in this process and over HTTP, they say what the verbs say."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path

import mlflow
import pandas as pd
import pytest
import safetensors.torch
import timm
import torch

from feature_store import Store
from pipelines.engine.driver import Options
from pipelines.errors import UserError
from pipelines.features import backbones
from pipelines.tracking.client import IMPATIENT
from pipelines.tracking.models import locate, weights_in
from pipelines.tracking.packaging import log_model, requirements, saved
from pipelines.tracking.serving import Captions, Translations
from pipelines.verbs import caption, promote
from rnncond import checkpoint
from tests.worlds.captioner import model_reading
from tests.worlds.translator import PAIRS, make_translator

BACKBONE = "timm/test_resnet"
SERVE_SECONDS = 300
PORTS = 3
"""That are tried: between its choice and its use another process may take one."""


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """A client of an MLflow, and the experiment there that ``promote`` adds to, its artifacts beside it."""
    folder = tmp_path_factory.mktemp("mlflow")
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db", f"sqlite:///{folder}/mlflow.db")
    return client, client.create_experiment(promote.EXPERIMENT, (folder / "artifacts").as_uri())


@pytest.fixture
def client(experiment, monkeypatch):
    for key, value in IMPATIENT.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", experiment[0].tracking_uri)
    return experiment[0]


@pytest.fixture
def run_id(client, experiment):
    return client.create_run(experiment[1]).info.run_id


def weights_file(folder: Path) -> Path:
    """A pickled file of weights that are neither the random ones nor anybody's."""
    torch.manual_seed(7)
    torch.save(timm.create_model(BACKBONE.removeprefix("timm/")).state_dict(), folder / "own.pth")
    return folder / "own.pth"


def rows_of(out: Path) -> dict[str, dict]:
    snapshot = Store(out).open(kind="captions").snapshot()
    return {row["image_id"]: row for batch in snapshot.scan() for row in batch.to_pylist()}


@pytest.mark.ray
def test_a_loaded_captioner_says_what_caption_says(ray_cluster, client, run_id, tmp_path, make_photos):
    photos, weights = make_photos(11), weights_file(tmp_path)
    recipe = backbones.load(BACKBONE, str(weights)).recipe
    model_reading(tmp_path / "best", "show_attend_tell", "grid", recipe)
    logged_id = log_model(client, run_id, tmp_path / "best", weights=str(weights))
    assert log_model(client, run_id, tmp_path / "best") == logged_id

    model = mlflow.pyfunc.load_model(f"runs:/{run_id}/model")
    pictures = sorted(photos.iterdir())
    by_bytes = model.predict(pd.DataFrame({"image": [path.read_bytes() for path in pictures]}), params={"beam": 3})
    paths = [*map(str, pictures), str(tmp_path / "nothing.jpg"), str(tmp_path / "best" / "model.json")]
    by_path = model.predict(pd.DataFrame({"uri": paths}), params={"beam": 3})
    # The weights come with the model; without them `caption` would look for others.
    caption.run(f"runs:/{run_id}", str(tmp_path / "out"), str(photos), beam=3, options=Options(workers=1))
    expected = rows_of(tmp_path / "out")
    for found in (by_bytes, by_path):
        assert list(found["caption"][:11]) == [expected[path.name]["caption"] for path in pictures]
        assert list(found["score"][:11]) == pytest.approx([expected[p.name]["score"] for p in pictures], abs=1e-4)
        assert found["error"][:11].isna().all()
    assert len(set(by_path["caption"][:11])) > 1
    assert by_path["error"][11] == "no such file" and "not a picture" in by_path["error"][12]
    assert by_path["caption"][11:].isna().all()


def test_weights_given_later_travel_with_the_champion(client, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    weights = weights_file(tmp_path)
    trained = model_reading(tmp_path / "best", "show_tell", "pooled", backbones.load(BACKBONE, str(weights)).recipe)
    trained.info |= {"recipe": {**trained.info["recipe"], "data": {}}, "CIDEr": 9.0}
    checkpoint.save(trained, tmp_path / "best")

    def promoted(**options):
        found = promote.run(model=str(tmp_path / "best"), name="teller", metric="CIDEr", **options).summary
        return found["version"], found["verdict"]

    assert promoted() == (1, "it is the champion, the first")
    assert weights_in(locate("models:/teller@champion")) is None
    for _ in range(2):
        version, _ = promoted(weights=str(weights))
        assert version == 2
        assert Path(weights_in(locate("models:/teller@champion"))).name == "own.safetensors"
    assert promoted() == (2, "it is the champion already")
    with pytest.raises(UserError, match="The model was trained on the features"):
        promote.run(model=str(tmp_path / "best"), name="teller", metric="CIDEr", weights="random")


def test_a_loaded_translator_says_what_its_model_says(client, run_id, tmp_path):
    make_translator(tmp_path / "best")
    log_model(client, run_id, tmp_path / "best")
    model = mlflow.pyfunc.load_model(f"runs:/{run_id}/model")
    expected = Translations(checkpoint.load(tmp_path / "best"))
    found = model.predict(pd.DataFrame({"text": [*PAIRS, ""]}))
    assert list(found["translation"][:-1]) == [row["translation"] for row in expected.translator(list(PAIRS))]
    assert found["translation"].iloc[-1] == ""
    greedy = model.predict(pd.DataFrame({"text": list(PAIRS)}), params={"beam": 1, "max_length": 3})
    assert all(len(said.split()) <= 3 for said in greedy["translation"])


def test_what_is_logged_needs_no_pickle_and_says_what_it_takes(client, run_id, tmp_path):
    weights = weights_file(tmp_path)
    recipe = backbones.load(BACKBONE, str(weights)).recipe
    trained = model_reading(tmp_path / "best", "show_tell", "pooled", recipe)
    with saved(tmp_path / "best", trained, str(weights)) as folder:
        files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
        assert {path.suffix for path in files} <= {
            "",
            ".py",
            ".yaml",
            ".txt",
            ".json",
            ".safetensors",
            ".html",
            ".css",
            ".js",
            ".md",
        }
        assert Path("artifacts/backbone/own.safetensors") in files
        assert Path("code/rnncond/contract.py") in files
        about = mlflow.models.Model.load(folder)
        assert [column.name for column in about.signature.inputs] == ["image", "uri"]
        assert {param.name: param.default for param in about.signature.params}["max_length"] == 8
        assert (folder / "requirements.txt").read_text().split() == requirements()
        example = about.load_input_example(folder)
        assert mlflow.pyfunc.load_model(str(folder)).predict(example)["error"].isna().all()
    assert all("==" in line for line in requirements())


def test_weights_of_another_network_are_refused(tmp_path):
    recipe = backbones.load(BACKBONE, str(weights_file(tmp_path))).recipe
    trained = model_reading(tmp_path / "best", "show_tell", "pooled", recipe)
    other = timm.create_model(BACKBONE.removeprefix("timm/")).state_dict()
    safetensors.torch.save_file(other, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="weights is"):
        Captions(trained, str(tmp_path / "other.safetensors"))


def test_a_request_without_a_picture_and_params_that_there_are_not(tmp_path):
    trained = model_reading(tmp_path / "best", "show_tell", "pooled", backbones.load(BACKBONE, "random").recipe)
    captions = Captions(trained, None)
    (answer,) = captions(pd.DataFrame({"image": [None], "uri": [None]}), {})
    assert "no picture: expected its bytes in the column `image`" in answer["error"]
    with pytest.raises(UserError, match="there is no temperature"):
        captions(pd.DataFrame({"uri": ["x"]}), {"temperature": 1.0})


@pytest.fixture
def serve(tmp_path):
    """A function that starts `mlflow models serve` for a model; returns what asks it over HTTP."""
    servers = []

    def start(model: str):
        for _ in range(PORTS):
            address, server = serve_at_a_free_port(model)
            servers.append(server)
            if is_up(f"{address}/health", server, tmp_path / "serve.log"):
                return partial(ask, address)
        raise AssertionError((tmp_path / "serve.log").read_text())

    def serve_at_a_free_port(model: str) -> tuple[str, subprocess.Popen]:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", model, "-h", "127.0.0.1", "-p", str(port)]
        environment = os.environ | {
            "OMP_NUM_THREADS": "1",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        log = open(tmp_path / "serve.log", "wb")  # noqa: SIM115
        server = subprocess.Popen([*command, "--env-manager", "local", "-w", "1"], env=environment, stdout=log,
                                  stderr=subprocess.STDOUT, start_new_session=True)  # fmt: skip
        return f"http://127.0.0.1:{port}", server

    def ask(address: str, rows: list[dict], **params):
        body = json.dumps({"dataframe_records": rows, "params": params}).encode()
        request = urllib.request.Request(f"{address}/invocations", body, {"Content-Type": "application/json"})
        try:
            return json.loads(urllib.request.urlopen(request, timeout=SERVE_SECONDS).read())["predictions"]
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from None

    yield start
    for server in servers:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, 15)
        server.wait()


def is_up(url: str, server: subprocess.Popen, log: Path) -> bool:
    """Await the server's answer; False if it ended because another process had taken its port meanwhile."""
    end = time.monotonic() + SERVE_SECONDS
    while True:
        try:
            urllib.request.urlopen(url, timeout=5)
            return True
        except (urllib.error.URLError, OSError):
            said = log.read_text()
            if server.poll() is not None and "address already in use" in said.lower():
                return False
            assert server.poll() is None and time.monotonic() < end, said
            time.sleep(0.1)


def test_a_served_captioner_answers_pictures_over_http(client, run_id, tmp_path, make_photos, serve):
    photos, weights = sorted(make_photos(2).iterdir()), weights_file(tmp_path)
    trained = model_reading(tmp_path / "best", "show_tell", "pooled", backbones.load(BACKBONE, str(weights)).recipe)
    log_model(client, run_id, tmp_path / "best", weights=str(weights))
    ask = serve(f"runs:/{run_id}/model")
    pictures = [base64.b64encode(photo.read_bytes()).decode() for photo in photos]
    answers = ask([{"image": picture} for picture in [*pictures, "AAAA"]], beam=3)
    expected = Captions(trained, str(weights))(pd.DataFrame({"uri": list(map(str, photos))}), {"beam": 3})
    assert [answer["caption"] for answer in answers[:2]] == [answer["caption"] for answer in expected]
    assert [answer["error"] for answer in answers[:2]] == [None, None]
    assert answers[2]["caption"] is None and "not a picture" in answers[2]["error"]
    assert [answer["caption"] for answer in ask([{"uri": str(photo)} for photo in photos], beam=3)] == [
        answer["caption"] for answer in answers[:2]
    ]


@pytest.mark.slow
def test_a_served_translator_answers_text_over_http(client, run_id, tmp_path, serve):
    trained = make_translator(tmp_path / "best")
    log_model(client, run_id, tmp_path / "best")
    answers = serve(f"runs:/{run_id}/model")([{"text": text} for text in PAIRS], beam=2)
    expected = Translations(trained)(pd.DataFrame({"text": list(PAIRS)}), {"beam": 2})
    assert [answer["translation"] for answer in answers] == [answer["translation"] for answer in expected]
    assert locate(f"runs:/{run_id}").name == "model"
