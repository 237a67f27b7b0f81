"""The command that a hint gives for a set is one that its verb takes."""

from __future__ import annotations

import dataclasses
import json
import shlex

import pyarrow as pa
import pytest
import typer
from mlflow import MlflowClient

from feature_store import Store
from pipelines.cli.commands import app_of
from pipelines.tracking import registry
from pipelines.verbs.store.again import again
from rnncond import checkpoint
from rnncond.search import SearchOptions
from tests.worlds.translator import make_translator

SCHEMA = pa.schema([pa.field("image_id", pa.string(), nullable=False)])
SEARCH = dataclasses.asdict(SearchOptions(beam=3, nbest=2, length_penalty="gnmt", coverage_beta=0.1, attention=True))


def parsed(line: str) -> tuple[str, dict]:
    """The verb of a command and its arguments, as the command line reads them."""
    program, verb, *words = shlex.split(line)
    assert program == "rnncond"
    return verb, typer.main.get_command(app_of(verb)).make_context(verb, words).params


def test_captions_by_their_models_and_search(tmp_path):
    recipe = {"model": "a+b", "search": SEARCH, "precision": "bfloat16"}
    about = {"models": '["runs/one of mine", "models:/m/2"]'}
    made = Store(tmp_path).dataset("captions", recipe, SCHEMA, about=about)
    verb, given = parsed(again(made, "a store", "photos/").command)
    assert (verb, given["images"], given["out"]) == ("caption", "photos/", "a store")
    assert (given["model"], list(given["ensemble"])) == ("runs/one of mine", ["models:/m/2"])
    asked = {"beam": 3, "nbest": 2, "length_penalty": "gnmt", "coverage_penalty": 0.1, "attention": True}
    assert {name: given[name] for name in asked} == asked and given["precision"] == "bfloat16"


@pytest.mark.parametrize(
    ("recipe", "options"),
    [
        ({"outputs": {"pooled": [4], "grid": [2, 2, 4]}}, ""),
        ({"outputs": {"grid": [14, 14, 512]}, "size": 448}, " --outputs grid --size 448"),
        ({"outputs": {"regions": [1024]}, "regions": {"most": 36, "fewest": 10, "threshold": 0.2}}, ""),
        (
            {"outputs": {"regions": [1024]}, "regions": {"most": 20, "fewest": 5, "threshold": 0.5}},
            " --regions-max 20 --regions-min 5 --score-threshold 0.5",
        ),
    ],
)
def test_features_by_what_was_asked_of_the_network(tmp_path, recipe, options):
    """Without it the command would begin a set of its own."""
    made = Store(tmp_path).dataset("features", {"backbone": "timm/a"} | recipe, SCHEMA, about={"weights": "w.pth"})
    line = again(made, "s", "photos/").command
    assert line == f"rnncond features photos/ --store s --backbone timm/a --weights w.pth{options}"
    verb, _ = parsed(line)
    assert verb == "features"


@pytest.mark.parametrize(
    ("recipe", "options"),
    [
        ({"too_long": "cut", "unk_replace": False}, ""),
        ({"too_long": "refuse", "unk_replace": True}, " --too-long refuse --unk-replace"),
    ],
)
def test_translations_by_what_is_done_with_long_and_unknown_words(tmp_path, recipe, options):
    made = Store(tmp_path).dataset(
        "translations", {"model": "a", "max_source_length": 50} | recipe, SCHEMA, about={"models": '["models:/m/2"]'}
    )
    line = again(made, "s", "t.jsonl").command
    expected = "rnncond translate t.jsonl --model models:/m/2 --out s --beam 5 --max-source-length 50"
    assert line == expected + options
    verb, given = parsed(line)
    assert (verb, given["max_source_length"], given["unk_replace"]) == ("translate", 50, recipe["unk_replace"])


@pytest.mark.parametrize(("kind", "verb"), [("captions", "caption"), ("translations", "translate")])
def test_a_set_that_does_not_name_its_model_says_which_it_is(tmp_path, kind, verb):
    made = Store(tmp_path).dataset(kind, {"model": "f00d"}, SCHEMA)
    assert again(made, "s", "in").command == f"rnncond {verb} in --model MODEL --out s --beam 5"
    assert again(made, "s", "in").remark.startswith("MODEL is the one with the id f00d")


def test_a_name_that_is_another_model_by_now_is_told(tmp_path):
    """The run was trained on, say, or there is another champion: the command would make a set of its own."""
    make_translator(tmp_path / "run" / "best")
    run = str(tmp_path / "run")

    def told(model_id: str, name: str) -> str:
        recipe, about = {"model": model_id}, {"models": json.dumps([name])}
        made = Store(tmp_path / "s").dataset("translations", recipe, SCHEMA, about=about)
        assert f"--model {name}" in again(made, "s", "in").command
        return again(made, "s", "in").remark

    own = checkpoint.load(tmp_path / "run" / "best").model_id
    assert told(own, run) == ""
    assert told("f00d", run).startswith(f"But {run} is the model {own} by now, and the set is of f00d")
    assert told("f00d", f"{run}-gone").startswith(f"But {run}-gone was not found from here, and the set is of f00d")


def test_an_alias_that_has_moved_on_gives_way_to_the_version(tmp_path, monkeypatch):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)

    def made(own: str) -> tuple[str, str]:
        about = {"models": '["models:/m@champion"]'}
        dataset = Store(tmp_path / "s").dataset("captions", {"model": own}, SCHEMA, about=about)
        return parsed(again(dataset, "s", "in").command)[1]["model"], again(dataset, "s", "in").remark

    told = "But models:/m@champion was not found from here, and the set is of a"
    assert made("a")[1].startswith(told) and not (tmp_path / "mlflow.db").exists()
    client = MlflowClient(uri, uri)
    client.create_registered_model("m")
    for own in ("a", "b"):
        client.create_model_version("m", str(tmp_path), tags={registry.MODEL_ID: own})
    client.set_registered_model_alias("m", "champion", "2")
    assert made("b") == ("models:/m@champion", "")
    assert made("a") == ("models:/m/1", "")
    name, told = made("c")
    assert name == "models:/m@champion" and told.startswith("But models:/m@champion is the model b by now")


def test_features_by_their_backbone(tmp_path):
    made = Store(tmp_path).dataset("features", {"backbone": "timm/x"}, SCHEMA, about={"weights": "x.safetensors"})
    verb, given = parsed(again(made, "s", "photos/").command)
    asked = {"images": "photos/", "store": "s", "backbone": "timm/x", "weights": "x.safetensors"}
    assert verb == "features" and {name: given[name] for name in asked} == asked
