"""YAML 1.2 as the whole project reads and writes it: recipes, pipelines and the values on a command line.

PyYAML's own loader reads YAML 1.1, in which ``0010`` is eight, ``12:30`` is 750 and ``no`` is false; ruamel.yaml still
makes dates and takes ``1_000`` for a number. Here a plain scalar stays the text that its user wrote (``Written``), and
the type of its key decides what it is (``pipelines.config.by_type``): text as it stands, or what the core schema of
YAML 1.2.2 (section 10.3.2) says of it (``scalar``).
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from pipelines.errors import UserError

NULLS = ("", "~", "null", "Null", "NULL")
BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
NOT_FINITE = re.compile(r"([-+]?)(\.inf|\.Inf|\.INF)|\.nan|\.NaN|\.NAN")
YAML = "tag:yaml.org,2002:"
"""How YAML's own tags begin."""
WRITTEN = "!written"
"""The tag of a plain scalar whose type is not known yet."""
LONGEST_NUMBER = 4000
"""Digits; Python reads few more."""
DEEPEST = 200
"""Levels of lists and mappings in one another."""
MOST = 1_000_000
"""Values of one file, those that aliases repeat included."""


class Written(str):
    """What stands in a file without quotes, or behind the ``=`` of an override, before its key gives it a type."""

    __slots__ = ()


def scalar(text: str) -> bool | int | float | str | None:
    """What a plain scalar is by the core schema of YAML 1.2."""
    if text in NULLS:
        return None
    if text in BOOLEANS:
        return BOOLEANS[text]
    if INTEGER.fullmatch(text):
        if len(text) > LONGEST_NUMBER:
            return str(text)
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if FLOAT.fullmatch(text):
        return float(text)
    if NOT_FINITE.fullmatch(text):
        return float(text.replace(".", "", 1))
    return str(text)


def scalars(value: Any) -> Any:
    """``value`` with everything ``Written`` in it read by the core schema, for keys that have no type."""
    if isinstance(value, dict):
        return {key: scalars(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [scalars(inner) for inner in value]
    return scalar(value) if isinstance(value, Written) else value


def load_yaml(text: str, what: str) -> Any:
    """The YAML in ``text``: mappings with text as keys, lists, None, quoted text, and ``Written`` for the rest.

    Raises:
        UserError: it is not YAML, or a key stands twice; ``what`` names it in the message.
    """
    try:
        return parse(text)
    except yaml.YAMLError as error:
        raise UserError(f"{what} is not YAML: {error}") from None


def structure(text: Written) -> Any:
    """The list, mapping or null that the text of an override is; other text as it stands."""
    try:
        value = parse(text)
    except yaml.YAMLError:
        return text
    return value if isinstance(value, list | dict) or value is None else Written(text.strip())


def parse(text: str) -> Any:
    try:
        value = yaml.load(text, _Loader)
        _refuse_too_large(value)
    except RecursionError:
        raise yaml.YAMLError(f"lists and mappings stand in one another more than {DEEPEST} deep") from None
    return value


def _refuse_too_large(root: Any) -> None:
    """Raises YAMLError where aliases make a circle, or more than anybody wants."""
    left, count = [(root, 0)], 0
    while left:
        value, depth = left.pop()
        count += 1
        if depth > DEEPEST:
            raise yaml.YAMLError(f"lists and mappings stand in one another more than {DEEPEST} deep")
        if count > MOST:
            raise yaml.YAMLError(f"its aliases (*name) stand for more than {MOST:,} values")
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        left += [(child, depth + 1) for child in inner]


class _Loader(yaml.SafeLoader):
    """Plain scalars as text, keys as text, each key once; no type but those of JSON."""

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> Any:
        if kind is not yaml.ScalarNode or not implicit[0]:
            return super().resolve(kind, value, implicit)
        if value == "<<":  # not of YAML 1.2, but what people who share parts of a file write
            return f"{YAML}merge"
        return f"{YAML}null" if value in NULLS else WRITTEN

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(None, None, "a key is a list or a mapping, expected text", key.start_mark)
            if key.value in seen:
                raise yaml.MarkedYAMLError(None, None, f"the key {key.value!r} stands twice", key.start_mark)
            seen.add(key.value)
        self.flatten_mapping(node)
        return {key.value: self.construct_object(value, deep=deep) for key, value in node.value}

    def construct_written(self, node: yaml.Node) -> Written:
        return Written(self.construct_scalar(node))  # type: ignore[arg-type]


_Loader.yaml_constructors = {
    None: yaml.SafeLoader.construct_undefined,
    WRITTEN: _Loader.construct_written,
    **{f"{YAML}{kind}": _Loader.construct_written for kind in ("bool", "int", "float")},
    **{f"{YAML}{kind}": yaml.SafeLoader.yaml_constructors[f"{YAML}{kind}"] for kind in ("null", "str", "seq", "map")},
}


def dump_yaml(values: Any) -> str:
    """``values`` as a YAML file that versions 1.1 and 1.2 read alike."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def dump_flow(value: Any) -> str:
    """A list or mapping in one line, as an override has it."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, default_flow_style=True, width=float("inf")).strip("\n")


class _Dumper(yaml.SafeDumper):
    """Quotes text that either version of YAML would take for something else."""

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> Any:
        tag = super().resolve(kind, value, implicit)
        plain = kind is yaml.ScalarNode and implicit[0] and tag == f"{YAML}str"
        return _tag_of(value) if plain else tag

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_text(self, text: str) -> yaml.Node:
        # In other styles these would come back as a line feed or a blank.
        return self.represent_scalar(f"{YAML}str", text, '"' if re.search("[\r\x85\u2028\u2029]", text) else None)

    def represent_written(self, text: Written) -> yaml.Node:
        return (
            self.represent_text(str(text)) if scalar(text) is None else self.represent_scalar(_tag_of(text), str(text))
        )


_Dumper.add_representer(str, _Dumper.represent_text)
_Dumper.add_representer(Written, _Dumper.represent_written)


def _tag_of(text: str) -> str:
    names = {"NoneType": "null"}
    name = type(scalar(text)).__name__
    return YAML + names.get(name, name)
