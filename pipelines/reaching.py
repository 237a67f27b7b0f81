"""MLflow, reached: whether it is there is said in time, in one message, and nobody waits for it for minutes."""

from __future__ import annotations

import logging
import os
import ssl
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from pipelines.console import Fault, UserError
from pipelines.models import LOCAL_TRACKING, be_impatient
from pipelines.recipe import Recipe

if TYPE_CHECKING:
    from mlflow import MlflowClient

PATIENCE, PATIENCE_HERE = 15, 300
"""Seconds for a first answer: of a server, and of a database on this machine, which is only slow when all is, and makes
its tables first."""


def uri_of(recipe: Recipe) -> str:
    """Of the MLflow that a recipe's run is tracked in."""
    return absolute(recipe.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI") or LOCAL_TRACKING)


def absolute(uri: str) -> str:
    """MLflow remembers databases by their uri: a relative one would go on meaning the folder of its first use."""
    scheme, path = uri.partition("sqlite:///")[1:]
    return scheme + os.path.abspath(path) if scheme and uri.startswith(scheme) else uri


def client_at(uri: str) -> MlflowClient:
    """A client of the MLflow at ``uri``, which has answered it.

    Raises:
        UserError: MLflow does not answer, or refuses.
    """

    def ask() -> None:
        clients.append(new_client(uri))
        clients[0].search_experiments(max_results=1)

    clients: list[MlflowClient] = []
    reach(uri, ask)
    return clients[0]


def new_client(uri: str) -> MlflowClient:
    be_impatient()
    import mlflow

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    return mlflow.MlflowClient(uri, registry_uri=uri)


def knock(uri: str) -> None:
    """Find out whether anybody answers at ``uri``, quickly and without a trace there, before what may take long.

    Raises:
        UserError: nobody does, or there is no folder for the database.
    """

    def ask() -> None:
        parts = urlsplit(uri)
        address = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        try:
            urllib.request.urlopen(address, timeout=PATIENCE).close()
        except HTTPError:
            pass  # an answer
        except URLError as error:
            if not isinstance(error.reason, ssl.SSLError):  # an answer as well: MLflow may know the certificate
                raise

    def look() -> None:
        folder = Path(uri.partition("sqlite:///")[2]).parent
        if not folder.is_dir():
            raise FileNotFoundError(f"there is no folder {folder}")

    if uri.startswith(("http://", "https://")):
        reach(uri, ask)
    elif uri.startswith("sqlite:///"):
        reach(uri, look)


@contextmanager
def needed(uri: str) -> Iterator[None]:
    """For what a run cannot be finished without.

    Raises:
        Fault: MLflow does not take it.
    """
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, OSError) as error:
        raise Fault(
            f"MLflow at {uri} has gone away, or refuses: {first_line(error)}. What was trained is kept. Run the same "
            "command again when it answers: it only does what is missing."
        ) from error


def first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0][:300].rstrip(".")


def reach(uri: str, work: Callable[[], None]) -> None:
    """Do the first ``work`` with the MLflow at ``uri``.

    Raises:
        UserError: MLflow does not answer, or refuses.
    """
    patience = PATIENCE_HERE if uri.startswith("sqlite:") else PATIENCE
    try:
        within(patience, work)
        return
    except TimeoutError:
        what = f"no answer within {patience} seconds"
    except Exception as error:  # whatever its database or its server raises
        what = first_line(error)
    raise UserError(
        f"MLflow at {uri} cannot be used: {what}. Start the server, or name another with --tracking-uri or "
        f"MLFLOW_TRACKING_URI; {LOCAL_TRACKING} needs none."
    )


def within(seconds: float, work: Callable[[], None]) -> None:
    """Do ``work``; TimeoutError if that takes longer, whatever it is stuck in."""
    failure: list[BaseException] = []

    def attempt() -> None:
        try:
            work()
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError
    if failure:
        raise failure[0]
