"""Nested mappings, and their keys as dotted paths: reading, overriding, flattening."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pipelines.config.yaml_core import Written, load_yaml, structure
from pipelines.errors import UserError


def read_yaml(path: str | Path) -> Any:
    """What the YAML file ``path`` holds; see ``load_yaml``.

    Raises:
        UserError: it cannot be read, or is not YAML.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}. Expected a YAML file in UTF-8.") from None
    return load_yaml(text, str(path))


def apply(values: dict[str, Any], override: str) -> str | None:
    """Set ``key.path=value`` in ``values``, as it was written; what is wrong with it, if anything is."""
    path, equals, text = override.partition("=")
    if not equals or not path.strip():
        return f"{override!r}: expected key.path=value"
    *sections, key = path.strip().split(".")
    for section in sections:
        inner = values.setdefault(section, {})
        if isinstance(inner, Written):  # a whole section that an earlier override gave
            inner = values[section] = structure(inner)
        if not isinstance(inner, dict):
            return f"{override!r}: {section} is a value, not a section"
        values = inner
    values[key] = Written(text)
    return None


def absolute(path: str) -> str:
    """A local path from the root, so that the saved recipe works from anywhere; a URI as it is."""
    return path if "://" in path else os.path.abspath(os.path.expanduser(path))


def from_here(path: str) -> str:
    """A local path in the current folder as it is seen from there, for messages; any other, and a URI, as it is."""
    here = f"{os.getcwd()}{os.sep}"
    return path.removeprefix(here) if path != here else path


def flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested sections as ``section.key``."""
    pairs = []
    for key, value in values.items():
        pairs += flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(prefix + key, value)]
    return pairs


def put(values: dict[str, Any], key: str, value: Any) -> None:
    """Set ``section.key``; what stands where a section should be is replaced, for the recipe's types to refuse."""
    *sections, last = key.split(".")
    for section in sections:
        if not isinstance(values.get(section), dict):
            values[section] = {}
        values = values[section]
    values[last] = value
