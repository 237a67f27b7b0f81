"""MLflow, reached: whether it is there is said in time, in one message, and nobody waits for it for minutes."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar

from pipelines.config.recipe import Recipe
from pipelines.errors import Fault, UserError

if TYPE_CHECKING:
    from mlflow import MlflowClient

Done = TypeVar("Done")
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
        UserError: MLflow does not answer, or refuses; or there is no folder for its database.
    """

    def ask() -> MlflowClient:
        refuse_no_folder(uri)
        client = new_client(uri)
        client.search_experiments(max_results=1)
        return client

    import_mlflow()  # which may take a busy machine as long as a server is waited for
    return reach(uri, ask)


def check_reachable(uri: str) -> None:
    """Find out whether the MLflow at ``uri`` can be used, before what may take long. A database is not made yet.

    Raises:
        UserError: as for ``client_at``.
    """
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        reach(uri, lambda: refuse_no_folder(uri))
    else:
        client_at(uri)


def refuse_no_folder(uri: str) -> None:
    """FileNotFoundError where there is none for a database: MLflow would try for a minute."""
    folder = Path(uri.removeprefix("sqlite:///")).parent
    if uri.startswith("sqlite:///") and not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")


def new_client(uri: str) -> MlflowClient:
    return import_mlflow().MlflowClient(uri, registry_uri=uri)


def import_mlflow() -> ModuleType:
    be_impatient()
    import mlflow

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    return mlflow


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


def reach(uri: str, work: Callable[[], Done]) -> Done:
    """What the first ``work`` with the MLflow at ``uri`` gives.

    Raises:
        Fault: MLflow is away, slow or ill.
        UserError: it refuses, or is nowhere.
    """
    patience = PATIENCE_HERE if uri.startswith("sqlite:") else PATIENCE
    try:
        return within(patience, work)
    except TimeoutError:
        what, passing = f"no answer within {patience} seconds", True
    except Exception as error:  # whatever its database or its server raises
        while cause := error.__cause__ or error.__context__:  # the last of MLflow's layers says it in the fewest words
            error = cause
        what = first_line(error)
        passing = isinstance(error, (ConnectionError, TimeoutError)) or bool(re.search(r"\b(code|many) 5\d\d", what))
    raise (Fault if passing else UserError)(
        f"MLflow at {uri} cannot be used: {what}. Start the server, or name another with --tracking-uri or "
        f"MLFLOW_TRACKING_URI; {LOCAL_TRACKING} needs none."
    )


def within(seconds: float, work: Callable[[], Done]) -> Done:
    """What ``work`` gives; TimeoutError if that takes longer, whatever it is stuck in."""
    done: Future[Done] = Future()

    def attempt() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    # Not of a pool, whose threads a process waits for at its end.
    threading.Thread(target=attempt, daemon=True).start()
    return done.result(seconds)


IMPATIENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
"""Where the user has not set them: by default MLflow tries a server that does not answer for many minutes."""


LOCAL_TRACKING = "sqlite:///mlflow.db"


def be_impatient() -> None:
    """Have MLflow give up in about a minute, in this process."""
    for key, value in IMPATIENT.items():
        os.environ.setdefault(key, value)
