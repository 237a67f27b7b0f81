"""What a pipeline's file and command line say, and the words that its verbs are given."""

from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from pipelines.cli.commands import stage_command
from pipelines.errors import UserError
from pipelines.workflow.pipeline_file import read_pipeline

SCORE = """
variables: {day: 0010, cased: no}
stages:
  score: {verb: evaluate, args: {hypotheses: "h/${day}.txt", references: "${day}", out: "o${day}",
          tokenizer: "${word}"}}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def read(text: str, *overrides: str, out: str | None = None):
    Path("p.yaml").write_text(text, encoding="utf-8")
    return read_pipeline("p.yaml", stage_command, overrides, out)


def refusal(text: str, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        read(text, *overrides)
    return str(caught.value)


def params_of(text: str, *overrides: str) -> dict:
    """What the verb of the first stage is called with, its words parsed as those of a command line."""
    stage = read(text, *overrides).stages[0]
    return stage_command(stage.verb).parser.make_context(stage.verb, list(stage.words)).params


def test_a_variable_in_the_file_is_the_text_that_stands_there():
    params = params_of(SCORE, "word=simple")
    assert (params["out"], params["hypotheses"]) == ("o0010", "h/0010.txt")
    for text in ("1.10", "12:30", "no", "2024-05-01", "1_000", "0x1F", "'~'", '"null"', "''", "1e5"):
        params = params_of(SCORE.replace("0010", text), "word=simple")
        expected = yaml.safe_load(text) if text[0] in "'\"" else text
        assert params["data"] == [expected]


@given(st.text().filter(lambda text: "://" not in text))  # evaluate writes to no bucket
@example("0010")
@example("true")
@example("null")
@example("${cased}")
@example("[a, b]")
@example("{a: b}")
def test_any_text_given_as_a_variable_reaches_the_verb(text):
    Path("p.yaml").write_text(SCORE, encoding="utf-8")
    stage = read_pipeline("p.yaml", stage_command, [f"day={text}", "word=simple"]).stages[0]
    params = stage_command("evaluate").parser.make_context("evaluate", list(stage.words)).params
    assert (params["out"], params["data"], params["hypotheses"]) == (f"o{text}", [text], f"h/{text}.txt")


def test_keys_that_there_are_not_hide_no_other_mistake():
    told = refusal("stages: {report: {need: [caption], args: {out: o, too: x}}, evaluat: {}}")
    assert "has 3 mistakes" in told
    for mistake in ("stages.report.need: no such key. Did you mean 'needs'?", "stages.report: args.too", "evaluat"):
        assert mistake in told


def test_a_misspelt_argument_hides_no_wrong_value_and_is_no_missing_one_besides():
    told = refusal("stages: {caption: {args: {images: p, modle: m, out: o, beam: 0, attention: maybe}}}")
    assert "has 3 mistakes" in told and "Missing" not in told
    for mistake in ("args.modle: caption has no such argument", "args.attention: found 'maybe'", "'--beam'"):
        assert mistake in told


TRAIN = """
stages:
  train:
    args: {recipe: show_tell.small, out: 0010, overrides: {data.store: 1e5, data.captions: no, training.epochs: 0x3,
           tracking.experiment: 2024-05-01, tracking.uri: ~, training.clip_norm: null, text.lowercase: false,
           tune.space.training.learning_rate: {log: [3e-4, 1e-2]}, tune.trials: 2,
           tune.space.model.dropout: ["0.1", 0.2]}}
