"""Every key of a recipe with its type, its default and its meaning, read from the models that check recipes."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import pairwise
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from pipelines.config.recipe import load, recipe_type
from pipelines.config.yaml_core import Written, dump_flow, structure
from rnncond import systems
from rnncond.search import SearchOptions

TYPES: dict[Any, str] = {int: "whole number", float: "number", bool: "true or false", str: "text", Any: "any value"}
BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


class Key(NamedTuple):
    """A key of a recipe.

    Attributes:
        path: as in key.path=value; of a section of several kinds, with the kind in brackets.
        default: None where the key has to be given.
        value: what the recipe says, None where it says nothing.
    """

    path: str
    type: str
    default: str | None
    value: str | None
    meaning: str


def keys_of_recipe(source: str) -> list[Key]:
    """The keys that the recipe ``source`` may have, in the order of the models.

    Raises:
        UserError: there is no such recipe.
    """
    values, _ = load(source)
    system, data = values.get("system"), values.get("data")
    kind = recipe_type(system, isinstance(data, dict) and "source" in data)
    return list(keys_of(kind, plain(values), meanings_of_system(str(system))))


def plain(value: Any) -> Any:
    """Values as the YAML has them, without the marks of how they were written."""
    if isinstance(value, Written):
        value = structure(value)
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


def keys_of(
    section: type[BaseModel], values: Any, more: Mapping[str, str], path: str = "", off: str = ""
) -> Iterator[Key]:
    """The keys of a section and of those in it.

    Args:
        more: meanings that the model's own source does not have, by path.
        off: the section that is off as long as none of its keys is given; "" where there is none.
    """
    values = values if isinstance(values, Mapping) else {}
    meanings = meanings_of(section)
    for name, field in section.model_fields.items():
        here, value = f"{path}{name}", values.get(name)
        below = sections_in(field.annotation)
        if below and typing.get_origin(field.annotation) is not dict:
            for inner in below:
                kind = kind_of(inner) if len(below) > 1 else None
                prefix = f"{here}[{kind}]." if kind else f"{here}."
                chosen = not kind or not isinstance(value, Mapping) or value.get("kind", kind) == kind
                unless = here if path and type(None) in typing.get_args(field.annotation) else off
                yield from keys_of(inner, value if chosen else None, more, prefix, unless)
            continue
        required = field.is_required()
        default = None if required else field.get_default(call_default_factory=True)
        yield Key(
            here,
            type_of(field.annotation, field.metadata),
            None if required or default is PydanticUndefined else shown(default) + unless_off(off),
            shown(value) if name in values else None,
            # A section of a kind is documented by its class.
            meanings.get(name)
            or more.get(here)
            or (" ".join((section.__doc__ or "").split()) if name == "kind" else ""),
        )


def unless_off(section: str) -> str:
    """Behind a default of a section that is off as a rule."""
    return f"; {section} is off unless a key of it is given" if section else ""


def sections_in(annotation: Any) -> list[type[BaseModel]]:
    """The models of sections that an annotation names."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in typing.get_args(annotation) for found in sections_in(part)]


def kind_of(section: type[BaseModel]) -> str | None:
    """What ``kind`` is in a section of a kind."""
    field = section.model_fields.get("kind")
    values = typing.get_args(field.annotation) if field else ()
    return values[0] if len(values) == 1 else None


def type_of(annotation: Any, metadata: typing.Iterable[Any] = ()) -> str:
    """A type and its bounds in words."""
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return type_of(parts[0], parts[1:])
    if origin is Literal:
        return " | ".join(map(str, parts))
    if origin in (typing.Union, types.UnionType):
        inner = " | ".join(type_of(part, metadata) for part in parts if part is not type(None))
        return f"{inner} | null" if type(None) in parts else inner
    if origin in (list, tuple):
        return f"list of {type_of(parts[0])}"
    if origin is dict:
        return "keys with values"
    bounds = [
        f"{words} {bound:g}"
        for outer in metadata
        for one in getattr(outer, "metadata", None) or [outer]  # a ``Field`` within an annotation holds its own
        for name, words in BOUNDS.items()
        if (bound := getattr(one, name, None)) is not None
    ]
    return ", ".join([TYPES.get(annotation, getattr(annotation, "__name__", str(annotation))), *bounds])


def shown(value: Any) -> str:
    """A value as a recipe has it."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    if isinstance(value, tuple):
        value = list(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return dump_flow(value) if isinstance(value, list | dict) else str(value)


@cache
def meanings_of(section: type[BaseModel]) -> dict[str, str]:
    """What stands below each field in the source of a model and of those that it inherits from."""
    found: dict[str, str] = {}
    for owner in reversed(section.__mro__):
        if not owner.__module__.startswith("pipelines.") or not issubclass(owner, BaseModel):
            continue
        try:
            body = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0].body  # type: ignore[attr-defined]
        except (OSError, TypeError, SyntaxError):  # made while the program runs, so it has no source
            continue
        for field, text in pairwise(body):
            is_text = isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and is_text:
                found[field.target.id] = " ".join(str(text.value.value).split())
    return found


def meanings_of_system(system: str) -> dict[str, str]:
    """What the documentation of a system's Config and of the search says of their fields, by the paths of a recipe."""
    meanings = {f"search.{name}": text for name, text in attributes_in(SearchOptions.__doc__).items()}
    try:
        config = systems.find(system).Config
    except (ValueError, TypeError, ImportError):
        return meanings
    for owner in reversed(config.__mro__):
        meanings |= {f"model.{name}": text for name, text in attributes_in(owner.__doc__).items()}
    return meanings


def attributes_in(text: str | None) -> dict[str, str]:
    """The entries below ``Attributes:`` of a docstring; an entry may be of several names."""
    _, heading, entries = inspect.cleandoc(text or "").partition("Attributes:\n")
    found: dict[str, str] = {}
    for entry in re.split(r"\n(?=    \S)", "\n" + entries.partition("\n\n")[0]) if heading else ():
        names, colon, meaning = entry.strip().partition(": ")
        if colon:
            found |= dict.fromkeys(names.split(", "), " ".join(meaning.split()))
    return found
