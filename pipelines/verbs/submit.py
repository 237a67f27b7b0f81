"""``rnncond submit``: a verb as a job on a cluster.

The job is the same command, run on the cluster's head node (or, with ``--cpus`` or ``--gpus``, where they are free).
Nothing is kept here: the cluster knows its jobs by their ids, so any machine may ask for them.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import time
import tomllib
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from ray.job_submission import JobType

from pipelines.cluster.jobs import POLL_SECONDS, Server, UnknownHost, about, is_broken_off
from pipelines.config.sections import no_password
from pipelines.console import Outcome, tell
from pipelines.errors import Fault, UserError

STOP_SECONDS = 60
LEFT_OUT = ["/runs", "/demo", "/mlruns", "/mlartifacts", "mlflow.db", "*.log", ".venv-*"]
"""Files of a working folder that are not sent, beside what .gitignore names and Ray leaves out: .git, .venv, venv,
__pycache__."""
HOME = "${RAY_RUNTIME_ENV_CREATE_WORKING_DIR}"
"""What Ray replaces by the place of the working folder on a node."""


def start(
    command: Sequence[str],
    address: str | None = None,
    follow: bool = True,
    job: str | None = None,
    working_dir: str | None = None,
    install: bool = False,
    env: Sequence[str] = (),
    cpus: float = 0,
    gpus: float = 0,
    retry: int = 0,
    timeout: float | None = None,
    wait: float = 0,
) -> Outcome:
    """Start a job, unless there is one of its id, and follow it. The arguments are the command line's.

    Raises:
        UserError: what the job needs is not there.
        Fault: no dashboard answers, or the job has not ended in time.
    """
    if not follow and (retry or timeout is not None):
        raise UserError("--retry and --timeout need a job that is followed: leave --no-follow out.")
    environment = runtime_environment(working_dir, install, env)
    job = job or f"{command[0]}-{datetime.now():%Y%m%d-%H%M%S}-{os.urandom(2).hex()}"
    server = reach(address, wait)
    own = working_dir is not None and is_project(Path(working_dir))
    entrypoint = shlex.join([*(("python", "-m", "pipelines.cli.main") if own else ("rnncond",)), *command])
    deadline = None if timeout is None else time.monotonic() + timeout
    for name in [job, *(f"{job}-{attempt}" for attempt in range(2, retry + 2))]:
        if server.start(name, entrypoint, environment, cpus, gpus):
            tell(f"The job is {name}.")
        else:
            tell(f"The job {name} is there already; it is not started again.")
        if not follow:
            return server.outcome(name, server.commands(name))
        try:
            outcome = server.follow(name, deadline)
        except TimeoutError:
            stop(name, address)
            raise Fault(
                f"The job {name} has not ended within {timeout:g} seconds (--timeout), and was stopped. What it has "
                "committed is kept; the same command, under another --id, resumes."
            ) from None
        if not is_broken_off(server.details(name)):
            break
        tell(f"The job {name} was broken off by a fault, which may pass.")
    return outcome


def reach(address: str | None, seconds: float) -> Server:
    """The job server, for which ``seconds`` are waited while its cluster comes up.

    Raises:
        Fault, UnknownHost: it did not come.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return Server.at(address)
        except (Fault, UnknownHost):
            if time.monotonic() > deadline:
                raise
        time.sleep(POLL_SECONDS)


def status(job: str, address: str | None = None) -> Outcome:
    return Server.at(address).outcome(job)


def logs(job: str, address: str | None = None, follow: bool = False) -> Outcome:
    server = Server.at(address)
    if follow:
        return server.follow(job)
    print(server.ask(lambda client: client.get_job_logs(job), job), end="")
    return server.outcome(job)


def stop(job: str, address: str | None = None) -> Outcome:
    """End a job, and wait for its end."""
    server = Server.at(address)
    server.ask(lambda client: client.stop_job(job), job)
    deadline = time.monotonic() + STOP_SECONDS
    while not (details := server.details(job)).status.is_terminal():
        if time.monotonic() > deadline:
            raise UserError(f"The job {job} has not ended within {STOP_SECONDS} seconds; try again.")
        time.sleep(POLL_SECONDS)
    return Outcome(about(details))


def list_jobs(address: str | None = None) -> Outcome:
    jobs = [job for job in Server.at(address).ask(lambda client: client.list_jobs()) if job.type == JobType.SUBMISSION]
    jobs.sort(key=lambda job: job.start_time or 0, reverse=True)
    return Outcome(
        {"jobs": len(jobs)}
        | {job.submission_id: f"{job.status}: {job.entrypoint}" for job in jobs if job.submission_id}
    )


def runtime_environment(working_dir: str | None, install: bool, env: Sequence[str]) -> dict[str, Any]:
    """What Ray is to prepare for the job, on its nodes.

    Raises:
        UserError: a folder, file or variable is not there.
    """
    environment: dict[str, Any] = {}
    if working_dir is not None:
        if not Path(working_dir).is_dir():
            raise UserError(f"--working-dir: there is no folder {working_dir}.")
        environment |= {"working_dir": working_dir, "excludes": LEFT_OUT}
    if install:
        environment["pip"] = requirements(working_dir)
    if env:
        environment["env_vars"] = dict(variable(word) for word in env)
    return environment


def requirements(working_dir: str | None) -> list[str]:
    """What the project depends on, for pip. Ray itself is the cluster's; the project is run from its folder."""
    if working_dir is None or not is_project(Path(working_dir)):
        raise UserError("--install needs --working-dir FOLDER with this project: pyproject.toml, constraints.txt.")
    try:
        project = tomllib.loads((Path(working_dir) / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        pins = (Path(working_dir) / "constraints.txt").read_bytes()
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"--install: the project in {working_dir} cannot be read: {error}") from None
    direct = [line for line in project["dependencies"] if not re.match(r"ray\b", line)]
    # Ray keeps an installation under a hash of these lines: the comment makes other pins another one.
    return [f"# pins {hashlib.sha256(pins).hexdigest()[:16]}", f"--constraint {HOME}/constraints.txt", *direct]


def is_project(folder: Path) -> bool:
    return (folder / "pipelines" / "cli" / "main.py").exists() and (folder / "pyproject.toml").exists()


def variable(word: str) -> tuple[str, str]:
    key, given, value = word.partition("=")
    if not given and key not in os.environ:
        raise UserError(f"--env {word}: there is no variable {key} here; say KEY=VALUE.")
    value = value if given else os.environ[key]
    if key == "MLFLOW_TRACKING_URI":
        try:
            no_password(value)
        except ValueError as error:
            raise UserError(f"--env {key}: {error}") from None
    return key, value
