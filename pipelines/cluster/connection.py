"""Ray: start it here or connect to a cluster, and decide how many workers its CPUs and GPUs carry."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray._private.worker import global_worker
from ray.exceptions import AuthenticationError
from ray.job_config import JobConfig

import pipelines
from pipelines import logs
from pipelines.allocator import keep_freed_memory
from pipelines.cluster.node_types import node_types
from pipelines.cluster.resources import Cluster, Node
from pipelines.errors import Fault, UserError
from pipelines.silence import SILENCE

logger = logging.getLogger(__name__)

ATTEMPTS = 3
"""To start Ray here."""
CONNECT_SECONDS = 10
SOCKET_BYTES = 107
"""The longest address of a socket on Linux."""
SOCKET = "/ray/session_2000-01-01_00-00-00_000000_4194304/sockets/plasma_store"
"""What Ray puts behind its temporary folder, at the longest."""
SHORT = ("/tmp", "/var/tmp", "/dev/shm")
NO_TOKEN = (
    "address: {what} wants a token, and was given none or another. Set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or "
    "RAY_AUTH_TOKEN_PATH to the cluster's token, or write that to ~/.ray/auth_token."
)


@contextmanager
def connect(address: str | None = None, cpus: int | None = None) -> Iterator[Cluster]:
    """A Ray cluster for the time of the block; Ray that runs in this process already is used and left running.

    Args:
        address: of a cluster; without one ``RAY_ADDRESS`` counts, and without that Ray starts on this machine.
        cpus: how many CPUs a Ray that starts here may use; all by default.
    """
    if ray.is_initialized():
        yield running()
        return
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    if address == "local":
        # Ray's C++ side writes remarks about its own workings to the terminal otherwise.
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        # Each of these takes a process, which is a second or two of a core: one that collects statistics of usage for
        # Ray's makers, and one a training that looks whether a cloud is about to take a machine back.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
        keep_freed_memory(os.environ)
    refuse_if_nobody_answers(address)
    options: dict[str, Any] = {}
    if address == "local":
        options = {"num_cpus": cpus, "include_dashboard": False, "_temp_dir": socket_folder()}
        keep_token_without_home()
    try:
        start(address, options)
    except AuthenticationError:
        raise UserError(NO_TOKEN.format(what=f"the Ray cluster at {address}")) from None
    except (ConnectionError, RuntimeError, TimeoutError, ValueError) as error:
        if "InvalidAuthToken" in str(error.__cause__):
            raise UserError(NO_TOKEN.format(what=f"the Ray cluster at {address}")) from None
        passing = isinstance(error, (ConnectionError, TimeoutError))
        raise (Fault if passing else UserError)(f"address: cannot reach a Ray cluster at {address}: {error}") from error
    try:
        cluster = running()
        logger.info("joined Ray at %s: %s", address, cluster.describe())
        yield cluster
    finally:
        ray.shutdown()


def is_joining(address: str | None) -> bool:
    """Whether ``connect`` joins a cluster, whose other machines see no temporary folder of this one."""
    return (address or os.environ.get("RAY_ADDRESS") or "local") != "local"


def start(address: str, options: dict[str, Any]) -> None:
    """``ray.init``; once more where Ray gave a busy machine too little time to start in: 30 seconds, which it fixes."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with SILENCE.kept(), sigterm_kept():
                ray.init(
                    address=address,
                    logging_level=logging.ERROR,
                    log_to_driver=False,
                    job_config=job_config(),
                    runtime_env=logs.for_workers() or None,
                    **options,
                )
            return
        except Exception as error:  # Ray has no class for this
            if "timed out during startup" not in str(error):
                raise
            ray.shutdown()
            if attempt == ATTEMPTS:
                raise Fault(f"Ray did not start: {error} The machine is too busy; try again later.") from None


def socket_folder() -> str | None:
    """Where Ray that starts here keeps its sockets and logs, if that cannot be its default: schedulers give jobs a
    TMPDIR whose path is longer than the address of a socket may be, or one that is not there.

    Raises:
        UserError: RAY_TMPDIR is too long; or there is no short folder to write to.
    """
    wanted = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    if len(os.fsencode(os.path.abspath(wanted))) + len(SOCKET) <= SOCKET_BYTES and os.access(wanted, os.W_OK):
        return None
    if wanted == os.environ.get("RAY_TMPDIR"):
        raise UserError(
            f"RAY_TMPDIR is {wanted}: expected a folder that can be written to, with a path of at most "
            f"{SOCKET_BYTES - len(SOCKET)} bytes, because Ray keeps sockets there."
        )
    for folder in SHORT:
        if os.access(folder, os.W_OK):
            return tempfile.mkdtemp(prefix="ray", dir=folder)
    raise UserError(
        f"TMPDIR is {wanted}, where Ray cannot keep its sockets, nor in {', '.join(SHORT)}. Set RAY_TMPDIR."
    )


def keep_token_without_home() -> None:
    """Give Ray its token in the environment where it cannot write it to ~/.ray, as it does otherwise."""
    named = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    home = Path.home() / ".ray"
    if named or (home / "auth_token").exists():
        return
    if not os.access(home if home.exists() else home.parent, os.W_OK):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


class FixedPath(list[str]):
    """A search path that Ray cannot extend by the folder of the script and the current one, as it does for each job:
    with a ``caption.py`` or a package ``pipelines`` of the user's own there, workers would import these."""

    def extend(self, _: Iterable[str]) -> None:
        """Leave it as it is."""


def job_config() -> JobConfig:
    """A job whose workers import this project from where this process has it, if they see that folder."""
    config = JobConfig()
    config._py_driver_sys_path = FixedPath([str(Path(pipelines.__file__).parents[1])])
    return config


def refuse_if_nobody_answers(address: str) -> None:
    """Ray itself would try for minutes."""
    host, separator, port = address.removeprefix("ray://").rpartition(":")
    if not separator:
        return
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        passing = isinstance(error, OSError) and not isinstance(error, socket.gaierror)
        raise (Fault if passing else UserError)(
            f"address: nothing answers at {address}: {error}; expected HOST:PORT of a Ray head"
        ) from error


@contextmanager
def sigterm_kept() -> Iterator[None]:
    """Keep this process's own way to end at SIGTERM. Ray's, which ``ray.init`` sets at its beginning, would end it with
    exit code 15 or 1 and no word, or print a stack of C++."""
    own = signal.getsignal(signal.SIGTERM)
    ours = callable(own) and threading.current_thread() is threading.main_thread()
    ended = None
    try:
        yield
    except SystemExit as error:
        if not ours:
            raise
        ended = error
    finally:
        if ours:
            signal.signal(signal.SIGTERM, own)
    if ended:
        # SIGTERM came while Ray's way stood: it arrives again, at ours.
        signal.raise_signal(signal.SIGTERM)
        raise ended


def running() -> Cluster:
    """The cluster this process is connected to, as it is now."""
    resources = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    nodes = tuple(Node(has.get("CPU", 0), has.get("GPU", 0)) for has in resources)
    joined = not global_worker.node.is_head()  # the head of a Ray that was started here is this process's own node
    return Cluster(nodes, node_types() if joined else (), joined)
