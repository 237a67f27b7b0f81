"""A cluster's jobs, through Ray's job server, which is part of the dashboard."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import os
import re
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import aiohttp
import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from pipelines.cluster.connection import NO_TOKEN
from pipelines.console import Outcome, tell
from pipelines.errors import Fault, UserError

DASHBOARD = "http://127.0.0.1:8265"
ADDRESSES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
"""Variables that Ray's client would prefer to an address it is given."""
ANSWER_SECONDS = 10
PATIENCE = 120
"""Seconds in which a dashboard that was there may come back, before following a job is given up."""
POLL_SECONDS = 0.5

Answer = TypeVar("Answer")


class UnknownHost(UserError):
    """No machine has this name, or not yet: in Kubernetes a cluster's name comes with the cluster."""


class Server:
    """A cluster's job server."""

    def __init__(self, address: str, client: JobSubmissionClient) -> None:
        self.address, self.client = address, client

    @classmethod
    def at(cls, address: str | None) -> Server:
        """
        Raises:
            UserError: no dashboard answers at ``address``; ``UnknownHost`` or Fault where one may come.
        """
        url = dashboard(address)
        refuse_if_no_dashboard(url)
        logging.getLogger(JobSubmissionClient.__module__).setLevel(logging.WARNING)  # it tells of every connection
        with without(*ADDRESSES):
            try:
                return cls(url, JobSubmissionClient(url))
            except AuthenticationError:
                raise UserError(NO_TOKEN.format(what=f"the dashboard at {url}")) from None
            except (RuntimeError, OSError) as error:
                raise as_told(f"address: the dashboard at {url} takes no jobs: {error}", error) from None

    def ask(self, question: Callable[[JobSubmissionClient], Answer], job: str | None = None) -> Answer:
        try:
            return question(self.client)
        except (requests.RequestException, ConnectionError) as error:
            raise Fault(f"The dashboard at {self.address} does not answer any more: {error}") from None
        except (RuntimeError, ValueError) as error:
            if job and "does not exist" in str(error):
                raise UserError(
                    f"The cluster at {self.address} knows no job {job}. `rnncond submit list` shows those it knows."
                ) from None
            raise as_told(f"The dashboard at {self.address} refuses: {error}", error) from None

    def start(self, job: str, entrypoint: str, environment: dict[str, Any], cpus: float, gpus: float) -> bool:
        """Whether the job is new; it may be there, of the same command, because this was tried before."""
        try:
            self.ask(
                lambda client: client.submit_job(
                    entrypoint=entrypoint, submission_id=job, runtime_env=environment,
                    entrypoint_num_cpus=cpus or None, entrypoint_num_gpus=gpus or None,
                )
            )  # fmt: skip
            return True
        except UserError as error:
            if "already exists" not in str(error):
                raise
        there = self.details(job).entrypoint
        if there != entrypoint:
            raise UserError(f"--id {job} is the id of another job: {there!r}. Choose another.")
        return False

    def details(self, job: str) -> JobDetails:
        return self.ask(lambda client: client.get_job_info(job), job)

    def outcome(self, job: str, hint: str | None = None) -> Outcome:
        return Outcome(about(self.details(job)), hint=hint)

    def follow(self, job: str, deadline: float | None = None) -> Outcome:
        """Show what the job says until it ends; its own exit code becomes this command's.

        Raises:
            TimeoutError: it has not ended at ``deadline``, by the monotonic clock.
        """
        self.details(job)
        try:
            left = None if deadline is None else deadline - time.monotonic()
            asyncio.run(asyncio.wait_for(self.show(job), left))
        except KeyboardInterrupt as interruption:
            tell(f"\nThe job {job} goes on.")
            return Outcome({"id": job}, hint=self.commands(job), code=getattr(interruption, "code", 130))
        details = self.details(job)
        code = exit_code(details)
        if code and details.driver_exit_code is None and details.message:
            tell(details.message)  # it has said nothing itself: it was stopped, or could not begin
        return Outcome(about(details), code=code)

    async def show(self, job: str) -> None:
        """Print the job's output until the job has ended. A broken connection is made again."""
        shown, heard = 0, time.monotonic()
        while True:
            try:
                skip = shown
                async for text in self.client.tail_job_logs(job):
                    fresh, skip = text[skip:], max(skip - len(text), 0)
                    print(fresh, end="", flush=True)
                    shown, heard = shown + len(fresh), time.monotonic()
                if self.client.get_job_info(job).status.is_terminal():
                    return
                heard = time.monotonic()
            except (RuntimeError, requests.RequestException, aiohttp.ClientError, OSError) as error:
                if time.monotonic() - heard > PATIENCE:
                    raise Fault(
                        f"The dashboard at {self.address} has not answered for {PATIENCE} seconds: {error}. The job "
                        f"may go on; later: {self.commands(job)}"
                    ) from None
            await asyncio.sleep(POLL_SECONDS)

    def commands(self, job: str) -> str:
        where = f" --address {self.address}" if self.address != DASHBOARD else ""
        return f"rnncond submit logs {job} --follow{where}\nrnncond submit stop {job}{where}"


