"""Pipelines: what is done, what is left as it is, and what a wrong file is told."""

from __future__ import annotations

import html
import json
import os
import types
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated

import pytest
import typer
import yaml

from feature_store import Store
from pipelines.cli import commands
from pipelines.cli.commands import stage_command
from pipelines.console import Outcome
from pipelines.errors import Fault, OtherRun, UserError
from pipelines.features import backbones
from pipelines.tracking.client import client_at
from pipelines.tracking.registry import MODEL_ID
from pipelines.training.run.info import read_run
from pipelines.verbs import run
from pipelines.workflow import state
from pipelines.workflow.commands import Output
from pipelines.workflow.fingerprints import fingerprint_of
from pipelines.workflow.pipeline_file import read_pipeline
from pipelines.workflow.state import locked
from rnncond.checkpoint import load
from tests.worlds.captioner import model_reading
from tests.worlds.command import rnncond
from tests.worlds.training import TINY, make_world
from tests.worlds.translator import make_translator

DONE: list[str] = []
run_pipeline = partial(run.run, stage_command)


def begin_run(out: str, text: str) -> None:
    Path(out).mkdir(exist_ok=True)
    Path(out, "run.json").write_text(json.dumps({"of": text}))


def shout_app() -> typer.Typer:
    """A verb that writes a file in capitals; of `fail` it says that it cannot, and an input that is `odd` fails. With
    --out it also begins a run there."""
    app = typer.Typer()

    @app.command()
    def main(
        file: str, to: Annotated[str, typer.Option(), Output()], times: Annotated[int, typer.Option(min=1)] = 1,
        lower: Annotated[bool, typer.Option("--lower/--upper")] = False, address: str | None = None,
        restart: Annotated[bool, typer.Option("--restart")] = False, out: str | None = None,
    ) -> Outcome:  # fmt: skip
        text = Path(file).read_text()
        if "defect" in text:
            raise RuntimeError("a defect")
        if "fault" in text:
            raise Fault("the server has gone away")
        if "fail" in text:
            raise UserError("the text cannot be shouted")
        if out:
            if read_run(out).get("of", text) != text and not restart:
                raise OtherRun(f"{out} holds a run of another text. Choose another.")
            begin_run(out, text)
        if Path(to).exists() and "OTHER" in Path(to).read_text() and not restart:
            raise OtherRun(f"{to} holds a run of another recipe. Choose another.")
        DONE.append(to)
        Path(to).write_text(text.lower() if lower else text.upper() * times)
        odd = text.count("odd")
        return Outcome({"to": to}, odd, ["odd: it is odd"] * odd)

    return app


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(commands.VERBS, "shout", "")
    monkeypatch.setattr(run, "connect", lambda address: nullcontext())  # which shouting could do without
    monkeypatch.setitem(__import__("sys").modules, "pipelines.cli.shout", types.SimpleNamespace(app=shout_app()))
    DONE.clear()


CHAIN = {
    "out": "done",
    "variables": {"text": "text.txt"},
    "stages": {
        "first": {"verb": "shout", "args": {"file": "${text}", "to": "first.txt"}},
        "second": {"verb": "shout", "args": {"file": "${first.to}", "to": "second.txt", "lower": True}},
        "third": {"verb": "shout", "args": {"file": "other.txt", "to": "third.txt"}, "needs": ["second"]},
    },
}


def write(text: str = "a", pipeline: dict = CHAIN) -> str:
    Path("text.txt").write_text(text)
    Path("other.txt").write_text("b")
    Path("pipeline.yaml").write_text(yaml.safe_dump(pipeline, sort_keys=False))
    return "pipeline.yaml"


def done() -> list[str]:
    found = [name.removesuffix(".txt") for name in DONE]
    DONE.clear()
    return found


