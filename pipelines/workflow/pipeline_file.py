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

``args`` are the verb's own arguments and options, as on its command line. ``${name}`` is a variable, a text, and
``${stage.arg}`` what an earlier stage was given; ``${stage.set}``, of a stage that captions or translates, is the set
that readers of its store get at that time. ``needs`` names stages whose results a stage depends on although no argument
says so, ``inputs`` such files. Keys, names, references and values are checked before the first stage begins, and all
mistakes in them are reported at once.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from feature_store.current import CURRENT
from pipelines.config.by_type import spelled, truth
from pipelines.config.dotted import apply, read_yaml
from pipelines.config.messages import describe, in_one_message
from pipelines.config.sections import Place, Section
from pipelines.config.spelling import instead_of
from pipelines.config.yaml_core import Written
from pipelines.errors import UserError
from pipelines.workflow.commands import Commands, StageCommand
from pipelines.workflow.stage_words import check_words, command_words, stage_outputs

MAKES_CURRENT = ("caption", "translate")
"""Verbs at whose end the set that they wrote is the store's current one."""
REFERENCE = re.compile(r"\$\{([^}]*)\}")


class StageSection(Section):
    verb: str | None = None
    args: dict[str, Any] = Field(default_factory=dict)
    needs: list[str] = Field(default_factory=list)
    inputs: list[str] = Field(default_factory=list)


class PipelineSection(Section):
    out: Place = "pipeline"
    variables: dict[str, str] = Field(default_factory=dict)
    stages: dict[str, StageSection] = Field(min_length=1)


OWN_KEYS = tuple(PipelineSection.model_fields)


@dataclass(frozen=True)
class Stage:
    """A stage with every reference resolved.

    Attributes:
        words: ``args`` as the verb's command line has them.
        outputs: what they name that the verb writes.
    """

    name: str
    verb: str
    command: StageCommand | None
    args: dict[str, Any]
    words: list[str]
    outputs: list[str]
    needs: list[str]
    inputs: list[str]


@dataclass(frozen=True)
class Pipeline:
    out: str
    stages: list[Stage]


def read_pipeline(path: str, commands: Commands, overrides: Sequence[str] = (), out: str | None = None) -> Pipeline:
    """The pipeline in the file ``path``.

    Args:
        commands: gives the parsed command behind a verb, or raises UserError.
        overrides: ``variable=value``, a text as it stands, or ``key.path=value``, read by the type of the key.
        out: before the file's own.

    Raises:
        UserError: all that is wrong with it.
    """
    if not Path(path).is_file():
        raise UserError(f"There is no pipeline {path}; expected a YAML file with `stages:`.")
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise UserError(f"{path} is no pipeline: expected `stages:` with the verbs to be done.")
    problems = [problem for override in overrides if (problem := override_pipeline(values, override))]
    if out is not None:
        values["out"] = out
    try:
        section = PipelineSection.model_validate(values)
    except ValidationError as error:
        problems += [message_of(entry) for entry in error.errors()]
        try:  # what is wrong beside keys that there are not
            section = PipelineSection.model_validate(without_unknown(values, error))
        except ValidationError:
            raise UserError(in_one_message(f"The pipeline {path}", problems)) from None
    stages: list[Stage] = []
    for name, given in section.stages.items():
        stage, wrong = resolve(name, given, section.variables, stages, commands)
        problems += [f"stages.{name}: {problem}" for problem in wrong]
        stages.append(stage)
    if problems:
        raise UserError(in_one_message(f"The pipeline {path}", problems))
    return Pipeline(section.out, stages)


def without_unknown(values: dict[str, Any], error: ValidationError) -> dict[str, Any]:
    """The values without the keys that ``error`` says there are not."""
    values = copy.deepcopy(values)
    for entry in error.errors():
        if entry["type"] == "extra_forbidden":
            *path, key = entry["loc"]
            inner: Any = values
            for name in path:
                inner = inner[name]
            inner.pop(key, None)
    return values


