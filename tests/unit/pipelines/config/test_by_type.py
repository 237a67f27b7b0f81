from typing import Annotated, Any, Literal

import pytest

from pipelines.config.by_type import read_as, spelled, untyped
from pipelines.config.yaml_core import Written

ODD = (
    "0010",
    "1e5",
    "1.10",
    "12:30",
    "no",
    "2024-05-01",
    "1_000",
    "a=b",
    "a: b",
    "#c",
    "'q'",
    '"',
    "[x]",
    "{y",
    " z ",
    "true",
)


@pytest.mark.parametrize("hint", [str, str | None, Annotated[str, "checked"], Literal["a", "b"], Literal["a"] | None])
def test_a_text_key_takes_any_text_as_it_stands(hint):
    for text in ODD:
        found = read_as(Written(text), hint)
        assert (found, type(found)) == (text, str)


def test_null_is_text_where_a_key_cannot_be_null():
    for text in ("", "~", "null"):
        assert read_as(Written(text), str) == text
        assert read_as(Written(text), str | None) is None
    assert read_as("null", str | None) == "null"  # in quotes


@pytest.mark.parametrize(
    ("text", "hint", "value"),
    [
        ("3e-4", float, 0.0003),
        ("0010", int, 10),
        ("null", int | None, None),
        ("false", bool, False),
        ("no", bool, "no"),
        ("1e-3", bool | int | float | str | None, 0.001),
        ("[0010, no]", list[str], ["0010", "no"]),
        ("[0010, x]", tuple[int, str], [10, "x"]),
        ("[1, 2, 3]", tuple[int, str], [1, "2", "3"]),
        ("{a: 1e2, b: ~}", dict[str, float | None], {"a": 100.0, "b": None}),
        ("a", list[str], "a"),
        ("[", list[str], "["),
    ],
)
def test_other_keys_read_yaml(text, hint, value):
    found = read_as(Written(text), hint)
    assert found == value and type(found) is type(value)


def test_a_stages_argument_is_a_word_unless_it_is_a_structure():
    for text in set(ODD) - {"[x]", "true"}:
        assert untyped(Written(text)) == text
    assert untyped(Written("true")) is True
    assert untyped(Written("null")) is None
    assert untyped(Written("[a, 0010, {b: no}]")) == ["a", "0010", {"b": "no"}]
    assert read_as({"a": [Written("7"), Written("false")]}, Any) == {"a": ["7", False]}
    assert [spelled(value) for value in (True, 7, 0.5, "0010")] == ["true", "7", "0.5", "0010"]