def test_what_is_up_to_date_is_not_done_again():
    pipeline = write()
    first = run_pipeline(pipeline)
    assert done() == ["first", "second", "third"]
    assert (Path("second.txt").read_text(), list(first.summary)) == ("a", ["first", "second", "third"])
    assert run_pipeline(pipeline).summary == dict.fromkeys(("first", "second", "third"), "up to date")
    assert done() == []
    os.utime("text.txt")  # the same content at another time
    run_pipeline(pipeline)
    assert done() == []


def test_a_dry_run_says_what_would_be_done_and_does_nothing():
    pipeline = write()
    assert run_pipeline(pipeline, dry_run=True).summary == {
        "first": "would be done: not done yet",
        "second": "would be done, unless nothing changes in first",
        "third": "would be done, unless nothing changes in second",
    }
    assert not done() and not Path("done").exists()
    run_pipeline(pipeline)
    done()
    Path("other.txt").write_text("d")
    assert run_pipeline(pipeline, dry_run=True).summary == {
        "first": "up to date", "second": "up to date", "third": "would be done: other.txt changed"
    }  # fmt: skip
    assert "--from" in run_pipeline(pipeline, start="second", dry_run=True).summary["second"]
    assert not done() and run_pipeline(pipeline, dry_run=True).summary["third"] == "would be done: other.txt changed"


def test_a_changed_input_does_again_what_depends_on_it():
    run_pipeline(write("a"))
    done()
    run_pipeline(write("c"))
    assert done() == ["first", "second", "third"]
    Path("other.txt").write_text("d")
    run_pipeline("pipeline.yaml")
    assert done() == ["third"]
    run_pipeline(write("C"))  # what it makes is as it was: nothing behind it has anything to do
    assert done() == ["first", "third"]


def test_changed_arguments_and_outputs_that_are_gone_or_altered_do_a_stage_again():
    pipeline = write()
    run_pipeline(pipeline)
    done()
    run_pipeline(pipeline, ["stages.second.args.lower=false"])
    assert done() == ["second", "third"]
    Path("first.txt").unlink()
    run_pipeline(pipeline, ["stages.second.args.lower=false"])
    assert done() == ["first"]
    Path("third.txt").write_text("edited")
    run_pipeline(pipeline, ["stages.second.args.lower=false"])
    assert done() == ["third"]
    Path("elsewhere.txt").write_text("z")
    run_pipeline(pipeline, ["text=elsewhere.txt", "stages.second.args.lower=false"])
    assert done() == ["first", "second", "third"]


def test_a_failure_stops_and_the_same_command_goes_on_there(capsys):
    pipeline = write()
    Path("other.txt").write_text("fail")
    with pytest.raises(UserError, match="Stage third: the text cannot be shouted"):
        run_pipeline(pipeline)
    shown = capsys.readouterr().out
    assert "done in" in shown and "failed" in shown
    assert done() == ["first", "second"]
    Path("other.txt").write_text("b")
    outcome = run_pipeline(pipeline)
    assert done() == ["third"]
    assert list(outcome.summary.values())[:2] == ["up to date"] * 2

    Path("text.txt").write_text("defect")
    with pytest.raises(RuntimeError):
        run_pipeline(pipeline)
    assert json.loads(Path("done/pipeline.json").read_text())["stages"]["first"]["status"] == "stopped"
    Path("text.txt").write_text("a")
    run_pipeline(pipeline)
    assert done() == ["first"]


def test_a_stage_that_a_fault_broke_off_is_one_for_a_scheduler_too():
    with pytest.raises(Fault, match="Stage first: the server has gone away"):
        run_pipeline(write("fault"))


def test_failed_inputs_are_told_at_the_end_of_every_run_and_make_the_exit_code(capsys):
    pipeline = write("odd odd")
    assert rnncond("run", pipeline) == 3
    assert "first: odd: it is odd" in capsys.readouterr().out
    done()
    assert rnncond("run", pipeline, "--json") == 3
    assert json.loads(capsys.readouterr().out) == {
        "first": "up to date", "second": "up to date", "third": "up to date", "failed": 2
    }  # fmt: skip
    assert done() == []


