"""Entries of a file that others wrote, parsed one by one: one message names all that are wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from pipelines.errors import UserError
from pipelines.files.jsonl import refuse_halves, shown

Entry = TypeVar("Entry")
Parsed = TypeVar("Parsed")

SHOWN = 5
"""Problems, or ids, that a message names before it only counts."""
KINDS = {str: "a string", list: "a list", int | str: "a whole number or a string"}


def numbered_lines(text: str) -> list[tuple[str, str]]:
    """The lines that are not blank, each after its location: ``line 3``. Nothing but a line feed ends a line."""
    return [(f"line {number}", line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]


def parse_each(
    path: str, entries: Iterable[tuple[str, Entry]], parse: Callable[[Entry], Parsed], expected: str
) -> list[Parsed]:
    """``parse`` of every entry of the file ``path``; entries come after their location.

    Raises:
        UserError: ``parse`` raised ValueError or KeyError; the message has the first few of these, and ``expected``.
    """
    parsed: list[Parsed] = []
    problems: list[str] = []
    for location, entry in entries:
        try:
            parsed.append(parse(entry))
        except KeyError as error:
            problems.append(f"{location}: {error.args[0]!r} is missing")
        except ValueError as error:
            problems.append(f"{location}: {error}")
    if problems:
        total = len(parsed) + len(problems)
        raise UserError(f"{path}: {len(problems):,} of {total:,} entries are wrong:{first_of(problems)}\n{expected}")
    return parsed


def first_of(problems: list[str]) -> str:
    """The first few, a line each, and how many more there are."""
    more = f"\n  and {len(problems) - SHOWN:,} more" if len(problems) > SHOWN else ""
    return "".join(f"\n  {problem}" for problem in problems[:SHOWN]) + more


def value_of(entry: Any, key: str, kind: Any) -> Any:
    """What a JSON object has under ``key``; a whole number also where it is written as 5.0, as pandas does.

    Raises:
        ValueError: it is no object, or what it has is not of the ``kind``, or has half of a character.
        KeyError: it does not have the key.
    """
    if not isinstance(entry, dict):
        raise ValueError(f"found {shown(entry)}, expected a JSON object")
    value = entry[key]
    if kind == int | str and isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{key!r} is {shown(value)}, expected {KINDS[kind]}")
    if isinstance(value, str):
        refuse_halves([value])
    return value


def naming(names: list[str], unit: str = "") -> str:
    """``3 images (a, b, c)``, with the first few named."""
    shown = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
    plural = f" {unit}{'s' if len(names) > 1 else ''}" if unit else ""
    return f"{len(names):,}{plural} ({shown})"
