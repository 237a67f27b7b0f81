"""JSON lines: what others wrote, and what was cut short."""

import pytest

from pipelines.files.jsonl import append, from_json, json_object, read_lines, refuse_halves, shown


def test_lines_come_back_without_one_that_was_cut_short(tmp_path):
    """Nothing but a line feed ends a line; what a kill left of one is written over."""
    path = tmp_path / "x.jsonl"
    assert read_lines(path) == []
    lines = [{"a": f"{end}\u00e9"} for end in "\u2028\u2029\x85\x0b\r\n"]
    append(path, lines)
    with open(path, "ab") as file:
        file.write(b'{"c": ')
    assert read_lines(path) == lines
    append(path, [{"d": 2}])
    assert read_lines(path) == [*lines, {"d": 2}]
    assert path.read_bytes().count(b"\n") == len(lines) + 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[1]", "not a mapping"),
        ('{"a": ', "Expecting value"),
        ("[" * 100_000, "nested too deeply"),
        ("9" * 5000, "a number has thousands of digits"),
    ],
    ids=["list", "cut", "deep", "digits"],
)
def test_what_is_no_object_is_a_value_error_that_says_so(line, message):
    with pytest.raises(ValueError, match=message):
        json_object(line)


def test_json_is_read():
    assert from_json('{"a": [1, null]}') == {"a": [1, None]}
    assert json_object('{"a": 1}') == {"a": 1}


def test_half_of_a_character_is_refused():
    refuse_halves(["é", None, "\U0001f600"])
    with pytest.raises(ValueError, match=r"half of a character .*\\ud83d"):
        refuse_halves(["x", "a \ud83d b"])


def test_a_value_is_shown_short_and_in_text_that_can_be_printed():
    assert shown({"a": "é"}) == '{"a": "é"}'
    assert len(shown("x" * 1000)) == 60
    shown("\ud83d").encode()
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    assert shown(deep) == "something nested too deeply"
