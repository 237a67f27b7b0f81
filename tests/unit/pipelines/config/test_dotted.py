from pathlib import Path

import pytest

from pipelines.config.dotted import absolute, apply, flat, from_here, put, read_yaml
from pipelines.errors import UserError


def test_overrides_are_set_as_they_were_written():
    values = {"a": {"b": 1}}
    for override in ("a.b=0010", "a.c.d= x=y", "e={f: 1}", "e.g=2"):
        assert apply(values, override) is None
    assert values == {"a": {"b": "0010", "c": {"d": " x=y"}}, "e": {"f": "1", "g": "2"}}


@pytest.mark.parametrize(
    ("override", "problem"), [("a", "expected key.path=value"), ("=1", "expected key.path"), ("a.b=1", "a is a value")]
)
def test_what_is_no_override(override, problem):
    assert problem in apply({"a": 1}, override)


def test_sections_become_dotted_keys_and_back():
    values = {"a": {"b": 1, "c": {"d": None}}, "e": [1]}
    assert flat(values) == [("a.b", 1), ("a.c.d", None), ("e", [1])]
    again: dict = {"a": 3}
    for key, value in flat(values):
        put(again, key, value)
    assert again == values


def test_local_paths_begin_at_the_root_and_uris_stay(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    assert absolute("x/../y") == str(tmp_path / "y")
    assert absolute("~/x") == "/home/me/x"
    assert absolute("s3://b/~/x") == "s3://b/~/x"


def test_a_file_that_cannot_be_read_is_told(tmp_path):
    Path(tmp_path, "latin.yaml").write_bytes(b"a: \xe9")
    for name in ("latin.yaml", "nowhere.yaml", ""):
        with pytest.raises(UserError, match="cannot be read"):
            read_yaml(tmp_path / name)


def test_a_path_is_shown_as_it_is_seen_from_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert from_here(str(tmp_path / "a" / "b.de")) == "a/b.de" and from_here("a/b.de") == "a/b.de"
    assert from_here(f"{tmp_path}2/b.de") == f"{tmp_path}2/b.de" and from_here("s3://bucket/b.de") == "s3://bucket/b.de"
