"""Which errors are told, and with which exit code: each message has its own."""

from __future__ import annotations

import errno

import pytest

from feature_store import StoreError
from pipelines import errors
from pipelines.cluster import connection, jobs
from pipelines.cluster.jobs import Server
from pipelines.errors import Fault, OtherRun, UserError, exit_code, user_message
from pipelines.tracking import client


def ray_does_not_start(monkeypatch):
    def init(**_):
        raise RuntimeError("The current node timed out during startup.")

    monkeypatch.setattr(connection.ray, "init", init)
    connection.start("local", {})


def ray_is_away(monkeypatch):
    connection.refuse_if_nobody_answers("127.0.0.1:1")


def ray_is_no_address(monkeypatch):
    connection.refuse_if_nobody_answers("127.0.0.1:port")


def ray_is_nowhere(monkeypatch):
    connection.refuse_if_nobody_answers("nowhere.invalid:6379")


class Ill:
    """A client of a dashboard that answers with an error."""

    def __init__(self, message: str) -> None:
        self.message = message

    def get_job_info(self, job):
        raise RuntimeError(f"Request failed with status code {self.message}")


def dashboard_is_ill(monkeypatch):
    Server("a", Ill("500: Internal Server Error")).details("one")


def dashboard_refuses(monkeypatch):
    Server("a", Ill("400: bad request")).details("one")


def dashboard_is_away(monkeypatch):
    jobs.refuse_if_no_dashboard("http://127.0.0.1:1")


def mlflow_is_slow(monkeypatch):
    import threading

    monkeypatch.setattr(client, "PATIENCE", 0.05)
    client.reach("http://mlflow:5000", threading.Event().wait)


def mlflow_is_ill(monkeypatch):
    def ask():
        raise RuntimeError("API request to endpoint failed with error code 503 != 200")

    client.reach("http://mlflow:5000", ask)


def mlflow_is_away(monkeypatch):
    def ask():
        raise RuntimeError("Max retries exceeded") from ConnectionRefusedError(111, "Connection refused")

    client.reach("http://mlflow:5000", ask)


def mlflow_wants_a_password(monkeypatch):
    def ask():
        raise RuntimeError("API request to endpoint failed with error code 401 != 200")

    client.reach("http://mlflow:5000", ask)


def mlflow_has_no_folder(monkeypatch):
    client.check_reachable("sqlite:////none/mlflow.db")


CODES = {
    ray_does_not_start: (4, "Ray did not start"),
    ray_is_away: (4, "nothing answers at 127.0.0.1:1"),
    ray_is_no_address: (2, "expected HOST:PORT"),
    ray_is_nowhere: (2, "nothing answers at nowhere.invalid"),
    dashboard_is_ill: (4, "500"),
    dashboard_refuses: (2, "refuses"),
    dashboard_is_away: (4, "no Ray dashboard answers"),
    mlflow_is_slow: (4, "no answer within"),
    mlflow_is_ill: (4, "503"),
    mlflow_is_away: (4, "Connection refused"),
    mlflow_wants_a_password: (2, "401"),
    mlflow_has_no_folder: (2, "no folder"),
}


@pytest.mark.parametrize("cause", CODES, ids=lambda cause: cause.__name__)
def test_a_message_has_the_code_that_tells_a_scheduler_what_to_do(cause, monkeypatch):
    code, message = CODES[cause]
    with pytest.raises(Exception) as raised:
        cause(monkeypatch)
    assert message in user_message(raised.value)
    assert exit_code(raised.value) == code


@pytest.mark.parametrize(
    ("error", "code"),
    [(UserError("found 3"), 2), (OtherRun("another"), 2), (StoreError("no store"), 2), (Fault("it died"), 4)],
)
def test_errors_are_told_also_where_ray_wrapped_them(error, code):
    class TaskError(Exception):
        cause = error

    for wrapped in (error, TaskError()):
        assert user_message(wrapped) == str(error)
        assert exit_code(wrapped) == code


@pytest.mark.parametrize("number", [errno.ENAMETOOLONG, errno.EACCES, errno.ENOSPC, errno.EROFS, errno.EISDIR])
def test_a_path_that_the_system_refuses_is_the_users_to_mend(number):
    error = OSError(number, "No", "runs/a")
    assert user_message(error) == "runs/a: No. Expected a path that can be read or, of an output, written."
    assert exit_code(error) == 2


@pytest.mark.parametrize("error", [KeyError("a"), OSError(errno.EBADF, "Bad file descriptor"), ValueError("x")])
def test_a_defect_is_not_hidden(error):
    assert user_message(error) is None


def test_a_chain_of_causes_that_has_a_circle_ends():
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert errors.told(first) is None
