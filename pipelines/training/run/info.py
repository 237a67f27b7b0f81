"""Where a run is, and run.json, which says what it is and how it went."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, TypedDict, cast

from feature_store.errors import AnotherWriter
from feature_store.ledger import Heartbeat
from pipelines.console import WAITING
from pipelines.errors import UserError
from pipelines.files.atomic import write_whole
from pipelines.files.digests import FileDigest
from pipelines.files.jsonl import json_object
from pipelines.files.remote_contents import Contents
from pipelines.files.remote_folder import Damaged, RemoteFolder, below, folder_for_copy, is_remote

SCHEMA = 1
"""Of run.json. rnncond 0.1.0 wrote none; what it wrote is read like schema 1."""
PREPARING = "preparing.json"
PREPARING_SECONDS = 3600.0
"""For three of which a preparation on another machine, of which nothing more is heard, counts as alive."""
READERS = 16
"""Runs of a search that are read at once."""


class RunInfo(TypedDict, total=False):
    """What run.json holds, beside counts of the data (``images``, ``pairs``, ``words``, ...).

    Attributes:
        schema: ``SCHEMA`` of the version that began the run.
        status: ``running``, ``finished``, ``failed``, ``interrupted``; of a trial also ``stopped``.
        data_id: changes with whatever the batches depend on beside the recipe.
        data_files: the files that the recipe names, by its keys; see ``digest_of``.
        best: the line of metrics.jsonl of the best epoch; of a search also ``trial`` and ``params``.
        averaged: the scores of averaged/.
        registered: what ``Tracking.register`` returned, where the recipe registers its model.
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
    data_files: dict[str, FileDigest]
    unmatched: str
    mlflow_key: str
    mlflow_run_id: str
    mlflow_uri: str
    best: dict[str, Any]
    averaged: dict[str, Any]
    registered: dict[str, Any]
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


class Preparation:
    """What the folder of a run says while the run is prepared, which comes before its run.json and may take long: by
    whom, since when, and what goes on. Nothing of it is left when the block ends, also of a folder made for it.

    A run in object storage has none; what cannot be written is left to whoever opens the run.
    """

    def __init__(self, place: RunPlace) -> None:
        self.file = None if place.remote else place.folder / PREPARING
        self.heartbeat = Heartbeat.first(PREPARING_SECONDS)
        folders = [place.folder, *place.folder.parents]
        self.made = [] if place.remote else [folder for folder in folders if not folder.exists()]

    def __enter__(self) -> Preparation:
        return self

    def phase(self, now: str) -> None:
        """Say what goes on from now on."""
        WAITING.phase(now)
        if self.file is not None:
            with suppress(OSError):
                self.file.parent.mkdir(parents=True, exist_ok=True)
                write_whole(self.file, json.dumps({"phase": now, "writer": json.loads(self.heartbeat.to_json())}))

    def end(self) -> None:
        """The run has its run.json. May be called again."""
        if self.file is not None:
            with suppress(OSError):
                self.file.unlink(missing_ok=True)

    def __exit__(self, *_: object) -> None:
        self.end()
        with suppress(OSError):  # not empty, as a rule
            for folder in self.made:
                folder.rmdir()


def preparing(folder: Path) -> tuple[str, Heartbeat] | None:
    """What goes on in a run's folder while the run is prepared, and by whom; None where none is."""
    try:
        values = json_object((folder / PREPARING).read_text(encoding="utf-8"))
        writer = Heartbeat.from_json(json.dumps(values["writer"]).encode())
    except (OSError, ValueError, KeyError):
        return None
    return (str(values.get("phase")), writer) if writer else None


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


@dataclass(frozen=True)
class RunPlace:
    """Where a run, or a search, is, and where its files can be read on this machine.

    Attributes:
        shown: what a user calls it.
        folder: the folder; of a run in object storage a working copy with its texts, which is removed at exit.
        remote: where it is, if in object storage.
    """

    shown: str
    folder: Path
    remote: RemoteFolder | None = None

    @classmethod
    def at(cls, out: str) -> RunPlace:
        """
        Args:
            out: a folder, or a uri of object storage.

        Raises:
            UserError: it cannot be read.
            Fault: storage does not answer.
        """
        if not is_remote(out):
            return cls(out, Path(out).absolute())
        remote = RemoteFolder.at(out)
        place = cls(out, Path(folder_for_copy(), remote.name), remote)
        place.copy_texts()
        return place

    def copy_texts(self) -> None:
        """Have in the working copy what storage has now."""
        if self.remote is not None:
            (self.remote.read() or Contents()).write_texts(self.folder)

    def within(self, path: str) -> str:
        """What a user calls something in the run."""
        return str(Path(self.shown, path)) if self.remote is None else below(self.shown, path)

    @property
    def address(self) -> str:
        """The same from any working folder."""
        return str(self.folder) if self.remote is None else self.shown

    def run(self, path: str) -> RunPlace:
        """A run in this one, as a trial of a search is."""
        return RunPlace(self.within(path), self.folder / path, self.remote and self.remote.below(path))

    def copy_runs(self, path: str) -> None:
        """Have the texts of all runs below ``path`` in the working copy."""
        if self.remote is not None:
            with ThreadPoolExecutor(READERS) as pool:
                names = self.remote.names(path)
                list(pool.map(lambda name: self.run(f"{path}/{name}").copy_texts(), names))

    def refuse_if_written(self) -> None:
        """Raises UserError where somebody trains the run, so that nobody else can keep anything with it."""
        beat = self.remote.writer() if self.remote is not None else None
        if beat is not None and beat.seems_alive():
            raise self.taken(beat.describe())

    def taken(self, writer: str) -> UserError:
        """The error of a run that ``writer`` has."""
        return UserError(f"The run {self.shown} is being written ({writer}). Say --out FOLDER.")

    def add_texts(self, *names: str) -> None:
        """Keep these files of the working copy with the run.

        Raises:
            UserError: somebody is training it.
        """
        if self.remote is None:
            return
        try:
            writer = self.remote.begin()
        except AnotherWriter as error:
            raise self.taken(error.writer) from None
        try:
            writer.contents.texts |= {name: (self.folder / name).read_text(encoding="utf-8") for name in names}
            writer.commit()
        finally:
            writer.close()

    def fetch(self, *models: str) -> None:
        """Have these models of the run in ``folder``, as far as it has them.

        Raises:
            UserError: one is damaged.
        """
        if self.remote is not None:
            there = (self.remote.read() or Contents()).folders
            for model in models:
                if model in there:
                    self.remote.fetch(model, self.folder / model)

    def copy_descriptions(self, file: str, models: Sequence[str]) -> None:
        """Have in the working copy what these models say of themselves in ``file``, without their weights; of one that
        is damaged, nothing."""
        if self.remote is not None:
            there = (self.remote.read() or Contents()).folders
            for model in models:
                if stored := there.get(model, {}).get(file):
                    with suppress(Damaged):
                        (self.folder / model).mkdir(exist_ok=True)
                        write_whole(self.folder / model / file, self.remote.get({file: stored})[file].decode())