def dashboard(address: str | None) -> str:
    """The address as http://HOST:PORT, whoever gives it."""
    if address is None:
        told = [os.environ[name] for name in ADDRESSES if os.environ.get(name, "").startswith("http")]
        address = next(iter(told), DASHBOARD)
    if "://" not in address:
        address = f"http://{address}"
    if not re.fullmatch(r"https?://[^/]+/?", address):
        raise UserError(f"address: found {address}; expected that of the dashboard, such as http://HOST:8265")
    return address.rstrip("/")


def refuse_if_no_dashboard(url: str) -> None:
    """Ray's client itself waits without end for a server that takes a connection and says nothing."""
    try:
        with urllib.request.urlopen(f"{url}/api/version", timeout=ANSWER_SECONDS) as answer:
            found = json.loads(answer.read())
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            raise Fault(f"address: the dashboard at {url} takes no jobs: {error}. Try again later.") from None
        return  # it answers, perhaps wanting a token, which Ray's client has
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise failure_of(error)(
            f"address: no Ray dashboard answers at {url}: {error}. Expected is the address of the dashboard (port "
            "8265), not of the head (6379). From outside: `ray dashboard cluster.yaml`, or `kubectl port-forward "
            "service/NAME-head-svc 8265`."
        ) from None
    if "ray_version" not in found:
        raise UserError(f"address: what answers at {url} is no Ray dashboard: {found}")


def failure_of(error: Exception) -> type[UserError]:
    """Of what was asked and did not answer: a Fault if it is away for a while, ``UnknownHost`` if there is no such
    machine, and a UserError if it is no dashboard."""
    reason = getattr(error, "reason", error)
    if isinstance(reason, socket.gaierror):
        return UnknownHost
    return UserError if isinstance(reason, ValueError) or not isinstance(error, OSError) else Fault


def as_told(message: str, error: Exception) -> UserError:
    """An error of Ray's client, which puts the server's status into its text; Fault where the server is ill."""
    passing = isinstance(error, OSError) or re.search(r"status code 5\d\d|\b50[0234]\b", str(error))
    return Fault(message) if passing else UserError(message)


@contextmanager
def without(*names: str) -> Iterator[None]:
    """Environment variables put away for the time of the block."""
    kept = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)


def is_broken_off(job: JobDetails) -> bool:
    """Whether a fault ended the job, which may pass: it said so (exit code 4), or its driver was lost or killed."""
    return bool(job.status == JobStatus.FAILED and job.driver_exit_code in (None, Fault.code, -signal.SIGKILL))


def exit_code(job: JobDetails) -> int:
    """The exit code of a job that has ended: the verb's own; 1 where it was stopped or could not begin; 128 + a
    signal's number."""
    code = job.driver_exit_code
    if code is None:
        return 0 if job.status == JobStatus.SUCCEEDED else 1
    return code if code >= 0 else 128 - code


def about(job: JobDetails) -> dict[str, Any]:
    """A job, for an Outcome."""
    shown: dict[str, Any] = {"id": job.submission_id, "status": str(job.status), "command": job.entrypoint}
    if job.status.is_terminal():
        now = time.time() * 1000
        seconds = ((job.end_time or now) - (job.start_time or now)) / 1000
        shown |= {"exit_code": exit_code(job), "seconds": round(seconds, 1)}
    return shown
