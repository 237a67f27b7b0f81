"""A client of MLflow: its database made once, and its errors as the exit codes that a scheduler is told."""

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos import databricks_pb2 as codes

from pipelines.errors import Fault, UserError
from pipelines.tracking import client
from pipelines.tracking.client import check_reachable, client_at, if_known, make_or_get, needed, reach


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    for key, value in client.IMPATIENT.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


@pytest.fixture
def server():
    """An HTTP server that answers everything with the status and body that it is told."""

    class Handler(BaseHTTPRequestHandler):
        status, body = 500, {}

        def do_GET(self):
            self.send_response(Handler.status)
            self.end_headers()
            self.wfile.write(json.dumps(Handler.body).encode())

        do_POST = do_GET

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", Handler
        running.shutdown()


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("status", "name", "code"),
    [
        (500, "INTERNAL_ERROR", 4),
        (503, "TEMPORARILY_UNAVAILABLE", 4),
        (429, "REQUEST_LIMIT_EXCEEDED", 4),
        (401, "UNAUTHENTICATED", 2),
        (403, "PERMISSION_DENIED", 2),
        (404, "ENDPOINT_NOT_FOUND", 2),
    ],
)
def test_a_server_that_is_ill_is_a_fault_and_one_that_refuses_is_not(server, status, name, code):
    uri, handler = server
    handler.status, handler.body = status, {"error_code": name, "message": "it says so"}
    with pytest.raises(UserError, match=f"MLflow at {uri} cannot be used") as caught:
        client_at(uri)
    assert caught.value.code == code


def test_a_server_that_is_slow_or_away_is_a_fault(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        uri = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        monkeypatch.setattr(client, "PATIENCE", 0.5)
        with pytest.raises(Fault, match=r"no answer within 0\.5 seconds"):
            client_at(uri)
    monkeypatch.setattr(client, "PATIENCE", 60)
    with pytest.raises(Fault, match="cannot be used"):
        check_reachable(uri)


def test_a_database_that_cannot_be_is_the_users(tmp_path):
    for uri in (f"sqlite:///{tmp_path}/nowhere/mlflow.db", "file:///proc/nothing", "nonsense://x"):
        with pytest.raises(UserError, match="cannot be used") as caught:
            check_reachable(uri)
        assert caught.value.code == 2
    (tmp_path / "mlflow.db").write_text("no database")
    with pytest.raises(UserError, match="cannot be used"):
        check_reachable(f"sqlite:///{tmp_path}/mlflow.db")
    check_reachable(f"sqlite:///{tmp_path}/new.db")
    assert not (tmp_path / "new.db").exists()


def test_what_mlflow_says_ends_with_a_sentence_or_a_word(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for uri in ("mlruns", "nonsense://x"):
        with pytest.raises(UserError, match=r"cannot be used: \w+ \w+.*\. Start the server") as caught:
            client_at(uri)
        assert "See" not in str(caught.value)
    assert client.first_line(ValueError("a word " * 60)) == "a word " * 42 + "a [...]"
    assert client.first_line(ValueError("One. " + "x" * 300)) == "One"
    assert client.first_line(ValueError("x" * 301)) == "x" * 300 + " [...]"


def test_no_message_shows_a_password():
    with pytest.raises(UserError, match="a password in it") as caught:
        client_at("http://me:hunter2@host")
    assert "hunter2" not in str(caught.value)
    for call in (reach, lambda uri, work: needed(uri).__enter__() or work()):
        with pytest.raises(Exception) as told:
            call("http://me:hunter2@host", lambda: 1 / 0)
        assert "hunter2" not in str(told.value)


def refuse(code: int):
    def work():
        raise MlflowException("no", error_code=code)

    return work


def test_what_mlflow_does_not_have_is_none():
    assert if_known(lambda: 3) == 3
    assert if_known(refuse(codes.RESOURCE_DOES_NOT_EXIST)) is None
    with pytest.raises(MlflowException):
        if_known(refuse(codes.PERMISSION_DENIED))
    assert make_or_get(lambda: 1, lambda: 2) == 1
    assert make_or_get(refuse(codes.RESOURCE_ALREADY_EXISTS), lambda: 2) == 2
    with pytest.raises(MlflowException):
        make_or_get(refuse(codes.INTERNAL_ERROR), lambda: 2)


def test_artifacts_lie_beside_the_database_wherever_one_is(tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path)
    made = client_at(f"sqlite:///{tmp_path / 'there' / 'mlflow.db'}")
    place = made.get_experiment(made.create_experiment("captions")).artifact_location
    assert place.removeprefix("file://").startswith(f"{tmp_path / 'there' / 'mlruns'}/")