def test_from_a_stage_on():
    pipeline = write()
    run_pipeline(pipeline)
    done()
    run_pipeline(pipeline, start="second")
    assert done() == ["second", "third"]
    with pytest.raises(UserError, match=r"--from nothing: .* there are first, second, third"):
        run_pipeline(pipeline, start="nothing")


def test_a_run_that_this_pipeline_began_may_be_thrown_away_and_no_other():
    pipeline = write("other")
    Path("first.txt").write_text("OTHER people's")
    one = {
        "out": "done",
        "stages": {"first": CHAIN["stages"]["first"] | {"args": {"file": "text.txt", "to": "first.txt"}}},
    }
    Path("pipeline.yaml").write_text(yaml.safe_dump(one))
    for _ in range(2):
        with pytest.raises(UserError, match="holds a run of another recipe"):
            run_pipeline(pipeline)
    assert Path("first.txt").read_text() == "OTHER people's"
    Path("first.txt").unlink()
    run_pipeline(pipeline)
    Path("text.txt").write_text("the other")
    run_pipeline(pipeline)
    assert Path("first.txt").read_text() == "THE OTHER"


ONE = {"out": "done", "stages": {"first": {"verb": "shout", "args": {"file": "text.txt", "to": "t", "out": "run"}}}}


def killed(monkeypatch, when: str) -> None:
    """The pipeline, so that nothing is kept of how it ended, as after kill -9: before the verb or when it has begun."""

    def call(stage, ours):
        if when == "within":
            original(stage, ours)
        raise KeyboardInterrupt

    original = run.call
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(run, "call", call)
        for end in ("keep", "forget"):
            patch.setattr(state.PipelineState, end, lambda *_, **__: None)
        run_pipeline("pipeline.yaml")
    assert json.loads(Path("done/pipeline.json").read_text())["stages"]["first"]["status"] == "begun"


@pytest.mark.parametrize("when", ["before", "within"])
def test_a_killed_first_attempt_is_gone_on_with_also_where_the_data_have_changed(monkeypatch, when):
    pipeline = write("a", ONE)
    killed(monkeypatch, when)
    Path("text.txt").write_text("b")
    run_pipeline(pipeline)
    assert (Path("t").read_text(), read_run("run")) == ("B", {"of": "b"})


def test_no_attempt_makes_other_peoples_run_the_pipelines(monkeypatch):
    begin_run("run", "theirs")
    pipeline = write("a", ONE)
    killed(monkeypatch, "before")
    Path("text.txt").write_text("fail")
    with pytest.raises(UserError, match="cannot be shouted"):
        run_pipeline(pipeline)
    Path("text.txt").write_text("a")
    with pytest.raises(UserError, match="holds a run of another text"):
        run_pipeline(pipeline)
    assert read_run("run") == {"of": "theirs"}


def test_a_page_is_no_object_storage():
    stages = {"report": {"args": {"out": "s3://b/run", "to": "s3://b/page.html"}}}
    with pytest.raises(UserError, match=r"stages\.report: args\.to: found s3://b/page\.html, expected a local folder"):
        read_pipeline(write(pipeline={"stages": stages}), stage_command)


def test_a_pipeline_and_its_runs_may_be_in_object_storage(bucket):
    """The state is in the bucket, so another machine goes on with it."""
    uri = f"{bucket[0]}/nightly"
    pipeline = write(pipeline=CHAIN | {"out": uri})
    first = run_pipeline(pipeline).summary
    assert all(news.startswith("done in") for news in first.values())
    assert set(run_pipeline(pipeline).summary.values()) == {"up to date"}
    assert not Path("s3:").exists()
    with locked(uri), pytest.raises(UserError, match=r"is being run already, in s3://.*nightly \(host"):
        run_pipeline(pipeline)