"""


def test_overrides_of_a_stage_are_words_as_they_stand_in_the_file():
    params = params_of(TRAIN)
    assert params["out"] == "0010"
    assert params["overrides"] == [
        "data.store=1e5", "data.captions=no", "training.epochs=0x3", "tracking.experiment=2024-05-01",
        "tracking.uri=null", "training.clip_norm=null", "text.lowercase=false",
        "tune.space.training.learning_rate.log=[3e-4, 1e-2]", "tune.trials=2",
        "tune.space.model.dropout=['0.1', 0.2]",
    ]  # fmt: skip


def test_a_key_path_is_read_by_the_type_of_its_key():
    stage = read(
        TRAIN, "stages.train.args.out=1.10", "stages.train.args.restart=true", "stages.train.args.overrides.seed=0010",
        "stages.train.args.overrides.data.columns=[1, no]", "stages.train.inputs=[a, 0010]",
    ).stages[0]  # fmt: skip
    assert "--out=1.10" in stage.words and "--restart" in stage.words
    assert stage.words[-2:] == ["seed=0010", "data.columns=[1, 'no']"]
    assert stage.inputs == ["a", "0010"]


def test_an_unknown_variable_is_refused_with_the_nearest():
    text = "variables: {day: a}\nstages: {evaluate: {args: {out: '${day}${night}', references: r, hypotheses: h}}}"
    for override in ("dya=b", "variables.dya=b"):
        message = refusal(text, override)
        assert "the pipeline has no variable 'dya'. Did you mean 'day'? There are day, night." in message
    assert read(text, "night=b", "day=c").stages[0].args["out"] == "cb"
    assert "${night} is nothing" in refusal(text)
    assert "has no variable 'a.b'" in refusal(text, "a.b=c")
    assert "There are none." in refusal("stages: {s: {verb: train}}", "x=1")
    assert "expected variable=value or key.path=value" in refusal(text, "day")


def test_no_variable_changes_a_key_of_the_pipeline():
    text = "out: mine\nvariables: {out: n1}\nstages: {evaluate: {args: {out: '${out}', references: r, hypotheses: h}}}"
    message = refusal(text, "out=n2")
    assert "variables.out=n2 sets a variable of that name; --out n2 is the folder of pipeline.json" in message
    assert "one of the pipeline's own keys" in refusal(text.replace("out: n1", "day: n1"), "out=n2")
    assert "variables.stages={} sets a variable" in refusal(text, "stages={}")
    found = read(text, "variables.out=n2", out="yours")
    assert (found.out, found.stages[0].args["out"]) == ("yours", "n2")
    dotted = "variables: {stages.s.args.x: 1}\nstages: {s: {verb: train}}"
    assert "one of the pipeline's own keys" in refusal(dotted, "stages.s.args.x=2")


def test_a_variable_may_have_a_dot_and_be_a_flag():
    text = (
        "variables: {a.b: no, cased: false}\nstages: {evaluate: {args: {lowercase: '${cased}', out: '${a.b}', "
        "references: r, hypotheses: h}}}"
    )
    assert params_of(text, "a.b=0010")["out"] == "0010"
    assert "--cased" in read(text).stages[0].words
    assert "--lowercase" in read(text, "cased=true").stages[0].words
    assert "args.lowercase: found 'yes', expected true or false" in refusal(text, "cased=yes")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "stages: {a: {verbs: x}}\nouts: y",
            "outs: no such key. Did you mean 'out'? There are out, variables",
        ),
        ("stages: {a: {verbs: x}}", "stages.a.verbs: no such key. Did you mean 'verb'? There are verb, args"),
        ("stages: {}", "stages: found {}, expected"),
        ("stages: 3", "stages: found 3, expected a section"),
        ("out: [3]\nstages: {a: {}}", "out: found ['3'], expected text"),
        ("variables: {day: }\nstages: {a: {}}", "variables.day: found None, expected text"),
        ("variables: day\nstages: {a: {}}", "variables: found 'day', expected a section"),
        ("- a", "is no pipeline"),
        ("a: [", "is not YAML"),
        ("a: 1\na: 2", "stands twice"),
    ],
)
def test_a_file_that_is_no_pipeline(text, message):
    assert message in refusal(text)


def test_no_such_file():
    with pytest.raises(UserError, match="There is no pipeline nowhere"):
        read_pipeline("nowhere.yaml", stage_command)
