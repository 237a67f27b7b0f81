"""A job server that answers otherwise than it should; tests/integration/test_submit_head.py has a real one."""

from __future__ import annotations

import http.server
import socket
import threading
from contextlib import contextmanager

import pytest

from pipelines.cluster import jobs
from pipelines.cluster.jobs import Server, dashboard, exit_code
from pipelines.errors import UserError
from tests.worlds.jobs import Job


class Client:
    """A job server with one job; ``tail`` is what each connection for its log gives, an exception breaks it."""

    def __init__(self, job: Job | None = None, tail=()) -> None:
        self.job, self.tail, self.sent = job, list(tail), []

    def submit_job(self, **asked):
        if self.job:
            raise RuntimeError("Request failed with status code 400: Job with submission_id one already exists.")
        self.sent.append(asked)

    def get_job_info(self, job):
        if job != "one":
            raise RuntimeError(f"Request failed with status code 404: Job {job} does not exist.")
        return self.job

    async def tail_job_logs(self, job):
        for piece in self.tail.pop(0):
            if isinstance(piece, Exception):
                raise piece
            yield piece


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(jobs, "POLL_SECONDS", 0)
    for name in jobs.ADDRESSES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("given", "variables", "expected"),
    [
        (None, {}, "http://127.0.0.1:8265"),
        (None, {"RAY_ADDRESS": "10.0.0.1:6379"}, "http://127.0.0.1:8265"),
        (None, {"RAY_ADDRESS": "http://a:8265"}, "http://a:8265"),
        (None, {"RAY_ADDRESS": "http://a:8265", "RAY_API_SERVER_ADDRESS": "https://b"}, "https://b"),
        ("head:8265", {"RAY_API_SERVER_ADDRESS": "http://b:8265"}, "http://head:8265"),
        ("http://head:8265/", {}, "http://head:8265"),
    ],
)
def test_address_of_the_dashboard(given, variables, expected, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert dashboard(given) == expected


@contextmanager
def server_that(status: int, said: str):
    """The address of a server that answers everything so."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.end_headers()
            self.wfile.write(said.encode())

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "said", "code", "message"),
    [
        (200, '{"hello": 1}', 2, "is no Ray dashboard"),
        (200, "<html>", 2, "no Ray dashboard answers"),
        (401, "Unauthorized", 2, "wants a token.*RAY_AUTH_TOKEN"),
        (500, "", 4, "takes no jobs: HTTP Error 500"),
        (503, "", 4, "takes no jobs: HTTP Error 503"),
    ],
)
def test_a_server_that_takes_no_jobs(status, said, code, message):
    with server_that(status, said) as address, pytest.raises(UserError, match=message) as raised:
        Server.at(address)
    assert raised.value.code == code


def test_a_server_that_takes_the_connection_and_says_nothing(monkeypatch):
    monkeypatch.setattr(jobs, "ANSWER_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(UserError, match="timed out"):
        Server.at(f"127.0.0.1:{silent.getsockname()[1]}")


def test_the_same_id_is_the_same_job_or_refused():
    fresh = Client()
    assert Server("a", fresh).start("one", "rnncond store info s", {"env_vars": {"A": "1"}}, 0, 2)
    assert fresh.sent == [
        {"entrypoint": "rnncond store info s", "submission_id": "one", "runtime_env": {"env_vars": {"A": "1"}},
         "entrypoint_num_cpus": None, "entrypoint_num_gpus": 2}
    ]  # fmt: skip
    there = Server("a", Client(Job("RUNNING")))
    assert not there.start("one", "rnncond store info s", {}, 0, 0)
    with pytest.raises(UserError, match="id of another job: 'rnncond store info s'"):
        there.start("one", "rnncond store info t", {}, 0, 0)


def test_a_job_nobody_knows():
    with pytest.raises(UserError, match=r"knows no job two.*submit list"):
        Server("a", Client(Job("RUNNING"))).details("two")


@pytest.mark.parametrize(
    ("job", "code"),
    [
        (Job("SUCCEEDED", 0), 0),
        (Job("FAILED", 2), 2),
        (Job("FAILED", 3), 3),
        (Job("FAILED", -9), 137),
        (Job("FAILED"), 1),  # its environment could not be made
        (Job("STOPPED"), 1),
    ],
)
def test_the_exit_code_is_that_of_the_verb(job, code):
    assert exit_code(job) == code
    outcome = Server("a", Client(job, [[]])).follow("one")
    assert (outcome.code, outcome.summary["exit_code"], outcome.summary["seconds"]) == (code, code, 2.5)


def test_a_broken_connection_is_made_again_and_nothing_is_shown_twice(capsys):
    lost = ConnectionError("lost")
    tail = [["one\n", lost], [lost], ["one\ntwo\n", "thr", RuntimeError("closed")], ["one\n", "two\nthree\n"]]
    assert Server("a", Client(Job("SUCCEEDED", 0), tail)).follow("one").code == 0
    assert capsys.readouterr().out == "one\ntwo\nthree\n"


def test_a_dashboard_that_does_not_come_back(monkeypatch):
    monkeypatch.setattr(jobs, "PATIENCE", -1)
    with pytest.raises(UserError, match=r"may go on; later: rnncond submit logs one --follow --address http://h:1"):
        Server("http://h:1", Client(Job("RUNNING"), [[ConnectionError("lost")]])).follow("one")
