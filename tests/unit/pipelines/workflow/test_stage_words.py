"""Arguments of a stage as words of a command line."""

import pytest

from pipelines.cli.commands import stage_command
from pipelines.config.yaml_core import Written
from pipelines.workflow.stage_words import check_words, command_words, override_text, stage_outputs


def words(verb: str, args: dict) -> list[str]:
    found = command_words(verb, args, stage_command(verb).parser, wrong := [])
    assert not wrong
    return found


def test_arguments_become_the_words_of_a_command_line():
    overrides = {"data": {"store": "s"}, "training.epochs": 3, "seed": Written("2")}
    assert words("train", {"recipe": "show_tell.small", "overrides": overrides, "out": "-run"}) == [
        "--out=-run", "--", "show_tell.small", "data.store=s", "training.epochs=3", "seed=2"
    ]  # fmt: skip
    translate = {"text": "t.en", "model": "m", "out": "o", "lines": "t.de", "ensemble": ["a", "b"]}
    assert words("translate", translate) == [
        "--model=m", "--out=o", "--text=t.de", "--ensemble=a", "--ensemble=b", "--", "t.en"
    ]  # fmt: skip
    assert words("features", {"images": "p", "store": "s", "outputs": ["pooled", "grid"], "retry_failed": True}) == [
        "--store=s", "--outputs=pooled,grid", "--retry-failed", "--", "p"
    ]  # fmt: skip
    assert words("evaluate", {"lowercase": False, "references": "r", "split": None}) == ["--cased", "--data=r", "--"]
    assert words("store compact", {"directory": "s"}) == words("store compact", {"dir": "s"}) == ["--", "s"]


def test_what_a_verb_writes_is_known_from_its_options():
    wrong: list[str] = []
    command = stage_command("train")
    assert stage_outputs({"recipe": "x", "out": "run"}, command, wrong) == ["run"] and wrong == []
    assert stage_outputs({"recipe": "x", "out": "s3://b/run"}, command, wrong) == ["s3://b/run"] and wrong == []
    stage_outputs({"out": "s3://b/run"}, stage_command("evaluate"), wrong)
    assert len(wrong) == 1 and wrong[0].startswith("args.out: found s3://b/run, expected a local folder")


def test_all_words_that_the_command_line_would_refuse_are_named():
    parser = stage_command("caption").parser
    wrong = check_words("caption", ["--beam=many", "--nbest=0", "--limit=two", "--", "photos"], parser)
    assert [next(word for word in ("--model", "--beam", "--nbest", "--limit") if word in line) for line in wrong] == [
        "--model", "--beam", "--nbest", "--limit",
    ]  # fmt: skip
    assert all(line.startswith("args: ") for line in wrong)
    assert len(check_words("caption", ["--beam=many", "--", "photos"], parser, may_miss=True)) == 1
    assert check_words("caption", ["--model=m", "--out=o", "--", "photos"], parser) == []
    assert check_words("caption", ["--model=m", "--", "photos", "more"], parser) == [
        "args: more than caption takes: more"
    ]


@pytest.mark.parametrize(("value", "text"), [([1, "no"], "[1, 'no']"), (None, "null"), (True, "true"), (0.5, "0.5")])
def test_a_value_behind_an_equals_sign(value, text):
    assert override_text(value) == text
