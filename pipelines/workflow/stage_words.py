"""The arguments of a stage as the words of its verb's command line, and which of them name what the verb writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from pipelines.config.by_type import spelled
from pipelines.config.dotted import flat
from pipelines.config.sections import local
from pipelines.config.spelling import instead_of
from pipelines.config.yaml_core import dump_flow
from pipelines.errors import is_usage_error
from pipelines.workflow.commands import StageCommand


def stage_outputs(args: Mapping[str, Any], command: StageCommand, wrong: list[str]) -> list[str]:
    """What ``args`` name that the verb writes. Object storage where the verb cannot write there goes to ``wrong``."""
    params = parameters(command.parser)
    outputs = []
    for key, value in args.items():
        param = params.get(key.replace("_", "-"))
        mark = command.outputs.get(param.name) if param else None
        if mark is None or not isinstance(value, str):
            continue
        outputs.append(value)
        if mark.local:
            try:
                local(value)
            except ValueError as error:
                wrong.append(f"args.{key}: {error}")
    return outputs


def command_words(verb: str, args: Mapping[str, Any], command: Any, wrong: list[str]) -> list[str]:
    """``args`` as words of a command line; what the verb does not have goes to ``wrong``."""
    params = parameters(command)
    names = [key.replace("-", "_") for key in params if key not in NOT_OF_STAGES]
    options: list[str] = []
    positional: dict[str, list[str]] = {}
    for key, value in args.items():
        param = params.get(key.replace("_", "-"))
        if param is None or key in NOT_OF_STAGES:
            remedy = " Say it to `rnncond run`." if key in NOT_OF_STAGES else instead_of(key, sorted(names))
            wrong.append(f"args.{key}: {verb} has no such argument in a stage.{remedy}")
            continue
        if param.param_type_name == "argument":
            positional[param.name] = list(value_words(value, param.nargs == -1))
        elif param.is_flag:
            flags = param.opts if value is True else param.secondary_opts if value is False else None
            if flags is None and value is not None:
                wrong.append(f"args.{key}: found {value!r}, expected true or false")
            options += (flags or [])[:1]
        else:
            # One word, so that a value may begin with a dash.
            options += [f"{param.opts[0]}={text}" for text in value_words(value, param.multiple)]
    order = [param.name for param in command.params if param.name in positional]
    return [*options, "--", *(text for name in order for text in positional[name])]


NOT_OF_STAGES = ("address", "help")


def parameters(parser: Any) -> dict[str, Any]:
    """The parameters of click's command by all names that a stage may call them; the first of two of a name counts."""
    return {key: param for param in reversed(parser.params) for key in spellings(param)}


def spellings(param: Any) -> list[str]:
    """The names by which a stage may call a parameter: those that ``--help`` shows, and its own."""
    if param.param_type_name == "argument":
        shown = [param.metavar.lower()] if param.metavar and param.metavar.isalpha() else []
    else:
        shown = [option.removeprefix("--") for option in param.opts]
    return list(dict.fromkeys([*shown, param.name.replace("_", "-")]))


def value_words(value: Any, several: bool) -> Iterator[str]:
    """A value as words: a list is several, or one with commas; a mapping is key=value for each; null is nothing."""
    if value is None:
        return
    if isinstance(value, dict):
        yield from (f"{key}={override_text(inner)}" for key, inner in flat(value))
    elif isinstance(value, list):
        words = [word for inner in value for word in value_words(inner, False)]
        yield from words if several else [",".join(words)]
    else:
        yield spelled(value)


def override_text(value: Any) -> str:
    """A value behind the ``=`` of ``key.path=value``."""
    if isinstance(value, list):
        return dump_flow(value)
    return "null" if value is None else spelled(value)


def check_words(verb: str, words: list[str], command: Any, may_miss: bool = False) -> list[str]:
    """What the command line would not take of the words: each value that is wrong, and what is missing unless that is
    allowed."""
    context = command.context_class(command, info_name=verb)
    wrong: list[str] = []

    def taken(step: Callable[[], Any]) -> Any:
        try:
            return step()
        except Exception as error:
            if not is_usage_error(error):
                raise
            if not (may_miss and type(error).__name__ == "MissingParameter"):
                wrong.append(f"args: {error.format_message()}")  # type: ignore[attr-defined]

    # As click itself does, which leaves off at the first.
    with context.scope(cleanup=False):
        parsed = taken(lambda: command.make_parser(context).parse_args(args=list(words)))
        if parsed is None:
            return wrong
        values, rest, _ = parsed
        for param in command.params:
            if param.name not in NOT_OF_STAGES:
                taken(partial(param.handle_parse_result, context, values, rest))
    if rest:
        wrong.append(f"args: more than {verb} takes: {', '.join(rest)}")
    return wrong
