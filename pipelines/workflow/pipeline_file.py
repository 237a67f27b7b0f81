"""The file of ``rnncond run``: stages in the order in which they are done.

```yaml
out: nightly                        # pipeline.json: what was done, and from what
variables: {photos: captions.jsonl}
stages:
  features:                         # a verb, unless `verb` says another
    args: {images: "${photos}", store: store, backbone: timm/resnet50}
  train:
    args:
      recipe: show_tell.small
      overrides: {data.store: "${features.store}", data.captions: "${photos}"}
      out: runs/nightly
  report:
    needs: [train]
    args: {out: "${train.out}"}
```

``args`` are the verb's own arguments and options, as on its command line. ``${name}`` is a variable, ``${stage.arg}``
what an earlier stage was given. ``needs`` names stages whose results a stage depends on although no argument says so,
``inputs`` such files. Everything is checked before the first stage begins, and all mistakes are told at once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from pipelines.config.dotted import UniqueKeys, apply, flat, read_text
from pipelines.config.messages import describe, near
from pipelines.config.sections import LocalFolder, Section, local
from pipelines.errors import UserError, is_usage_error

LOCAL = ("train", "tune")
"""Verbs that lock the folder they write, and so need one of this machine."""
REFERENCE = re.compile(r"\$\{([^}]*)\}")

Commands = Callable[[str], Any]
"""What gives the parsed command behind a verb; this floor does not know the verbs."""


class StageSection(Section):
    verb: str | None = None
    args: dict[str, Any] = Field(default_factory=dict)
    needs: list[str] = Field(default_factory=list)
    inputs: list[str] = Field(default_factory=list)


class PipelineSection(Section):
    out: LocalFolder = "pipeline"
    variables: dict[str, str | int | float | bool] = Field(default_factory=dict)
    stages: dict[str, StageSection] = Field(min_length=1)


@dataclass(frozen=True)
class Stage:
    """``words`` are ``args`` as the verb's command line has them, every reference resolved."""

    name: str
    verb: str
    args: dict[str, Any]
    words: list[str]
    needs: list[str]
    inputs: list[str]


@dataclass(frozen=True)
class Pipeline:
    out: Path
    stages: list[Stage]


def read_pipeline(
    path: str, commands: Commands, overrides: list[str] | tuple[str, ...] = (), out: str | None = None
) -> Pipeline:
    """The pipeline in the file ``path``.

    Args:
        commands: gives the parsed command behind a verb, or raises UserError.
        overrides: ``key.path=value``; a key that is no section of the file is a variable's.
        out: before the file's own.

    Raises:
        UserError: all that is wrong with it.
    """
    if not Path(path).is_file():
        raise UserError(f"There is no pipeline {path}; expected a YAML file with `stages:`.")
    try:
        values = yaml.load(read_text(path), UniqueKeys)
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {error}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path} is no pipeline: expected `stages:` with the verbs to be done.")
    whole = [word if word.partition(".")[0] in PipelineSection.model_fields or word.startswith("out=")
             else f"variables.{word}" for word in overrides]  # fmt: skip
    problems = [problem for word in whole if (problem := apply(values, word))]
    if out is not None:
        values["out"] = out
    try:
        section = PipelineSection.model_validate(values)
    except ValidationError as error:
        problems += [told(entry) for entry in error.errors()]
        raise UserError(mistakes(path, problems)) from None
    stages = []
    for name, given in section.stages.items():
        found, wrong = resolve(name, given, section.variables, stages, commands)
        problems += [f"stages.{name}: {problem}" for problem in wrong]
        stages.append(found)
    if problems:
        raise UserError(mistakes(path, problems))
    return Pipeline(Path(section.out), stages)


def mistakes(path: str, problems: list[str]) -> str:
    count = "1 mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
    return f"The pipeline {path} has {count}:\n" + "\n".join(f"  {problem}" for problem in problems)


def told(error: dict) -> str:
    """One of pydantic's errors in a line."""
    *path, key = map(str, error["loc"])
    if error["type"] != "extra_forbidden":
        return describe(error, PipelineSection)
    keys = list((StageSection if path else PipelineSection).model_fields)
    return f"{'.'.join([*path, key])}: no such key; there are {', '.join(keys)}.{near(key, keys)}"


