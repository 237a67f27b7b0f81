"""YAML as nested mappings, and its keys as dotted paths: reading, overriding, flattening."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from pipelines.errors import UserError


def read_text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The recipe {path} cannot be read: {error}") from None


class UniqueKeys(yaml.SafeLoader):
    """YAML in which a key may stand once; plain YAML silently takes the last."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):  # refused below
                continue
            if key.value in seen:
                raise yaml.MarkedYAMLError(None, None, f"the key {key.value!r} stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def apply(values: dict, override: str) -> str | None:
    """Set ``key.path=value`` in ``values``; what is wrong with it, if anything is."""
    path, equals, text = override.partition("=")
    if not equals or not path:
        return f"{override!r}: expected key.path=value"
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = text
    *sections, key = path.strip().split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            return f"{override!r}: {section} is a value, not a section"
    values[key] = value
    return None


def absolute(path: str) -> str:
    """A local path from the root, so that the saved recipe works from anywhere; a URI as it is."""
    return path if "://" in path else os.path.abspath(os.path.expanduser(path))


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
