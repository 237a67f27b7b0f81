"""The address of the MLflow that a verb speaks to: which one it is, where its database lies, and that it has no
password in it."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from urllib.parse import quote, unquote

from pipelines.config.sections import no_password
from pipelines.errors import UserError

LOCAL_TRACKING = "sqlite:///mlflow.db"
SQLITE = re.compile(r"(sqlite(?:\+\w+)?:///)([^?]*)(.*)", re.DOTALL)


def tracking_uri(given: str | None = None, fallback: str | None = None) -> str:
    """``given``, or MLFLOW_TRACKING_URI, or ``fallback``, or a database in the current folder.

    Raises:
        UserError: there is a password in it.
    """
    return from_root(given or os.environ.get("MLFLOW_TRACKING_URI") or fallback or LOCAL_TRACKING)


def registry_uri(given: str | None = None) -> str:
    """The address of the model registry: that of ``tracking_uri``, unless only the environment names either.

    Raises:
        UserError: there is a password in it.
    """
    return tracking_uri(given or os.environ.get("MLFLOW_REGISTRY_URI"))


def from_root(uri: str) -> str:
    """``uri``, its database's path from the root. MLflow remembers databases by their uri: a relative one would go on
    meaning the folder of its first use.

    Raises:
        UserError: there is a password in it.
    """
    try:
        no_password(uri)
    except ValueError as error:
        raise UserError(f"MLflow's address: {error}.") from None
    sqlite = SQLITE.fullmatch(uri)
    if not sqlite or not sqlite[2] or sqlite[2] == ":memory:":
        return uri
    start, path, options = sqlite.groups()
    # What the user writes is an address already; the folders put before it are names, where % ? # are characters.
    if path.startswith("~"):
        home, slash, below = path.partition("/")
        path = as_address(os.path.expanduser(home)) + slash + below
    elif not path.startswith("/"):
        path = f"{as_address(os.getcwd())}/{path}"
    return start + os.path.normpath(path) + options


def option_for(uri: str) -> str:
    """What a printed command has to say to reach ``uri``; empty where it is what the command takes by itself."""
    return "" if uri == tracking_uri() else f" --tracking-uri {shlex.quote(uri)}"


def as_address(path: str) -> str:
    """A path within an address: SQLAlchemy takes the characters quoted here for something else."""
    return re.sub(r"[%?#\x00-\x1f\x7f]", lambda match: quote(match[0]), path)


def database_of(uri: str) -> Path | None:
    """The file of the SQLite database at ``uri``; None for what is no such database."""
    sqlite = SQLITE.fullmatch(uri)
    return Path(unquote(sqlite[2])) if sqlite and sqlite[2] else None
