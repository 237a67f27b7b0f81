"""``rnncond run``: verbs one after the other, each only where something that it depends on has changed.

OUT/pipeline.json (``pipelines.workflow.state``) says what each stage was given, the fingerprints of what it read and
wrote, and how it ended. A stage is up to date if it was finished and all of these are as they were. One that was
stopped is resumed as its verb does.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

from pipelines import console, errors
from pipelines.cluster.connection import connect
from pipelines.console import WAITING, Outcome, tell
from pipelines.errors import Fault, OtherRun, UserError
from pipelines.training.run.info import RunPlace, now, read_run
from pipelines.workflow.commands import Commands
from pipelines.workflow.pipeline_file import Pipeline, Stage, read_pipeline
from pipelines.workflow.state import PipelineState, StageEntry, locked, names_read, reads, writes


def run(
    commands: Commands,
    pipeline: str,
    overrides: list[str] | tuple[str, ...] = (),
    *,
    out: str | None = None,
    start: str | None = None,
    dry_run: bool = False,
    address: str | None = None,
) -> Outcome:
    """Do the stages that are not up to date, or with ``dry_run`` say which these are.

    Args:
        commands: gives the command behind a stage's verb. The other arguments are the command line's.

    Raises:
        UserError: the file has mistakes, or a stage cannot be done; those before it are.
    """
    plan = read_pipeline(pipeline, commands, overrides, out)
    names = [stage.name for stage in plan.stages]
    if start is not None and start not in names:
        raise UserError(f"--from {start}: there is no such stage; there are {', '.join(names)}.")
    forced = names[names.index(start) :] if start else []
    if dry_run:
        return forecast(plan, forced)
    with locked(plan.out) as state, ExitStack() as stack:
        for number, stage in enumerate(plan.stages, 1):
            why = "asked for with --from" if stage.name in forced else state.why(stage)
            if not why:
                state.news[stage.name] = "up to date"
                continue
            tell(f"\nStage {number} of {len(names)}, {stage.name}: {why}")
            # Once Ray runs, it is kept for the stages to come.
            perform(stage, state, names[number:], lambda: stack.enter_context(connect(address)))
    return state.outcome(plan.stages)


def forecast(plan: Pipeline, forced: list[str]) -> Outcome:
    """Which stages would be done, and why, by what is there now; nothing is written."""
    state = PipelineState(RunPlace.at(plan.out).folder)
    waiting: list[Stage] = []
    for stage in plan.stages:
        read = set(names_read(stage))
        first = [other.name for other in waiting if other.name in stage.needs or read.intersection(other.outputs)]
        if stage.name in forced:
            why = "would be done: asked for with --from"
        elif first:
            why = f"would be done, unless nothing changes in {' and '.join(first)}"
        else:
            why = f"would be done: {reason}" if (reason := state.why(stage)) else "up to date"
        state.news[stage.name] = why
        if why != "up to date":
            waiting.append(stage)
    return Outcome(state.news)


def perform(stage: Stage, state: PipelineState, left: list[str], start_ray: Callable[[], object]) -> None:
    """Do a stage, and keep what became of it.

    Args:
        left: the names of the stages after it.

    Raises:
        UserError: it cannot be done.
        Fault: it was broken off by one.
    """
    clock = time.monotonic()
    WAITING.phase("loading what the stage needs")
    known = state.entries.get(stage.name)
    out = stage.args.get("out")
    ours = known is not None and known.get("args", {}).get("out") == out
    before = reads(stage)
    mine = ours or out is None or not read_run(RunPlace.at(str(out)).folder)
    state.begin(stage, mine)
    try:
        if stage.command and stage.command.uses_ray:
            start_ray()
        outcome = call(stage, ours)
    except BaseException as error:
        message = errors.user_message(error)
        if isinstance(error, OtherRun) or not mine:
            state.forget(stage, known)
        else:
            status = "failed" if message else "stopped"
            state.keep(stage, StageEntry(status=status, message=message or repr(error), ended=now()))
        if message is None:
            raise
        state.news[stage.name] = "failed"
        console.show(Outcome({**state.news, **dict.fromkeys(left, "not begun")}))
        kind = Fault if errors.exit_code(error) == Fault.code else UserError
        again = "The same command resumes there" + (", once that is mended." if kind is UserError else ".")
        raise kind(f"Stage {stage.name}: {message}\n{again}") from error
    # What a stage says of its inputs; what could be done next, the stages that follow do.
    console.show(replace(outcome, hint=(outcome.hint or "").partition("Next: ")[0].strip() or None))
    done = StageEntry(
        status="done",
        inputs=reads(stage) | before,  # what a stage makes for itself and then reads was not there before
        outputs=writes(stage, outcome.summary),
        failed=outcome.failed,
        failures=outcome.failures,
        ended=now(),
    )
    state.keep(stage, done)
    state.news[stage.name] = f"done in {time.monotonic() - clock:,.0f} s"


def call(stage: Stage, ours: bool) -> Outcome:
    """The verb.

    Args:
        ours: what OUT has is of an earlier time of this stage, and may be thrown away.
    """
    assert stage.command is not None, "a stage without a command is refused when the file is read"
    try:
        outcome: Outcome = stage.command.call(stage.words)
    except OtherRun:
        if not ours:
            raise
        tell("It was begun with other data or another recipe, and begins again.")
        outcome = stage.command.call(["--restart", *stage.words])
    return outcome
