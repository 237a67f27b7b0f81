"""The state of a pipeline: which stages are done, with what arguments, inputs and outputs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.console import Outcome
from pipelines.errors import UserError
from pipelines.files.atomic import FolderLock, write_whole
from pipelines.training.run_info import now
from pipelines.workflow.fingerprints import digest, state_of
from pipelines.workflow.pipeline_file import Stage


def reads(stage: Stage) -> dict[str, Any]:
    """The states of what a stage reads, by name."""
    named = [value for name, value in leaves(stage.args) if value not in stage.outputs]
    states = {place: state_of(place) for place in (*named, *stage.inputs)}
    return {place: state for place, state in states.items() if state is not None}


def writes(stage: Stage, summary: dict[str, Any]) -> dict[str, Any]:
    """The states of what a stage wrote: what its arguments say, and the files of its summary."""
    named = [*stage.outputs, *summary.values()]
    states = {place: state_of(place) for place in named if isinstance(place, str) and place}
    return {place: state for place, state in states.items() if state is not None}


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


class PipelineState:
    """pipeline.json, and what this run has to say of each stage."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "pipeline.json"
        try:
            self.entries = json.loads(self.path.read_bytes()) if self.path.exists() else {}
        except ValueError as error:
            raise UserError(
                f"{self.path} is damaged: {error}. Put back a copy of it; or remove it, and every stage is done again."
            ) from None
        self.news: dict[str, str] = {}

    def entry(self, stage: Stage) -> dict[str, Any] | None:
        return self.entries.get(stage.name)

    def why(self, stage: Stage) -> str:
        """Why a stage has to be done; empty if it is up to date."""
        entry = self.entry(stage)
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
        now_there = {place: state_of(place) for place in entry["outputs"]}
        if changed := differing(entry["outputs"], now_there):
            return f"{', '.join(changed)} is not as it was left"
        return ""

    def results(self, stage: Stage) -> dict[str, str]:
        """Of the stages that it needs, what they made of what."""
        parts = ("args", "needs", "inputs", "outputs")
        return {need: digest([self.entries[need].get(part) for part in parts]) for need in stage.needs}

    def begin(self, stage: Stage, mine: bool) -> None:
        """Where OUT is the stage's own, its arguments are kept at once: should this process be killed, the next may
        throw away what is there. Otherwise what it was given before stays until it is done."""
        args = {"args": stage.args} if mine else {}
        self.entries[stage.name] = {**(self.entry(stage) or {}), **args, "status": "begun", "began": now()}
        self.write()

    def keep(self, stage: Stage, **values: Any) -> None:
        given = {"verb": stage.verb, "args": stage.args, "needs": self.results(stage)}
        self.entries[stage.name] = {**self.entries[stage.name], **given, **values}
        self.write()

    def forget(self, stage: Stage, entry: dict[str, Any] | None) -> None:
        """The stage never began: what was known of it before stays."""
        self.entries.pop(stage.name)
        if entry:
            self.entries[stage.name] = entry
        self.write()

    def write(self) -> None:
        write_whole(self.path, json.dumps(self.entries, indent=1, ensure_ascii=False))

    def outcome(self, stages: list[Stage]) -> Outcome:
        """All stages, also those that were up to date and had failed inputs when they were done."""
        entries = {stage.name: self.entries[stage.name] for stage in stages}
        failures = [f"{name}: {failure}" for name, entry in entries.items() for failure in entry["failures"]]
        return Outcome(dict(self.news), sum(entry["failed"] for entry in entries.values()), failures)


def differing(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return [name for name in {**before, **after} if before.get(name) != after.get(name)]


@contextmanager
def locked(folder: Path) -> Iterator[PipelineState]:
    """The folder's state, to this process alone."""
    try:
        lock = FolderLock(folder)
    except BlockingIOError:
        raise UserError(
            f"This pipeline is being run already, in {folder}. Wait for it, or choose another --out."
        ) from None
    except OSError as error:
        raise UserError(f"The pipeline's folder {folder} cannot be written: {error}") from None
    with lock:
        yield PipelineState(folder)
