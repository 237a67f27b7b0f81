"""What a user wrote, read by the type of its key: text as it stands, numbers and truth values by YAML 1.2."""

from __future__ import annotations

import types
import typing
from typing import Any

from pipelines.config.yaml_core import NULLS, Written, scalar, structure


def read_as(value: Any, hint: Any) -> Any:
    """``value`` with everything ``Written`` in it as a key with the annotation ``hint`` takes it.

    What does not fit is left for pydantic to refuse. The sections within are left to themselves.

    Args:
        hint: text keeps any text, but one that may be null takes null, ~ and nothing at all for null; a number, a truth
            value or a union of both is a scalar of YAML 1.2; a list or a mapping is YAML; Any is
            ``untyped``.
    """
    options = list(members(hint))
    if isinstance(value, Written):
        if all(option in (str, type(None)) for option in options):
            return None if type(None) in options and value in NULLS else str(value)
        if any(option is Any for option in options):
            return untyped(value)
        inner = structure(value)
        return scalar(inner) if isinstance(inner, Written) else read_as(inner, hint)
    if isinstance(value, list):
        hints = next((typing.get_args(option) for option in options if typing.get_origin(option) in (list, tuple)), ())
        # A list has one type for all of its items, a tuple one for each; what a tuple has too many of is refused later.
        return [read_as(item, hints[min(place, len(hints) - 1)] if hints else Any) for place, item in enumerate(value)]
    if isinstance(value, dict):
        if any(hasattr(option, "model_fields") for option in options):
            return value  # a section, which reads its own values
        inside = next((typing.get_args(option)[1] for option in options if typing.get_origin(option) is dict), Any)
        return {key: read_as(inner, inside) for key, inner in value.items()}
    return value


def members(hint: Any) -> typing.Iterator[Any]:
    """The types that a value of this annotation may have; those of a Literal's values."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        for part in typing.get_args(hint):
            yield from members(part)
    elif origin is typing.Annotated:
        yield from members(typing.get_args(hint)[0])
    elif origin is typing.Literal:
        yield from {type(value) for value in typing.get_args(hint)}
    else:
        yield hint


def untyped(text: Written) -> Any:
    """What a stage's argument is: a list or mapping in brackets, null, true, false, or else text as it stands."""
    if text in NULLS or text[:1] in ("[", "{"):
        inner = structure(text)
        return truth(inner) if isinstance(inner, Written) else read_as(inner, Any)
    return truth(text)


def truth(text: Written) -> bool | Written:
    return {"true": True, "false": False}.get(text, text)


def spelled(value: Any) -> str:
    """A scalar as a word of a command line."""
    return str(value).lower() if isinstance(value, bool) else str(value)
