import os
import signal
import sys

import pytest
from ray.exceptions import AuthenticationError

import pipelines
from pipelines.cluster import connection
from pipelines.cluster.connection import connect, refuse_if_nobody_answers
from pipelines.cluster.resources import Cluster, Node, Plan, plan
from pipelines.errors import UserError

LAPTOP = Cluster((Node(2, 0),))
SERVER = Cluster((Node(16, 4),))
FARM = Cluster((Node(8, 0), Node(6, 0), Node(16, 2), Node(12, 2)))


@pytest.mark.parametrize(
    ("cluster", "asked", "expected"),
    [
        (LAPTOP, {}, Plan(2, 1, 0)),
        (LAPTOP, {"workers": 1}, Plan(1, 2, 0)),
        (SERVER, {}, Plan(4, 4, 1)),
        (SERVER, {"workers": 2}, Plan(2, 4, 1)),
        (SERVER, {"gpus": 1}, Plan(1, 4, 1)),
        (SERVER, {"gpus": 0}, Plan(16, 1, 0)),
        (FARM, {}, Plan(4, 6, 1)),
        (FARM, {"gpus": 0}, Plan(42, 1, 0)),
        (FARM, {"gpus": 0, "workers": 4}, Plan(4, 8, 0)),  # 10 each by the sum, but 6 + 8 + 12 + 16 hold 3 of 10
        (Cluster((Node(1, 1),)), {}, Plan(1, 1, 1)),
        (Cluster((Node(64, 0),)), {}, Plan(64, 1, 0)),
        (Cluster((Node(64, 0),)), {"workers": 3}, Plan(3, 21, 0)),
        (Cluster((Node(64, 8),)), {}, Plan(8, 8, 1)),
        (Cluster((Node(96, 8), Node(96, 8))), {}, Plan(16, 12, 1)),
        (Cluster((Node(4, 8),)), {}, Plan(4, 1, 1)),  # each needs a CPU to decode with
    ],
)
def test_plan(cluster, asked, expected):
    assert plan(cluster, **asked) == expected


@pytest.mark.parametrize(
    ("cluster", "asked", "message"),
    [
        (LAPTOP, {"workers": 3}, "3 asked for.*2 CPUs and 0 GPUs"),
        (LAPTOP, {"gpus": 1}, "1 asked for.*2 CPUs and 0 GPUs"),
        (SERVER, {"workers": 5}, "5 asked for.*4 GPUs each, but the cluster has room for 4"),
        (Cluster((Node(0, 1),)), {}, "room for 0: 0 CPUs and 1 GPU"),
        (FARM, {"gpus": 5}, "42 CPUs and 4 GPUs on 4 nodes"),
        (Cluster((Node(0, 0),)), {}, "0 CPUs"),
    ],
)
def test_what_cannot_be_placed_is_refused(cluster, asked, message):
    with pytest.raises(UserError, match=message):
        plan(cluster, **asked)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:port"])
def test_an_address_where_nobody_answers(address):
    with pytest.raises(UserError, match=f"nothing answers at {address}"):
        refuse_if_nobody_answers(address)


SPARED = ("RAY_USAGE_STATS_ENABLED", "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER")


@pytest.mark.parametrize(
    ("address", "before", "after"), [("local", None, "0"), ("local", "1", "1"), ("a.cluster", None, None)]
)
def test_ray_that_starts_here_has_no_processes_for_others_unless_the_user_says_so(monkeypatch, address, before, after):
    for name in SPARED:
        monkeypatch.setenv(name, before or "")  # so that it is put back
        if before is None:
            monkeypatch.delenv(name)
    monkeypatch.setattr(connection.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(connection.ray, "shutdown", lambda: None)
    monkeypatch.setattr(connection, "start", lambda *_: None)
    monkeypatch.setattr(connection, "keep_freed_memory", lambda _: None)
    monkeypatch.setattr(connection, "running", lambda: LAPTOP)
    with connect(address) as cluster:
        assert cluster == LAPTOP
        assert [os.environ.get(name) for name in SPARED] == [after] * 2


@pytest.mark.ray
def test_a_running_ray_is_used_and_left_running(ray_cluster):
    import ray

    with connect() as found:
        assert found == ray_cluster and found.cpus == 2
    assert ray.is_initialized()


# The environment of a scheduler


@pytest.fixture
def no_folders(monkeypatch):
    for name in ("RAY_TMPDIR", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)


def test_sockets_lie_where_their_addresses_are_short_enough(no_folders, monkeypatch, tmp_path):
    assert connection.socket_folder() is None
    fits = tmp_path / "x"
    fits.mkdir()
    monkeypatch.setattr(connection, "SOCKET", "/" + "s" * (connection.SOCKET_BYTES - len(str(fits)) - 1))
    monkeypatch.setenv("TMPDIR", str(fits))
    assert connection.socket_folder() is None
    for other in (str(fits) + "y", str(tmp_path / "ü"), str(tmp_path / "-")):  # a byte too long, or not there
        monkeypatch.setenv("TMPDIR", other)
        found = connection.socket_folder()
        assert found is not None and found.startswith(connection.SHORT) and os.path.isdir(found)
        os.rmdir(found)
    monkeypatch.setenv("RAY_TMPDIR", str(fits) + "y")
    with pytest.raises(UserError, match=r"RAY_TMPDIR is .*: expected a folder .* at most \d+ bytes"):
        connection.socket_folder()
    monkeypatch.delenv("RAY_TMPDIR")
    monkeypatch.setattr(connection, "SHORT", ("/none",))
    with pytest.raises(UserError, match=r"TMPDIR is .*Set RAY_TMPDIR"):
        connection.socket_folder()


@pytest.mark.parametrize("home", ["there", "not there"])
def test_the_token_needs_no_home(monkeypatch, tmp_path, home):
    monkeypatch.setenv("HOME", str(tmp_path if home == "there" else tmp_path / "none"))
    monkeypatch.setenv("RAY_AUTH_TOKEN", "")
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    connection.keep_token_without_home()
    assert bool(os.environ["RAY_AUTH_TOKEN"]) == (home == "not there")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of a cluster")
    connection.keep_token_without_home()
    assert os.environ["RAY_AUTH_TOKEN"] == "of a cluster"


def test_workers_search_this_project_first_and_no_current_folder():
    config = connection.job_config()
    config._py_driver_sys_path.extend(["/current", "/script"])  # as ray.init does
    assert config._py_driver_sys_path == [os.path.dirname(os.path.dirname(pipelines.__file__))]


def test_sigterm_while_ray_starts_ends_as_it_does_later():
    """``ray.init`` sets a handler of its own at its beginning, which exits with the signal's number."""

    class Ended(BaseException):
        pass

    def own(number, frame):
        raise Ended

    before = signal.signal(signal.SIGTERM, own)
    try:
        with pytest.raises(Ended), connection.sigterm_kept():
            signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))
            signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_cluster_that_wants_a_token_is_told_as_the_users_to_mend(monkeypatch, wrapped):
    def refuse(address, options):
        if wrapped:  # as Ray 2.60 does where it has found no token at all
            raise ConnectionError("Failed to connect") from RuntimeError("RPC error: InvalidAuthToken")
        raise AuthenticationError("Unauthenticated")

    monkeypatch.setattr(connection, "start", refuse)
    monkeypatch.setattr(connection.ray, "is_initialized", lambda: False)
    with (
        pytest.raises(UserError, match=r"cluster at auto wants a token.*RAY_AUTH_MODE=token"),
        connection.connect("auto"),
    ):
        pass
