"""The verbs, and the parsed command behind each.

Only the module of the verb asked for is imported, so that ``rnncond --help`` answers at once.
"""

from __future__ import annotations

import importlib
import os
import re
import typing
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from pipelines.config.spelling import instead_of
from pipelines.errors import UserError, is_usage_error
from pipelines.workflow.commands import Output, StageCommand

VERBS = {
    "demo": "the whole path on a small generated world, or on your photographs",
    "features": "compute CNN features of images into a store",
    "train": "train a captioner or a translator from a recipe",
    "tune": "search for the values of a recipe that train the best model",
    "caption": "caption images, or the features in a store",
    "translate": "translate a corpus of text",
    "evaluate": "score captions or translations against references",
    "promote": "register a model in MLflow, as champion if it is the best",
    "run": "run a pipeline of verbs from a file, each only where something has changed",
    "report": "write a self-contained page of captions or translations, attention, curves and scores",
    "store": "info, use, diff, certify, verify, compact, vacuum: look after a store",
    "status": "say what is done, failed and left in a store or a run, by whom, and how fast",
    "recipes": "list the recipes that come with the project; show every key of one",
    "submit": "run a verb as a job on a Ray cluster: start, status, logs, stop, list",
    "completion": "print the script that lets a shell complete this command",
}
NO_STAGE = ("demo", "run", "submit", "recipes", "completion")
"""Verbs that make no stage of a pipeline."""


def app_of(verb: str) -> typer.Typer:
    """The Typer application of one of ``VERBS``; its module is imported here."""
    app: typer.Typer = importlib.import_module(f"pipelines.cli.{verb}").app
    return app


def parser_of(words: Sequence[str]) -> tuple[Any, list[str]]:
    """The parsed command that a command line begins with, such as `train` or `store compact`, and the words behind it.

    Raises:
        UserError: there is no such command.
    """
    verb, *rest = words
    if verb not in VERBS:
        raise UserError(f"There is no verb {verb!r}.{instead_of(verb, VERBS)}")
    parser = typer.main.get_command(app_of(verb))
    if below := getattr(parser, "commands", {}):
        word = rest[0] if rest else "nothing"
        if word not in below:
            raise UserError(f"Expected {verb} with one of {', '.join(below)} behind it, found {word}.")
        return below[word], rest[1:]
    return parser, rest


def outputs_of(parser: Any) -> dict[str, Output]:
    """The parameters of a command that are marked as naming what it writes, by name."""
    hints = typing.get_type_hints(parser.callback, include_extras=True)
    marks = {name: [mark for mark in typing.get_args(hint) if isinstance(mark, Output)] for name, hint in hints.items()}
    return {name: mark for name, found in marks.items() for mark in found}


def stage_command(verb: str) -> StageCommand:
    """The command of a stage's verb.

    Raises:
        UserError: there is no such verb, or it makes no stage.
    """
    stages = [known for known in VERBS if known not in NO_STAGE]
    name, *rest = verb.split() or [""]
    if name not in stages:
        raise UserError(f"verb: there is no {name!r}.{instead_of(name, stages)}")
    parser, left = parser_of([name, *rest])
    if left:
        raise UserError(f"verb: expected {name} with nothing behind it, found {verb!r}.")
    return StageCommand(parser, outputs_of(parser), lambda words: call(parser, verb, words))


def call(parser: Any, name: str, arguments: Sequence[str]) -> Any:
    """Run a command, and return what it returns, or the exit code where it only showed its help.

    Not by the command's ``main``, which makes an exit code of Ctrl-C.

    Raises:
        KeyboardInterrupt: Ctrl-C.
        Exception: a wrong command line, and whatever the verb raises.
    """
    try:
        with parser.make_context(name, with_home(arguments)) as context:
            refuse_repeated(parser, arguments)
            return parser.invoke(context)
    except typer.Exit as ended:
        return ended.exit_code


