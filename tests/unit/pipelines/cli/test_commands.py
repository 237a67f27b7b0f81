"""Verbs, their parsed commands, and the options that all have."""

from __future__ import annotations

import pytest
import typer

from pipelines.cli.commands import Common, app_of, call, parser_of, take_common, values_of, with_home
from pipelines.errors import UserError


def test_common_options_stand_anywhere_before_two_dashes():
    assert take_common(["--json", "a", "--log-level", "info", "--b"]) == (Common(True, "info"), ["a", "--b"])
    assert take_common(["a", "--log-level=debug", "--", "--json"]) == (Common(False, "debug"), ["a", "--", "--json"])
    assert take_common([]) == (Common(), [])


@pytest.mark.parametrize("words", [["--log-level"], ["--log-level", "loud"], ["--log-level=", "a"]])
def test_a_log_level_that_there_is_not(words):
    with pytest.raises(UserError, match="--log-level: expected one of debug, info, warning, error"):
        take_common(words)


def test_the_command_that_a_line_begins_with():
    assert parser_of(["store", "info", "s"])[0].name == "info"
    assert parser_of(["report", "r", "--count", "3"])[1] == ["r", "--count", "3"]
    with pytest.raises(UserError, match=r"no verb 'reprot'.*'report'"):
        parser_of(["reprot"])


def test_values_are_those_of_the_command_line():
    _, values = values_of(["report", "r", "--json", "--count", "3"])
    assert (values["out"], values["count"], values["to"]) == ("r", 3, None)
    with pytest.raises(UserError, match="report r --count many"):
        values_of(["report", "r", "--count", "many"])


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("~/a", "/home/me/a"),
        ("--out=~/a b", "/home/me/a b"),
        ("data.store=~/a=b", "/home/me/a=b"),
        ("tracking.uri=~", None),
        ("s3://bucket/~/a", None),
        ("a~/b", None),
        ("--out=a/~/b", None),
        ("~nobody-of-this-name/a", None),
        ("-", None),
    ],
)
def test_paths_in_the_home_folder(word, expected, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    name, equals, _ = word.partition("=") if word.startswith(("--", "data")) else ("", "", "")
    assert with_home([word]) == [name + equals + expected if expected else word]


def test_options_arguments_and_overrides_take_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    _, values = values_of(["train", "show_tell.small", "data.store=~/s", "--out=~/r"])
    assert (values["out"], values["overrides"]) == ("/home/me/r", ["data.store=/home/me/s"])
    _, values = values_of(["store", "verify", "~/s"])
    assert [value for value in values.values() if value == "/home/me/s"]


REPEATED = [
    ("caption", "p --model a --out x --model=b", "--model: expected one value, found 2: a, b"),
    ("translate", "t --model m --out x --beam 5 --beam 3", "--beam: expected one value, found 2: 5, 3"),
    ("store verify", "s --set=a --set=b", "--set: expected one value, found 2: a, b"),
]


@pytest.mark.parametrize(("verb", "words", "message"), REPEATED)
def test_an_option_of_one_value_is_given_once(verb, words, message):
    first, *rest = verb.split()
    parser, _ = parser_of([first, *rest])
    with pytest.raises(UserError, match=message):
        call(parser, first, words.split())
    with pytest.raises(UserError, match=message):
        values_of([*verb.split(), *words.split()])


def test_an_option_of_many_values_may_be_repeated():
    _, given = values_of(["caption", "p", "--model", "m", "--out", "x", "--ensemble", "a", "--ensemble", "b"])
    assert given["ensemble"] == ["a", "b"]


def test_a_group_looks_at_the_options_of_its_command():
    parser = typer.main.get_command(app_of("store"))
    with pytest.raises(UserError, match="--set: expected one value"):
        call(parser, "store", ["verify", "s", "--set=a", "--set", "b"])
