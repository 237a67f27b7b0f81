"""run.json, which says what a run is and how it went, and its reader."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, TypedDict, cast

from pipelines.errors import UserError
from pipelines.files.jsonl import json_object

SCHEMA = 1
"""Of run.json. rnncond 0.1.0 wrote none; what it wrote is read like schema 1."""


class RunInfo(TypedDict, total=False):
    """What run.json holds, beside counts of the data (``images``, ``pairs``, ``words``, ...).

    Attributes:
        schema: ``SCHEMA`` of the version that began the run.
        status: ``running``, ``finished``, ``failed``, ``interrupted``; of a trial also ``stopped``.
        data_id: changes with whatever the batches depend on beside the recipe.
        best: the line of metrics.jsonl of the best epoch; of a search also ``trial`` and ``params``.
        averaged: the scores of averaged/.
        search: of ``tune`` only: its algorithm.
        params: of a trial only: its values of the searched keys.
        ending, reason: of a trial only: how the process that trained it says that it ended.
        exploited: of a trial of a population: when it took over the weights of another.
    """

    schema: int
    status: str
    started: str
    ended: str
    versions: dict[str, str]
    data_id: str
    unmatched: str
    mlflow_key: str
    mlflow_run_id: str
    mlflow_uri: str
    best: dict[str, Any]
    averaged: dict[str, Any]
    search: str
    params: dict[str, Any]
    ending: str
    reason: str
    exploited: list[dict[str, Any]]


def read_run(out: str | Path) -> RunInfo:
    """run.json; empty where there is none, or where clearing away the run was interrupted.

    Raises:
        UserError: it is damaged, or a newer version of rnncond wrote it.
    """
    path = Path(out) / "run.json"
    try:
        info = json_object(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError as error:
        raise UserError(
            f"{path} is damaged: {error}. Put back a copy of it, or give --restart to begin the run again."
        ) from None
    refuse_newer(path, info.get("schema", 0), SCHEMA, f", written by {written_by(info)}")
    return cast(RunInfo, info)


def written_by(info: Mapping[str, Any]) -> str:
    """The version of rnncond that began the run of a run.json, as far as that says it."""
    version: str | None = info.get("versions", {}).get("rnncond") if "schema" in info else "0.1.0"
    return f"rnncond {version}" if version else "another version of rnncond"


def refuse_newer(path: str | Path, schema: object, known: int, by: str = "") -> None:
    """Raises UserError where a file has a schema that this version does not read.

    Args:
        schema: the one that the file names; 0 where it names none, as those of rnncond 0.1.0.
        by: which version wrote it, for the message.
    """
    if not isinstance(schema, int) or schema > known:
        raise UserError(
            f"{path} has schema {schema!r}{by}; rnncond {metadata.version('rnncond')} reads schemas up to {known}. Use "
            "the version that wrote it, or a newer one."
        )


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
