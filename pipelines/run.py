"""``rnncond run``: verbs one after the other, each only where something that it depends on has changed.

OUT/pipeline.json has of each stage what it was given, the states (``pipelines.states``) of what it read before it and
of what it wrote, and how it ended. A stage is up to date if it was finished and all of these are as they were. One
that was stopped goes on as its verb does.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines import console
from pipelines.cluster import connect
from pipelines.console import Fault, OtherRun, Outcome, UserError, tell
from pipelines.journal import now, read_run
from pipelines.stages import Stage, command_of, read_pipeline
from pipelines.states import digest, state_of

app = typer.Typer(rich_markup_mode="rich", add_completion=False)

ON_RAY = ("features", "train", "tune", "caption", "translate")
PRODUCES = {
    "features": ("store", "save_listing"),
    "train": ("out",),
    "tune": ("out",),
    "caption": ("out", "save_listing", "keep_features"),
    "translate": ("out", "lines"),
    "evaluate": ("out",),
    "report": ("to",),
}
"""Arguments that name what a verb writes; the others name what it reads, if there is something of that name."""

EXAMPLES = """
Examples:

  rnncond run pipeline.yaml

  rnncond run pipeline.yaml photos=more.jsonl stages.train.args.overrides.seed=2

  rnncond run pipeline.yaml --from evaluate

Give the same command again to go on after a failure, or to do what new data ask for.
"""


@app.command(epilog=EXAMPLES)
def main(
    pipeline: Annotated[str, typer.Argument(help="a YAML file with `stages:`")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="variable=value or key.path=value ...", show_default=False)
    ] = None,
    out: Annotated[str | None, typer.Option(help="folder of pipeline.json; by default the file's own")] = None,
    start: Annotated[
        str | None, typer.Option("--from", metavar="STAGE", help="do this stage and those behind it in any case")
    ] = None,
    address: Annotated[str | None, typer.Option(help="of a Ray cluster; by default Ray starts here")] = None,
) -> Outcome:
    """Do the stages of a pipeline that are not up to date, in their order."""
    return run(pipeline, overrides or (), out=out, start=start, address=address)


def run(
    pipeline: str,
    overrides: list[str] | tuple[str, ...] = (),
    *,
    out: str | None = None,
    start: str | None = None,
    address: str | None = None,
) -> Outcome:
    """What the command does. See ``main``.

    Raises:
        UserError: the file has mistakes, or a stage cannot be done; those before it are.
    """
    plan = read_pipeline(pipeline, overrides, out)
    names = [stage.name for stage in plan.stages]
    if start is not None and start not in names:
        raise UserError(f"--from {start}: there is no such stage; there are {', '.join(names)}.")
    forced = names[names.index(start) :] if start else []
    with locked(plan.out) as state, ExitStack() as stack:
        for number, stage in enumerate(plan.stages, 1):
            why = "asked for with --from" if stage.name in forced else state.why(stage)
            if not why:
                state.news[stage.name] = "up to date"
                continue
            tell(f"\nStage {number} of {len(names)}, {stage.name}: {why}")
            if stage.verb in ON_RAY:
                stack.enter_context(connect(address))  # once it runs, it is kept for those to come
            perform(stage, state, names[number:])
    return state.outcome(plan.stages)


def perform(stage: Stage, state: PipelineState, left: list[str]) -> None:
    """Do a stage, and keep what became of it.

    Raises:
        UserError: it cannot be done.
        Fault: it was broken off by one.
    """
    known = state.entry(stage)
    out = stage.args.get("out")
    ours = known is not None and known.get("args", {}).get("out") == out
    before = reads(stage)
    mine = ours or out is None or not read_run(str(out))
    state.begin(stage, mine)
    began = time.monotonic()
    try:
        outcome = call(stage, ours)
    except BaseException as error:
        message = console.user_message(error)
        if isinstance(error, OtherRun) or not mine:
            state.forget(stage, known)
        else:
            state.keep(stage, status="failed" if message else "stopped", message=message or repr(error))
        if message is None:
            raise
        state.news[stage.name] = "failed"
        console.show(Outcome({**state.news, **dict.fromkeys(left, "not begun")}))
        kind = Fault if console.exit_code(error) == Fault.code else UserError
        raise kind(f"Stage {stage.name}: {message}\nGive the same command again to go on with it.") from error
    console.show(replace(outcome, hint=None))
    state.keep(
        stage,
        status="done",
        inputs=reads(stage) | before,  # what a stage makes for itself and then reads was not there before
        outputs=writes(stage, outcome.summary),
        failed=outcome.failed,
        failures=outcome.failures,
        ended=now(),
    )
    state.news[stage.name] = f"done in {time.monotonic() - began:,.0f} s"


def call(stage: Stage, ours: bool) -> Outcome:
    """The verb.

    Args:
        ours: what OUT has is of an earlier time of this stage, and may be thrown away.
    """
    command = command_of(stage.verb)
    try:
        return console.call(command, stage.verb, stage.words)
    except OtherRun:
        if not ours:
            raise
        tell("It was begun with other data or another recipe, and begins again.")
        return console.call(command, stage.verb, ["--restart", *stage.words])


def reads(stage: Stage) -> dict[str, Any]:
    """The states of what a stage reads, by name."""
    produced = {stage.args.get(name) for name in PRODUCES.get(stage.verb, ())}
    named = [value for name, value in leaves(stage.args) if value not in produced]
    states = {place: state_of(place) for place in (*named, *stage.inputs)}
    return {place: state for place, state in states.items() if state is not None}


def writes(stage: Stage, summary: dict[str, Any]) -> dict[str, Any]:
    """The states of what a stage wrote: what its arguments say, and the files of its summary."""
    named = [stage.args.get(name) for name in PRODUCES.get(stage.verb, ())] + list(summary.values())
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
        fresh = self.path.with_suffix(".new")
        fresh.write_text(json.dumps(self.entries, indent=1, ensure_ascii=False), encoding="utf-8")
        fresh.replace(self.path)

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
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise UserError(f"The pipeline's folder {folder} cannot be written: {error}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise UserError(
            f"This pipeline is being run already, in {folder}. Wait for it, or choose another --out."
        ) from None
    try:
        yield PipelineState(folder)
    finally:
        os.close(lock)
