"""The state of a pipeline: which stages are done, with what arguments, inputs and outputs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Required, TypedDict

from feature_store.errors import AnotherWriter
from pipelines.console import Outcome
from pipelines.errors import UserError
from pipelines.files.atomic import FolderLock, write_whole
from pipelines.files.remote_folder import FolderWriter, RemoteFolder, folder_for_copy, is_remote
from pipelines.training.run.info import now
from pipelines.workflow.fingerprints import Fingerprint, digest, fingerprint_of
from pipelines.workflow.pipeline_file import Stage


def reads(stage: Stage) -> dict[str, Fingerprint]:
    """The fingerprints of what a stage reads, by name."""
    return fingerprints(names_read(stage))


def names_read(stage: Stage) -> list[str]:
    """What a stage may read: whatever its arguments say, apart from what it writes."""
    return [*(value for _, value in leaves(stage.args) if value not in stage.outputs), *stage.inputs]


def writes(stage: Stage, summary: dict[str, Any]) -> dict[str, Fingerprint]:
    """The fingerprints of what a stage wrote, by name: what its arguments say, and the files of its summary."""
    named = [*stage.outputs, *summary.values()]
    return fingerprints(name for name in named if isinstance(name, str) and name)


def fingerprints(names: Iterable[str]) -> dict[str, Fingerprint]:
    """The fingerprint of everything of these names that is there."""
    every = {name: fingerprint_of(name) for name in names}
    return {name: fingerprint for name, fingerprint in every.items() if fingerprint is not None}


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Every text within ``value``; of key=value also what is behind the sign."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, str(key))
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner, name)
    elif isinstance(value, str) and value:
        yield name, value
        if "=" in value:
            yield name, value.partition("=")[2]


LOCK_SECONDS = 1
"""For which `rnncond status` may look at the lock of a pipeline that begins."""
SCHEMA = 2
"""The version of pipeline.json. Version 1, of rnncond 0.1.0, is the stages alone, with numbers in their arguments."""


class StageEntry(TypedDict, total=False):
    """What pipeline.json has of a stage. What it was given is known before it begins, the rest when it is done."""

    status: Required[str]
    """begun, done, failed or stopped."""
    began: str
    verb: str
    args: dict[str, Any]
    needs: dict[str, str]
    """By the stages that it needs: a digest of what they made of what."""
    inputs: dict[str, Fingerprint]
    outputs: dict[str, Fingerprint]
    failed: int
    failures: list[str]
    message: str
    ended: str


def read_state(path: Path) -> dict[str, StageEntry]:
    """The stages of a pipeline.json, of this version or the one before; none where there is no such file.

    Raises:
        UserError: it is damaged, or of a version that is not known here.
    """
    remedy = "Put back a copy of it; or remove it, and every stage is done again."
    try:
        content = json.loads(path.read_bytes()) if path.exists() else {}
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}. {remedy}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged: found {type(content).__name__}, expected an object. {remedy}")
    schema = content.get("schema", 1)
    if isinstance(schema, dict):  # a stage of that name in version 1
        schema = 1
    if schema not in (1, SCHEMA):
        raise UserError(
            f"{path} has schema {schema!r}; this version of rnncond reads 1 and {SCHEMA}. Run the pipeline with the "
            "version that wrote it, or remove the file, and every stage is done again."
        )
    stages = content if schema == 1 else content.get("stages")
    if not isinstance(stages, dict) or not all(
        isinstance(entry, dict) and "status" in entry for entry in stages.values()
    ):
        raise UserError(f"{path} is damaged: expected a status for each stage. {remedy}")
    return from_version_1(stages) if schema == 1 else stages


def from_version_1(stages: dict[str, StageEntry]) -> dict[str, StageEntry]:
    """The entries as version 2 has them: numbers in arguments as they were written, and the digests of these."""
    before = {name: result_of(entry) for name, entry in stages.items()}
    for entry in stages.values():
        entry["args"] = words_for_numbers(entry.get("args", {}))
    now_called = {before[name]: result_of(entry) for name, entry in stages.items()}
    for entry in stages.values():
        if "needs" in entry:
            entry["needs"] = {name: now_called.get(result, result) for name, result in entry["needs"].items()}
    return stages


def result_of(entry: StageEntry) -> str:
    """A digest of what a stage made of what."""
    return digest([entry.get(part) for part in ("args", "needs", "inputs", "outputs")])


def words_for_numbers(value: Any) -> Any:
    """``value`` with its numbers as they are now kept: as written."""
    if isinstance(value, dict):
        return {key: words_for_numbers(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [words_for_numbers(inner) for inner in value]
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


class PipelineState:
    """pipeline.json, and what this run has to say of each stage.

    Args:
        writer: of the remote folder that ``folder`` is a working copy of, if it is one.

    Attributes:
        entries: by the stage's name.
        news: by the stage's name, what this run did with it, for its summary.

    Raises:
        UserError: pipeline.json is damaged, or of a newer version.
    """

    def __init__(self, folder: Path, writer: FolderWriter | None = None) -> None:
        self.path = folder / "pipeline.json"
        self.writer = writer
        self.entries = read_state(self.path)
        self.news: dict[str, str] = {}

    def why(self, stage: Stage) -> str:
        """Why a stage has to be done; empty if it is up to date."""
        entry = self.entries.get(stage.name)
        if entry is None:
            return "not done yet"
        if entry["status"] != "done":
            return f"{entry['status']} before"
        if (entry["verb"], entry["args"]) != (stage.verb, stage.args):
            return "its arguments have changed"
        if changed := differing(entry["needs"], self.results(stage)):
            return f"{', '.join(changed)} has been done anew"
        if changed := differing(entry["inputs"], reads(stage)):
            return f"{', '.join(changed)} changed"
        if changed := differing(entry["outputs"], fingerprints(entry["outputs"])):
            return f"{', '.join(changed)} is not as it was left"
        return ""

    def results(self, stage: Stage) -> dict[str, str]:
        """A digest of what was made of what, by the stages that ``stage`` needs."""
        return {need: result_of(self.entries[need]) for need in stage.needs}

    def begin(self, stage: Stage, mine: bool) -> None:
        """Where OUT is the stage's own, its arguments are kept at once: should this process be killed, the next may
        throw away what is there. Otherwise what it was given before stays until it is done."""
        before = self.entries.get(stage.name, StageEntry(status=""))
        entry: StageEntry = {**before, **StageEntry(status="begun", began=now())}
        if mine:
            entry["args"] = stage.args
        self.entries[stage.name] = entry
        self.write()

    def keep(self, stage: Stage, changes: StageEntry) -> None:
        """Note how the stage ended."""
        given = StageEntry(status="", verb=stage.verb, args=stage.args, needs=self.results(stage))
        self.entries[stage.name] = {**self.entries[stage.name], **given, **changes}
        self.write()

    def forget(self, stage: Stage, entry: StageEntry | None) -> None:
        """The stage never began: what was known of it before stays."""
        self.entries.pop(stage.name)
        if entry:
            self.entries[stage.name] = entry
        self.write()

    def write(self) -> None:
        content = {"schema": SCHEMA, "stages": self.entries}
        text = json.dumps(content, indent=1, ensure_ascii=False)
        write_whole(self.path, text)
        if self.writer is not None:
            self.writer.contents.texts[self.path.name] = text
            self.writer.commit()

    def outcome(self, stages: list[Stage]) -> Outcome:
        """All stages, also those that were up to date and had failed inputs when they were done."""
        entries = {stage.name: self.entries[stage.name] for stage in stages}
        failures = [f"{name}: {failure}" for name, entry in entries.items() for failure in entry["failures"]]
        return Outcome(dict(self.news), sum(entry["failed"] for entry in entries.values()), failures)


def differing(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return [name for name in {**before, **after} if before.get(name) != after.get(name)]


@contextmanager
def locked(out: str) -> Iterator[PipelineState]:
    """The state of the pipeline in a folder or in object storage, to this process alone."""
    if is_remote(out):
        remote = RemoteFolder.at(out)
        try:
            writer = remote.begin()
        except AnotherWriter as error:
            raise UserError(
                f"This pipeline is being run already, in {out} ({error.writer}). Wait for it, or choose another --out."
            ) from None
        with closing(writer):
            copy = Path(folder_for_copy(), remote.name)
            writer.contents.write_texts(copy)
            yield PipelineState(copy, writer)
        return
    folder = Path(out)
    try:
        lock = FolderLock(folder, LOCK_SECONDS)
    except BlockingIOError:
        raise UserError(
            f"This pipeline is being run already, in {folder}. Wait for it, or choose another --out."
        ) from None
    except OSError as error:
        raise UserError(f"The pipeline's folder {folder} cannot be written: {error}") from None
    with lock:
        yield PipelineState(folder)
