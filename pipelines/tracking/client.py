"""A client of MLflow that fails fast, with one message, when nobody answers; and what MLflow's errors mean."""

from __future__ import annotations

import fcntl
import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar

from pipelines.config.sections import masked
from pipelines.errors import Fault, UserError
from pipelines.threads import in_background
from pipelines.tracking.address import LOCAL_TRACKING, database_of, from_root

if TYPE_CHECKING:
    from mlflow import MlflowClient

ARTIFACT_ROOT = "_MLFLOW_SERVER_ARTIFACT_ROOT"
Done = TypeVar("Done")
PATIENCE, PATIENCE_HERE = 15, 300
"""Seconds for a first answer: of a server, and of a database on this machine, which is only slow when all is, and makes
its tables first."""
LONGEST = 300
"""Characters of what MLflow says of an error."""


def client_at(uri: str) -> MlflowClient:
    """A client of the MLflow at ``uri``, which has answered it.

    Raises:
        UserError: MLflow refuses; there is no folder for its database; or there is a password in ``uri``.
        Fault: MLflow does not answer.
    """
    uri = from_root(uri)
    import_mlflow()  # which may take a busy machine as long as a server is waited for
    return reach(uri, lambda: open_client(uri))


def check_reachable(uri: str) -> None:
    """Find out whether the MLflow at ``uri`` can be used, before what may take long. A database is not made yet.

    Raises:
        UserError, Fault: as for ``client_at``.
    """
    database = database_of(from_root(uri))
    if database is not None and not database.exists():
        reach(uri, lambda: refuse_no_folder(database))
    else:
        client_at(uri)


def refuse_no_folder(database: Path) -> None:
    """FileNotFoundError where there is no folder for a database: MLflow would try for a minute."""
    if not database.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {database.parent}, which has to be made first")


def open_client(uri: str) -> MlflowClient:
    """A client whose MLflow has answered; a database has its tables then. Raises whatever MLflow does."""
    database = database_of(uri)
    with only_one_at(database) if database else nullcontext(), artifacts_beside(database):
        client: MlflowClient = import_mlflow().MlflowClient(uri, registry_uri=uri)
        client.search_experiments(max_results=1)
    return client


@contextmanager
def artifacts_beside(database: Path | None) -> Iterator[None]:
    """While MLflow makes the tables of a database: its artifacts go beside it, not into the folder where somebody
    happens to be, and where that folder's name is no plain text in SQL, under a file:// address.

    MLflow writes the folder into a statement as Python's ``repr`` spells it, and SQLAlchemy takes ``:word`` in there
    for a parameter. It has a server's way alone to be told of another folder, which also makes it a server's process.
    """
    folder = (database.parent.absolute() if database else Path.cwd()) / "mlruns"
    plain = repr(str(folder)) == f"'{folder}'" and not re.search(r":\w", str(folder))
    if (plain and folder == Path("mlruns").absolute()) or ARTIFACT_ROOT in os.environ:
        yield
        return
    os.environ[ARTIFACT_ROOT] = str(folder) if plain else folder.as_uri()
    try:
        yield
    finally:
        del os.environ[ARTIFACT_ROOT]


@contextmanager
def only_one_at(database: Path) -> Iterator[None]:
    """Of several processes that are the first to use a new database one makes its tables; the others wait.

    The lock is one of the folder itself: nothing is left in it. A file system that has no locks goes without.

    Raises:
        FileNotFoundError: there is no folder for it.
    """
    refuse_no_folder(database)
    folder = os.open(database.parent, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def import_mlflow() -> ModuleType:
    """MLflow, which from now on gives up in about a minute in this process."""
    for key, value in IMPATIENT.items():
        os.environ.setdefault(key, value)
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
            f"MLflow at {masked(uri)} has gone away, or refuses: {first_line(error)}. What was trained is kept. "
            "Run the same command again when it answers: it only does what is missing."
        ) from error


def first_line(error: BaseException) -> str:
    """Of a long line whole sentences, or words, of 300 characters at most."""
    line = str(error).strip().split("\n")[0]
    if len(line) > LONGEST:
        start = line[:LONGEST]
        line = start.rpartition(". ")[0] or f"{start.rpartition(' ')[0] or start} [...]"
    return line.rstrip(".")


def reach(uri: str, work: Callable[[], Done]) -> Done:
    """What the first ``work`` with the MLflow at ``uri`` gives.

    Raises:
        UserError: MLflow refuses.
        Fault: MLflow does not answer, or is not able to.
    """
    patience = PATIENCE_HERE if database_of(uri) else PATIENCE
    kind: type[UserError] = Fault
    try:
        return in_background(work).result(patience)
    except UserError:
        raise
    except TimeoutError:
        what = f"no answer within {patience} seconds"
    except Exception as error:  # whatever its database or its server raises
        kind = Fault if is_away(error) else UserError
        # The last of MLflow's layers says it in the fewest words; a lookup that failed has the bare name for them.
        what = first_line([link for link in chain(error) if " " in str(link) or link is error][-1])
    mend = "Mend that" if database_of(uri) else "Start the server"
    raise kind(
        f"MLflow at {masked(uri)} cannot be used: {what}. {mend}, or name another with --tracking-uri or "
        f"MLFLOW_TRACKING_URI; {LOCAL_TRACKING} needs none."
    )


def chain(error: BaseException) -> Iterator[BaseException]:
    """``error`` and what it was raised from or while handling, one after the other."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__


def is_away(error: BaseException) -> bool:
    """Whether MLflow did not answer, or could not for the time being: the same command may succeed later."""
    from mlflow.exceptions import RestException
    from requests.exceptions import ConnectionError as NoConnection
    from requests.exceptions import RetryError, Timeout
    from sqlalchemy.exc import OperationalError

    for link in chain(error):
        if isinstance(link, TimeoutError | ConnectionError | NoConnection | RetryError | Timeout):
            return True
        if isinstance(link, RestException):
            status: int = link.get_http_status_code()
            return status >= 500 or status == 429
        if re.search(r"\b(code|many) (429|5\d\d)", str(link)):  # answers that are not MLflow's own, as of a proxy
            return True
        if isinstance(link, OperationalError) and "unable to open" not in str(link):
            return True
    return False


def if_known(ask: Callable[[], Done]) -> Done | None:
    """What ``ask`` gives; None where MLflow does not have what it asks for, or has deleted it.

    Raises:
        MlflowException: anything else is wrong.
    """
    from mlflow.exceptions import MlflowException

    try:
        return ask()
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "INVALID_STATE"):
            raise
        return None


def make_or_get(make: Callable[[], Done], get: Callable[[], Done]) -> Done:
    """What ``make`` gives; what ``get`` gives where another process has just made it.

    Raises:
        MlflowException: anything else is wrong.
    """
    from mlflow.exceptions import MlflowException

    try:
        return make()
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return get()


IMPATIENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
"""Where the user has not set them: by default MLflow tries a server that does not answer for many minutes."""