def test_all_mistakes_are_told_at_once_and_nothing_is_begun():
    stages = {
        "first": {"verb": "shuot", "args": {}},
        "second": {"verb": "shout", "args": {"file": "${tekst}", "to": "x"}, "needs": ["third"]},
        "third": {"verb": "shout", "args": {"file": "text.txt", "tow": "x"}},
        "fourth": {"verb": "shout", "args": {"file": "text.txt", "to": "x", "times": "many"}},
        "fifth": {"verb": "shout", "args": {"file": "text.txt", "to": "x", "address": "auto"}},
        "sixth": {"verb": "shout", "args": {"to": "x"}},
        "seventh": {"verb": "shout", "args": {"file": "text.txt", "to": "x", "lower": "yes"}},
        "eighth": {"verb": "store", "args": {"directory": "x"}},
    }
    with pytest.raises(UserError) as caught:
        run_pipeline(write(pipeline={"variables": {"text": "t"}, "stages": stages}))
    lines = str(caught.value).splitlines()
    expected = [
        "has 9 mistakes",
        "stages.first: verb: there is no 'shuot'", "stages.second: ${tekst} is nothing. Did you mean 'text'?",
        "stages.second: needs: there is no stage 'third' before it",
        "stages.third: args.tow: shout has no such argument",
        "stages.fourth: args: Invalid value for '--times'", "Say it to `rnncond run`",
        "stages.sixth: args: Missing", "stages.seventh: args.lower: found 'yes', expected true or false",
        "stages.eighth: Expected store with one of",
    ]  # fmt: skip
    for line, part in zip(lines, expected, strict=True):
        assert part in line
    assert "Did you mean 'shout'?" in lines[1] and "Did you mean 'to'?" in lines[4]
    assert not Path("pipeline").exists()


def test_states_know_content_and_nothing_else(tmp_path):
    make_world(tmp_path)
    store = fingerprint_of("store")
    (tmp_path / "store" / "notes.txt").write_text("x")
    assert fingerprint_of("store") == store is not None
    make_translator(tmp_path / "run" / "best")
    model = fingerprint_of("run")
    assert model == {"best": load("run/best").model_id}
    (tmp_path / "run" / "evaluation.json").write_text("x")
    assert fingerprint_of("run") == model
    make_translator(tmp_path / "run" / "best", seed=1)
    assert fingerprint_of("run") != model
    for content in ("{", "[]", "{}"):
        Path("run/best/model.json").write_text(content)
        assert fingerprint_of("run") != model is not None
    (tmp_path / "folder").mkdir()
    empty = fingerprint_of("folder")
    (tmp_path / "folder" / "file").write_text("x")
    assert fingerprint_of("folder") != empty is not None
    one = fingerprint_of("folder/*")
    (tmp_path / "folder" / "other").write_text("x")
    assert fingerprint_of("folder/*") != one is not None
    for nothing in ("nothing", "{uniform: [0, 1]}", "http://127.0.0.1:5000", "models:/nothing@champion"):
        assert fingerprint_of(nothing) is None
    assert fingerprint_of("s3://") != fingerprint_of("s3://")  # it could not be asked, so it may have changed


def test_a_champion_is_told_from_none_and_from_an_mlflow_that_is_away(tmp_path, monkeypatch):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    client = client_at(uri)
    assert fingerprint_of("models:/m@champion") is None
    client.create_registered_model("m")
    assert fingerprint_of("models:/m@champion") is None
    client.create_model_version("m", str(tmp_path), tags={MODEL_ID: "abc"})
    client.set_registered_model_alias("m", "champion", 1)
    assert fingerprint_of("models:/m@champion") == [1, "abc"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"MLflow at http://127\.0\.0\.1:9 cannot be used"):
        fingerprint_of("models:/m@champion")