def resolve(
    name: str, given: StageSection, variables: Mapping[str, Any], earlier: list[Stage], commands: Commands
) -> tuple[Stage, list[str]]:
    """A stage, and what is wrong with it."""
    known = dict(variables) | {f"{stage.name}.{key}": value for stage in earlier for key, value in stage.args.items()}
    verb, wrong = given.verb or name, []
    args = filled(given.args, known, wrong)
    inputs = [str(path) for path in filled(given.inputs, known, wrong)]
    names = [stage.name for stage in earlier]
    wrong += [
        f"needs: there is no stage {need!r} before it; there are {', '.join(names) or 'none'}.{near(need, names)}"
        for need in given.needs
        if need not in names
    ]
    words: list[str] = []
    try:
        if verb in LOCAL:
            local(str(args.get("out", "")))
    except ValueError as error:
        wrong.append(f"args.out: {error}")
    try:
        command = commands(verb)
        words = words_of(verb, args, command)
        # References that are wrong would be told once more as wrong values.
        if not wrong:
            check(verb, words, command)
    except UserError as error:
        wrong.append(str(error))
    return Stage(name, verb, args, words, given.needs, inputs), wrong


def filled(value: Any, known: Mapping[str, Any], wrong: list[str]) -> Any:
    """``value`` with every reference in it, however deep, replaced by what is known; others go to ``wrong``."""
    if isinstance(value, dict):
        return {key: filled(inner, known, wrong) for key, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, known, wrong) for inner in value]
    if not isinstance(value, str):
        return value

    def found(match: re.Match) -> Any:
        if match[1] not in known:
            wrong.append(
                f"${{{match[1]}}} is nothing; there are {', '.join(known) or 'none'}.{near(match[1], [*known])}"
            )
        return known.get(match[1], "")

    whole = REFERENCE.fullmatch(value)
    return found(whole) if whole else REFERENCE.sub(lambda match: str(found(match)), value)


def words_of(verb: str, args: Mapping[str, Any], command: Any) -> list[str]:
    """``args`` as words of a command line.

    Raises:
        UserError: an argument that the verb does not have.
    """
    params = {key: param for param in reversed(command.params) for key in spellings(param)}
    names = [key for key in params if key not in NOT_OF_STAGES]
    options, positional = [], {}
    for key, value in args.items():
        param = params.get(key.replace("_", "-"))
        if param is None or key in NOT_OF_STAGES:
            remedy = "say it to `rnncond run`" if key in NOT_OF_STAGES else f"there are {', '.join(sorted(names))}"
            raise UserError(f"args.{key}: {verb} has no such argument in a stage; {remedy}.{near(key, names)}")
        if param.param_type_name == "argument":
            positional[param.name] = list(texts(value, param.nargs == -1))
        elif param.is_flag:
            flags = param.opts if value is True else param.secondary_opts if value is False else None
            if flags is None and value is not None:
                raise UserError(f"args.{key}: found {value!r}, expected true or false")
            options += (flags or [])[:1]
        else:
            # One word, so that a value may begin with a dash.
            options += [f"{param.opts[0]}={text}" for text in texts(value, param.multiple)]
    order = [param.name for param in command.params if param.name in positional]
    return [*options, "--", *(text for name in order for text in positional[name])]


NOT_OF_STAGES = ("address", "help")


def spellings(param: Any) -> list[str]:
    """The names by which a stage may call a parameter; its own name goes before those of options."""
    options = [] if param.param_type_name == "argument" else [option.removeprefix("--") for option in param.opts]
    return [*options, param.name.replace("_", "-")]


def texts(value: Any, several: bool) -> Iterator[str]:
    """A value as words: a list is several, or one with commas; a mapping is key=value for each; null is nothing."""
    if value is None:
        return
    if isinstance(value, dict):
        yield from (f"{key}={inner if isinstance(inner, str) else json.dumps(inner)}" for key, inner in flat(value))
    elif isinstance(value, list):
        words = [word for inner in value for word in texts(inner, False)]
        yield from words if several else [",".join(words)]
    else:
        yield json.dumps(value) if isinstance(value, bool) else str(value)


def check(verb: str, words: list[str], command: Any) -> None:
    """Parse the words as the command line would.

    Raises:
        UserError: something is missing, or of the wrong type.
    """
    try:
        command.make_context(verb, list(words))
    except Exception as error:
        if not is_usage_error(error):
            raise
        raise UserError(f"args: {error.format_message()}") from None
