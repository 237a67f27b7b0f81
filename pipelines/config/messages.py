"""What pydantic finds wrong with a recipe or a pipeline, in the words of its user: where, what, what is allowed."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from pipelines.config.spelling import instead_of, near
from pipelines.config.training_sections import OBJECTIVES, SCHEDULES
from pipelines.console import plural

KINDS = OBJECTIVES | SCHEDULES
EXPECTED = {
    "model_type": "a section, keys with their values",
    "dict_type": "a section, keys with their values",
    "union_tag_not_found": "a section, keys with their values",
    "tuple_type": "a list",
    "list_type": "a list",
    "string_type": "text",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
}
"""By pydantic's type of an error; its own words speak of Python."""


def in_one_message(what: str, problems: Sequence[str]) -> str:
    """That ``what`` has these mistakes, a line each."""
    count = f"{len(problems)} {plural('mistake', len(problems))}"
    return f"{what} has {count}:\n" + "\n".join(f"  {problem}" for problem in problems)


def describe(error: Mapping[str, Any], recipe: type[BaseModel]) -> str:
    """One of pydantic's errors in a line: path, what was found, what is allowed."""
    loc = [str(part) for part in error["loc"]]
    path, found, kind = ".".join(keys_in(loc)), error["input"], error["type"]
    if kind == "extra_forbidden":
        keys = list(section_at(recipe, loc[:-1]).model_fields)
        return f"{path}: no such key.{instead_of(loc[-1], keys)}"
    if kind == "missing":
        if isinstance(error["loc"][-1], int):
            return f"{'.'.join(keys_in(loc)[:-1])}: found {found!r}, and value {error['loc'][-1] + 1} is missing"
        return f"{path}: missing; say it in the file{on_command(recipe, loc, path)}"
    if kind == "invalid_key":
        return f"{path}: found the key {found!r}, expected text"
    if kind in ("too_long", "too_short"):
        most = kind == "too_long"
        count = error["ctx"]["max_length" if most else "min_length"]
        return f"{path}: found {found!r}, expected at {'most' if most else 'least'} {count} of them"
    if kind == "union_tag_invalid":
        path, found = f"{path}.kind", found["kind"]
    if kind in ("literal_error", "union_tag_invalid"):
        allowed = error["ctx"].get("expected") or error["ctx"]["expected_tags"]
        options = [option.strip("' ") for option in allowed.replace(" or ", ", ").split(",")]
        return f"{path}: found {found!r}, expected {allowed}.{near(str(found), options)}"
    what = error["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if kind == "value_error":
        return f"{path}: {what}" if path else what
    return f"{path}: found {found!r}, expected {EXPECTED.get(kind, what)}"


def on_command(recipe: type[BaseModel], loc: list[str], path: str) -> str:
    """How to say on the command line what is missing; a mapping with keys of the user's own is one argument."""
    annotation = section_at(recipe, loc[:-1]).model_fields[loc[-1]].annotation
    if typing.get_origin(annotation) is dict:
        return f", or add '{path}={{KEY: ..., KEY: ...}}' to the command"
    section = section_in(annotation)
    fields = section.model_fields if isinstance(section, type) and issubclass(section, BaseModel) else {}
    words = [f"{path}.{key}=VALUE" for key, field in fields.items() if field.is_required()]
    return f", or add {' '.join(words or [f'{path}=VALUE'])} to the command"


def keys_in(loc: list[str]) -> list[str]:
    """Pydantic's path without the kind that it has behind ``objective`` and ``schedule``."""
    return [part for part in loc if part not in KINDS]


def section_at(model: type[BaseModel], loc: list[str]) -> type[BaseModel]:
    kinds: dict[str, type[BaseModel]] = {**OBJECTIVES, **SCHEDULES}
    for part in loc:
        if part in kinds:
            model = kinds[part]
        elif part in model.model_fields:  # else a key of a mapping, as in tune.space
            model = section_in(model.model_fields[part].annotation)
    return model


def section_in(annotation: Any) -> Any:
    """The section that an optional one or a mapping to sections is made of."""
    parts = [part for part in typing.get_args(annotation) if part is not type(None)]
    return section_in(parts[-1]) if parts else annotation
