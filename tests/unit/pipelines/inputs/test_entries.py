"""Entries that others wrote: values of their kinds, and all that are wrong in one message."""

import pytest

from pipelines.errors import UserError
from pipelines.inputs.entries import naming, numbered_lines, parse_each, value_of


def test_a_whole_number_is_one_however_it_is_written():
    assert [value_of({"id": number}, "id", int | str) for number in (5, 5.0, "5")] == [5, 5, "5"]
    for wrong in (5.5, True, None, [5], float("nan")):
        with pytest.raises(ValueError, match=r"'id' is .*, expected a whole number or a string"):
            value_of({"id": wrong}, "id", int | str)
    with pytest.raises(KeyError):
        value_of({}, "id", str)
    with pytest.raises(ValueError, match="found 3, expected a JSON object"):
        value_of(3, "id", str)


def test_lines_are_numbered_as_they_are_in_the_file():
    assert numbered_lines("a\n \nb\u2028c\n") == [("line 1", "a"), ("line 3", "b\u2028c")]


def test_wrong_entries_are_counted_and_the_first_named():
    assert parse_each("f", [("line 1", "3")], int, "Expected: numbers.") == [3]
    with pytest.raises(UserError) as error:
        parse_each("f", [(f"line {n}", "x" if n else "3") for n in range(8)], int, "Expected: numbers.")
    assert "f: 7 of 8 entries are wrong:\n  line 1: invalid literal" in str(error.value)
    assert str(error.value).endswith("and 2 more\nExpected: numbers.")


def test_names_are_counted_and_the_first_few_shown():
    assert naming(["a"], "image") == "1 image (a)"
    assert naming(list("abcdef"), "image") == "6 images (a, b, c, d, e, ...)"