def test_from_pictures_to_captions_by_the_champion(without_ray, no_java, tmp_path, make_photos, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    make_photos(12)
    write_captions(lambda index: f"a {'red' if index % 2 else 'blue'} disc")
    overrides = [*TINY, "training.epochs=1", "cluster.threads=1", "tracking.system_metrics=false"]
    captioner = {
        "features": {"args": {"images": "captions.jsonl", "store": "store", "backbone": "timm/test_resnet",
                              "weights": "random", "outputs": "pooled"}},
        "train": {"args": {"recipe": "show_tell.small", "out": "run",
                           "overrides": ["data.store=${features.store}", "data.captions=captions.jsonl", *overrides]}},
        "evaluate": {"args": {"model": "${train.out}", "beam": 2, "tokenizer": "simple"}},
        "promote": {"args": {"model": "${train.out}", "name": "captioner", "data": "captions.jsonl"}},
        "caption": {"args": {"images": "photos", "model": "models:/captioner@champion", "out": "captioned"}},
        "report": {"args": {"out": "${train.out}"}, "needs": ["evaluate"]},
    }  # fmt: skip
    Path("pipeline.yaml").write_text(yaml.safe_dump({"stages": captioner}, sort_keys=False))
    outcome = run_pipeline("pipeline.yaml")
    assert outcome.failed == 0 and all(said.startswith("done") for said in outcome.summary.values())
    assert set(run_pipeline("pipeline.yaml").summary.values()) == {"up to date"}


def test_the_night_after_a_new_model(without_ray, make_photos):
    """Captions, a page and translations follow the new captioner, and the pipeline is as it was. What the old one said
    stays in the store; readers get what the new one says."""
    make_photos(6)
    features = backbones.load("timm/test_resnet", "random").recipe
    old = model_reading(Path("captioner"), "show_tell", "pooled", features)
    make_translator(Path("translator"))
    stages = {
        "caption": {"args": {"images": "photos", "model": "captioner", "out": "captioned", "text": "captions.jsonl"}},
        "report": {"args": {"out": "captioned", "set": "${caption.set}", "to": "report.html"}},
        "translate": {"args": {"text": "${caption.text}", "column": "caption", "model": "translator",
                               "out": "translated"}},
    }  # fmt: skip
    Path("pipeline.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
    said: list[dict[str, str]] = []
    for model in (old, None):
        model = model or model_reading(Path("captioner"), "mrnn", "pooled", features)
        assert all(what.startswith("done") for what in run_pipeline("pipeline.yaml").summary.values())
        captions = Store("captioned").open(kind="captions")
        assert captions.recipe["model"] == model.model_id
        rows = captions.snapshot().scan(["image_id", "caption"])
        said.append({row["image_id"]: row["caption"] for batch in rows for row in batch.to_pylist()})
        page = Path("report.html").read_text()
        assert model.system in page and all(html.escape(caption) in page for caption in said[-1].values())
        translations = Store("translated").open(kind="translations").snapshot()
        sources = [row["source"] for batch in translations.scan(["source"]) for row in batch.to_pylist()]
        assert sorted(sources) == sorted(said[-1].values()) and len(sources) == 6
        assert set(run_pipeline("pipeline.yaml").summary.values()) == {"up to date"}
    assert said[0] != said[1]
    assert len(Store("captioned").datasets()) == len(Store("translated").datasets()) == 2


@pytest.mark.slow
@pytest.mark.ray
def test_other_captions_are_learnt_and_what_hangs_on_them_is_redone(ray_cluster, tmp_path, make_photos, monkeypatch):
    test_from_pictures_to_captions_by_the_champion(None, None, tmp_path, make_photos, monkeypatch)
    first = load("run/best").model_id
    write_captions(lambda index: f"one {'green' if index % 2 else 'black'} square is drawn")
    again = run_pipeline("pipeline.yaml").summary
    assert again["train"].startswith("done") and again["evaluate"].startswith("done")
    second = load("run/best").model_id
    assert second != first
    assert Store("store").open().snapshot().rows == 12
    assert set(run_pipeline("pipeline.yaml").summary.values()) == {"up to date"}


def write_captions(say) -> None:
    lines = [
        {"image_id": f"{index:05d}.jpg", "file": f"photos/{index:05d}.jpg", "split": "val" if index > 8 else "train",
         "captions": [say(index)]}
        for index in range(12)
    ]  # fmt: skip
    Path("captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
