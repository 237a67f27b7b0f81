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

from feature_store import Store
from pipelines.engine.driver import Options
from pipelines.features import backbones
from pipelines.tracking.client import IMPATIENT
from pipelines.tracking.models import locate
from pipelines.tracking.packaging import log_model
from pipelines.tracking.serving import ServedCaptioner, ServedTranslator
from pipelines.verbs import caption, promote
from tests.worlds.captioner import BACKBONE, model_reading, weights_file
from tests.worlds.translator import PAIRS, make_translator

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


def rows_of(out: Path) -> dict[str, dict]:
    snapshot = Store(out).open(kind="captions").snapshot()
    return {row["image_id"]: row for batch in snapshot.scan() for row in batch.to_pylist()}


def test_a_loaded_captioner_says_what_caption_says(without_ray, client, run_id, tmp_path, make_photos):
    photos, weights = make_photos(11), weights_file(tmp_path)
    recipe = backbones.load(BACKBONE, str(weights)).recipe
    model_reading(tmp_path / "best", "show_attend_tell", "grid", recipe)
    logged_id = log_model(client, run_id, tmp_path / "best", weights=str(weights))
    assert log_model(client, run_id, tmp_path / "best") == logged_id

    model = mlflow.pyfunc.load_model(f"runs:/{run_id}/model")
    pictures = sorted(photos.iterdir())
    answers = model.predict(pd.DataFrame({"image": [path.read_bytes() for path in pictures]}), params={"beam": 3})
    # The weights come with the model; without them `caption` would look for others.
    caption.run(f"runs:/{run_id}", str(tmp_path / "out"), str(photos), beam=3, options=Options(workers=1))
    expected = rows_of(tmp_path / "out")
    assert list(answers["caption"]) == [expected[path.name]["caption"] for path in pictures]
    assert list(answers["score"]) == pytest.approx([expected[path.name]["score"] for path in pictures], abs=1e-4)
    assert answers["error"].isna().all() and len(set(answers["caption"])) > 1


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
    expected = ServedCaptioner(trained, str(weights))(
        pd.DataFrame({"image": [photo.read_bytes() for photo in photos]}), {"beam": 3}
    )
    assert [answer["caption"] for answer in answers[:2]] == [answer["caption"] for answer in expected]
    assert [answer["error"] for answer in answers[:2]] == [None, None]
    assert answers[2]["caption"] is None and "not a picture" in answers[2]["error"]
    (closed,) = ask([{"uri": str(photos[0])}])
    assert closed["caption"] is None and "`uri` is off" in closed["error"]


@pytest.mark.slow
def test_a_served_translator_answers_text_over_http(client, run_id, tmp_path, serve):
    trained = make_translator(tmp_path / "best")
    log_model(client, run_id, tmp_path / "best")
    answers = serve(f"runs:/{run_id}/model")([{"text": text} for text in PAIRS], beam=2)
    expected = ServedTranslator(trained)(pd.DataFrame({"text": list(PAIRS)}), {"beam": 2})
    assert [answer["translation"] for answer in answers] == [answer["translation"] for answer in expected]
    assert locate(f"runs:/{run_id}").name == "model"
