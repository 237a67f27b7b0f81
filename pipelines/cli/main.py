"""The command: ``rnncond VERB ...``. Behind each verb is a module of this package with a Typer ``app``.

Only the module of the verb asked for is imported, and what it calls only when it is called, so that
``rnncond --help`` and ``rnncond VERB --help`` answer at once.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import select
import signal
import sys
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout, suppress
from importlib import metadata
from typing import TextIO

import typer
from rich.console import Console
from rich.table import Table

from pipelines import console, logs
from pipelines.cli.commands import VERBS, Common, add_common, app_of, call, take_common
from pipelines.config.spelling import instead_of
from pipelines.console import Outcome
from pipelines.errors import Terminated, exit_code, user_message
from pipelines.events import EVENTS

logger = logging.getLogger(__name__)

INTERRUPTED = "Interrupted. What was committed is kept; run the same command again to resume."
TERMINATED = "Terminated by SIGTERM. What was committed is kept; run the same command again to resume."


SLOW = (
    "demo", "features", "train", "tune", "caption", "translate", "evaluate", "promote", "run", "report", "store",
)  # fmt: skip
"""Verbs that load torch, Ray or MLflow, for longer than anybody waits in silence where the machine is busy."""


def start() -> None:
    """The command: ``main``, after which the process ends at once. Threads of C++ that Arrow, Ray or MLflow leave
    behind would otherwise keep it, or abort it now and then while Python takes itself apart."""
    verb = sys.argv[1] if len(sys.argv) > 1 else ""
    if verb in SLOW:
        console.WAITING.begin(verb, "loading libraries")
    try:
        main()
    except SystemExit as ended:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ray takes seconds to end, and a second Ctrl-C would break that
        atexit._run_exitfuncs()
        for file in (sys.stdout, sys.stderr):
            with suppress(AttributeError, OSError, ValueError):  # there is none, nobody reads it, or it is closed
                file.flush()
        os._exit(ended.code if isinstance(ended.code, int) else 0)


def main(arguments: list[str] | None = None) -> None:
    """Exits with 0 (all done), 2 (a mistake in the command, the recipe or the data), 3 (done, but some inputs failed),
    4 (broken off by a fault: the same command resumes), 130 (Ctrl-C) or 143 (SIGTERM)."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        show_verbs()
        sys.exit(0)
    if arguments[0] == "--version":
        print(f"rnncond {version()}")
        sys.exit(0)
    verb, *rest = arguments
    if verb not in VERBS:
        console.tell_error(f"There is no verb {verb!r}.{instead_of(verb, VERBS)}")
        sys.exit(2)
    # Before torch is loaded, here and in the workers that Ray starts here. Threads that spin while they wait for one
    # another are no faster on idle cores, and on busy ones they keep each other from the work.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    take_signals()
    code = run(app_of(verb), f"rnncond {verb}", rest)
    sys.exit(UNREAD if reader_is_gone() else code)


UNREAD = 141
"""The exit code where nobody reads standard output to its end, as of a program that SIGPIPE ends."""


def reader_is_gone() -> bool:
    """Whether nobody reads standard output any more, as behind ``| head``. What is still to be written goes nowhere."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        write_nowhere()
        return True
    return False


def is_closed(file: TextIO) -> bool:
    """Whether ``file`` is a pipe that nobody reads any more."""
    try:
        watch = select.poll()
        watch.register(file.fileno(), 0)
    except OSError:  # no file of the system
        return False
    return any(mask & select.POLLERR for _, mask in watch.poll(0))


def write_nowhere() -> None:
    """Let standard output take what is still written to it, for nobody."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def take_signals() -> None:
    """Let SIGTERM, which a scheduler sends, end a verb as Ctrl-C does. Further ones are ignored while it ends."""

    def stop(number: int, frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Terminated

    signal.signal(signal.SIGTERM, stop)


def run(app: typer.Typer, name: str, arguments: Sequence[str]) -> int:
    """Run a verb's ``app`` on ``arguments``, show its Outcome, and return the exit code.

    Under ``--json`` standard output gets the one line of JSON, behind the lines of a verb whose results are lines.
    """
    parser = typer.main.get_command(app)
    add_common(parser)
    common = Common(json="--json" in arguments)  # where it cannot be read
    try:
        common, arguments = take_common(arguments)
        if common.events:
            EVENTS.open(common.events)
        if common.log_level:
            logs.configure(common.log_level)
        # Ray prints faults of its processes to standard output, MLflow the addresses of runs.
        with console.for_results(sys.stdout), redirect_stdout(sys.stderr) if common.json else nullcontext():
            outcome = call(parser, name, arguments)
            if isinstance(outcome, Outcome):
                console.show(outcome)
    except Terminated:
        return fail(TERMINATED, common.json, Terminated.code)
    except KeyboardInterrupt:
        return fail(INTERRUPTED, common.json, 130)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and is_closed(sys.stdout):
            write_nowhere()
            return UNREAD
        message = user_message(error)
        logger.debug("The verb was ended by:", exc_info=error)
        if message is None:
            raise
        return fail(message, common.json, exit_code(error))
    if not isinstance(outcome, Outcome):
        return int(outcome or 0)
    EVENTS.emit("outcome", failed=outcome.failed, summary=outcome.summary)
    if common.json:
        print(json.dumps({**outcome.summary, "failed": outcome.failed}, default=str))
    return outcome.code if outcome.code is not None else 3 if outcome.failed else 0


def fail(message: str, as_json: bool, code: int = 2) -> int:
    """Tell an error, under ``--json`` as JSON too, and return the exit code."""
    console.tell_error(message)
    EVENTS.emit("error", message=message, code=code)
    if as_json:
        print(json.dumps({"error": message}))
    return code


def version() -> str:
    try:
        return metadata.version("rnncond")
    except metadata.PackageNotFoundError:
        return "(not installed: run from its folder)"


def show_verbs() -> None:
    out = Console()
    out.print("[bold]rnncond[/] VERB ...   captions of pictures and translations by recurrent networks, on Ray\n")
    table = Table(box=None, show_header=False, padding=(0, 2))
    for verb, purpose in VERBS.items():
        table.add_row(f"[bold]{verb}[/]", purpose)
    out.print(table)
    out.print("\n`rnncond VERB --help` has examples. Every verb takes --json and --log-level.")
    out.print("`rnncond --version` says which version this is.")


if __name__ == "__main__":
    start()