def values_of(words: Sequence[str]) -> tuple[Any, dict[str, Any]]:
    """The command that a command line begins with, and the values that its words give its parameters.

    Raises:
        UserError: the command line is wrong.
    """
    _, words = take_common(words)
    parser, rest = parser_of(words)
    try:
        with parser.make_context(" ".join(words[: len(words) - len(rest)]), with_home(rest)) as context:
            refuse_repeated(parser, rest)
            return parser, context.params
    except Exception as error:
        if not is_usage_error(error):
            raise
        raise UserError(f"{' '.join(words)}: {error.format_message()}") from None  # type: ignore[attr-defined]


def refuse_repeated(parser: Any, words: Sequence[str]) -> None:
    """Refuse an option of one value that the words of a command give two: the parser alone would take the last.

    Raises:
        UserError: says which option, and what it was given.
    """
    # Resilient: what else is wrong is not told here.
    context = parser.make_context("", list(words), resilient_parsing=True)
    if words and words[0] in (below := getattr(parser, "commands", {})):
        parser, words = below[words[0]], words[1:]
        context = parser.make_context("", list(words), parent=context, resilient_parsing=True)
    _, _, given = parser.make_parser(context).parse_args(args=list(words))
    for option, times in Counter(given).items():
        if times == 1 or option.param_type_name != "option" or option.multiple or option.is_flag or option.count:
            continue
        name = max(option.opts, key=len)
        values = [
            words[at + 1] if word in option.opts else word.partition("=")[2]
            for at, word in enumerate(words)
            if word.partition("=")[0] in option.opts
        ]
        raise UserError(f"{name}: expected one value, found {times}: {', '.join(values)}. Give the option once.")


HOME = re.compile(r"(?P<name>[^=]*=)?(?P<path>~[^/=]*/.*)", re.DOTALL)


def with_home(words: Sequence[str]) -> list[str]:
    """``words``, in which a path that begins with ``~/`` or ``~user/`` begins with that home folder: a word of its own,
    or what is behind the first ``=`` of one. A shell does so only where the ``~`` begins an unquoted word."""
    matches = [(word, HOME.fullmatch(word)) for word in words]
    return [(match["name"] or "") + os.path.expanduser(match["path"]) if match else word for word, match in matches]


LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True)
class Common:
    """The options that every verb has, wherever they stand in its command line."""

    json: bool = False
    log_level: str | None = None
    events: str | None = None


def take_common(arguments: Sequence[str]) -> tuple[Common, list[str]]:
    """The common options, and the command line without them. What stands behind ``--`` is not looked at.

    Raises:
        UserError: there is no such level.
    """
    end = arguments.index("--") if "--" in arguments else len(arguments)
    own, as_json, level, events = list[str](), False, None, None
    words = iter(arguments[:end])
    for word in words:
        name, equals, value = word.partition("=")
        if word == "--json":
            as_json = True
        elif name == "--log-level":
            level = value if equals else next(words, "")
            if level not in LEVELS:
                raise UserError(f"--log-level: expected one of {', '.join(LEVELS)}, found {level!r}.")
        elif name == "--events":
            events = value if equals else next(words, "")
            if not events:
                raise UserError("--events: expected the name of a file for lines of JSON.")
        else:
            own.append(word)
    return Common(as_json, level, events), [*own, *arguments[end:]]


def add_common(parser: Any) -> None:
    """Let the help of a command, and of those below it, show the common options."""
    for command in (parser, *getattr(parser, "commands", {}).values()):
        command.params += common_params()


def common_params() -> list[Any]:
    app = typer.Typer(add_completion=False)

    @app.command()
    def verb(
        as_json: Annotated[bool, typer.Option("--json", help="one line of JSON on standard output")] = False,
        log_level: Annotated[
            str | None,
            typer.Option(metavar="|".join(LEVELS), help="log to standard error, and in workers to Ray's log files"),
        ] = None,
        events: Annotated[
            str | None, typer.Option(metavar="FILE", help="also add each step to this file, an object of JSON a line")
        ] = None,
    ) -> None: ...

    params: list[Any] = typer.main.get_command(app).params
    for param in params:
        param.expose_value = False
    return params
