"""YAML 1.2: expected values are those of the specification's section 10.3.2 and of Python's JSON."""

import json
import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipelines.config.yaml_core import Written, dump_flow, dump_yaml, load_yaml, scalar, scalars, structure
from pipelines.errors import UserError

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        # Example 10.3 and the table before it.
        ("", None), ("~", None), ("null", None), ("NULL", None), ("true", True), ("True", True), ("FALSE", False),
        ("0", 0), ("0o7", 7), ("0x3A", 58), ("-19", -19), ("0.", 0.0), ("-0.0", 0.0), (".5", 0.5), ("+12e03", 12000.0),
        ("-2E+05", -200000.0), (".inf", math.inf), ("-.Inf", -math.inf), ("+.INF", math.inf), ("3e-4", 0.0003),
        ("0010", 10), ("1.10", 1.1),
        # What YAML 1.1 takes for something else.
        ("12:30", "12:30"), ("1:2.5", "1:2.5"), ("no", "no"), ("Yes", "Yes"), ("on", "on"), ("off", "off"), ("y", "y"),
        ("1_000", "1_000"), ("0b11", "0b11"), ("2024-05-01", "2024-05-01"),
        ("=", "="), ("nULL", "nULL"), ("tRUE", "tRUE"), ("inf", "inf"), ("nan", "nan"), ("1e", "1e"), (".", "."),
        ("0o8", "0o8"), ("0xg", "0xg"), ("1 000", "1 000"), ("\u0661", "\u0661"), ("1\n", "1\n"),
    ],
)  # fmt: skip
def test_scalars_of_the_core_schema(text, value):
    found = scalar(text)
    assert (found, type(found)) == (value, type(value))
    if text and text.strip() == text:
        assert scalars(load_yaml(f"key: {text}", "it")) == {"key": value}
    assert math.isnan(scalar(".nan"))


@given(st.integers() | st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_of_json_are_numbers(number):
    assert scalar(json.dumps(number)) == number


def test_more_digits_than_python_reads_are_text():
    assert scalar("1" * 5000) == "1" * 5000


def test_plain_scalars_stay_as_written_and_quoted_ones_are_text():
    found = load_yaml("a: 0010\nb: '0010'\nc: [12:30, ~, {d: no}]\ne:\n2: x", "it")
    assert found == {"a": "0010", "b": "0010", "c": ["12:30", None, {"d": "no"}], "e": None, "2": "x"}
    assert (type(found["a"]), type(found["b"]), type(found["c"][0])) == (Written, str, Written)


@given(VALUES)
def test_what_is_dumped_comes_back(values):
    assert scalars(load_yaml(dump_yaml({"key": values}), "it")) == {"key": values}
    assert scalars(load_yaml(dump_flow([values]), "it")) == [values]


@given(st.text())
def test_readers_of_yaml_1_1_read_the_same_text(text):
    assert yaml.safe_load(dump_yaml({"key": text})) == {"key": text}


@given(
    st.sampled_from(["0010", "1e5", "3e-4", "0o17", "0x1F", "12:30", "no", "null", "~", "x y", "a: b", "[", "#x", ""])
)
def test_what_was_written_comes_back_as_it_was(text):
    assert load_yaml(dump_flow([Written(text)]), "it") == [text]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "the key 'a' stands twice(.|\n)*line 3"),
        ("? [1, 2]\n: 3", "a key is a list or a mapping, expected text"),
        ("a: [", "it is not YAML"),
        ("when: !!timestamp 2024-05-01", "could not determine a constructor"),
        ("a: !!python/object:os.system x", "could not determine a constructor"),
        ("a: \x07", "special characters are not allowed"),
        ("&a [*a]", "more than 200 deep"),
        ("[" * 5000, "more than 200 deep"),
        (
            "\n".join(["a0: &a0 [x]", *(f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 10)}]" for i in range(9))]),
            "aliases",
        ),
    ],
)
def test_what_is_refused(text, message):
    with pytest.raises(UserError, match=message):
        load_yaml(text, "it")


def test_parts_of_a_file_are_shared_by_aliases_and_merges():
    found = load_yaml("base: &b {x: 1, y: 2}\nmore: {<<: *b, y: 3}\nsame: *b", "it")
    assert found["more"] == {"x": "1", "y": "3"}
    assert found["same"] == found["base"]


def test_the_structure_of_an_overrides_text():
    assert structure(Written("{a: [1, no]}")) == {"a": ["1", "no"]}
    assert structure(Written("null")) is None
    for text in ("[", "0010", "a: b: c", "!!timestamp x", "*a"):
        assert structure(Written(text)) == text