def override_pipeline(values: dict[str, Any], override: str) -> str | None:
    """Set the variable or the key of the pipeline that ``override`` names; what is wrong with it, if anything is.

    A variable is one that the file declares or refers to. Its name alone never sets one of the pipeline's own keys.
    """
    path, equals, text = override.partition("=")
    if not equals or not path:
        return f"{override!r}: expected variable=value or key.path=value"
    declared = values.get("variables")
    declared = declared if isinstance(declared, dict) else {}
    known = [*declared, *(name for name in references(values) if name not in declared and "." not in name)]
    head, _, rest = path.partition(".")
    own = head in PipelineSection.model_fields
    if path in OWN_KEYS or (own and path in known):
        folder = f"; --out {text} is the folder of pipeline.json" if path == "out" else ""
        return (
            f"{override!r}: {path} is one of the pipeline's own keys, and variable=value never changes these. "
            f"variables.{path}={text} sets a variable of that name{folder}"
        )
    variable = rest if head == "variables" else None if own else path
    if variable is None:
        return apply(values, override)
    if variable not in known:
        return f"{override!r}: the pipeline has no variable {variable!r}.{instead_of(variable, known)}"
    values["variables"] = {**declared, variable: text}
    return None


def references(value: Any) -> Iterator[str]:
    """The names within ``${}`` anywhere in ``value``."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)
    elif isinstance(value, str):
        yield from REFERENCE.findall(value)


def message_of(error: Mapping[str, Any]) -> str:
    """One of pydantic's errors in a line."""
    *path, key = map(str, error["loc"])
    if error["type"] != "extra_forbidden":
        return describe(error, PipelineSection)
    keys = list((StageSection if path else PipelineSection).model_fields)
    return f"{'.'.join([*path, key])}: no such key.{instead_of(key, keys)}"


def resolve(
    name: str, given: StageSection, variables: Mapping[str, Any], earlier: list[Stage], commands: Commands
) -> tuple[Stage, list[str]]:
    """A stage, and what is wrong with it."""
    known = dict(variables) | {f"{stage.name}.set": CURRENT for stage in earlier if stage.verb in MAKES_CURRENT}
    known |= {f"{stage.name}.{key}": value for stage in earlier for key, value in stage.args.items()}
    verb, wrong = given.verb or name, list[str]()
    args = filled(given.args, known, wrong)
    inputs = [str(path) for path in filled(given.inputs, known, wrong)]
    whole, misnamed = not wrong, list[str]()
    names = [stage.name for stage in earlier]
    wrong += [
        f"needs: there is no stage {need!r} before it.{instead_of(need, names)}"
        for need in given.needs
        if need not in names
    ]
    command: StageCommand | None = None
    words: list[str] = []
    outputs: list[str] = []
    try:
        command = commands(verb)
        outputs = stage_outputs(args, command, wrong)
        words = command_words(verb, args, command.parser, misnamed)
        wrong += misnamed
        # References that are wrong would be reported once more as wrong values, and names that are wrong as missing.
        if whole:
            wrong += check_words(verb, words, command.parser, may_miss=bool(misnamed))
    except UserError as error:
        wrong.append(str(error))
    return Stage(name, verb, command, args, words, outputs, given.needs, inputs), wrong


def filled(value: Any, known: Mapping[str, Any], wrong: list[str]) -> Any:
    """``value`` with every reference in it, however deep, replaced by what is known; others go to ``wrong``."""
    if isinstance(value, dict):
        return {key: filled(inner, known, wrong) for key, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, known, wrong) for inner in value]
    if not isinstance(value, str):
        return value

    def known_as(name: str) -> Any:
        if name not in known:
            wrong.append(f"${{{name}}} is nothing.{instead_of(name, known)}")
        return known.get(name, "")

    if whole := REFERENCE.fullmatch(value):
        only = known_as(whole[1])
        return truth(Written(only)) if isinstance(only, str) else only
    text = REFERENCE.sub(lambda match: spelled(known_as(match[1])), value)
    return type(value)(text)  # Written stays so
