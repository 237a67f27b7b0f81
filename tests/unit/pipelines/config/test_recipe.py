import pickle
import typing
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from pipelines.config.choices import recipe_names
from pipelines.config.dotted import flat
from pipelines.config.recipe import (
    CaptionRecipe,
    TranslationRecipe,
    load,
    read_recipe,
    recipe_type,
    resolve,
    validate,
)
from pipelines.config.training_sections import OBJECTIVES, SCHEDULES
from pipelines.config.yaml_core import load_yaml
from pipelines.errors import UserError
from rnncond import systems

DATA = ("data.store=features", "data.captions=captions.jsonl")
TEXT = ("data.source=train.en", "data.target=train.de", "data.validation_source=val.en")
OF_NONE = {
    "data.fingerprint": "0123456789abcdef",
    "data.target_language": "ja",
    "data.train_images": 9,
    "data.train_lines": 9,
    "data.validation_images": 9,
    "data.validation_lines": 9,
    "data.validation_target": "val.de",
    "text.size": 500,
    "training.checkpoint_steps": 7,
    "training.average_last": 2,
    "training.clip_norm": 2.0,
    "training.early_stopping.patience": 4,
    "training.ema": 0.9,
    "training.start_from": "models:/first@champion",
    "cluster.min_workers": 1,
    "cluster.cpus_per_worker": 0.5,
    "cluster.gpus_per_worker": 1.0,
    "cluster.threads": 2,
    "tracking.uri": "sqlite:///x.db",
    "tracking.registered_model": "captioner",
    "tracking.backbone_weights": "resnet50.safetensors",
}
TIES = ("model.share_embeddings", "model.tie_embeddings", "model.scale_embeddings")
"""With these on, one size cannot change alone, nor can these."""
JOINED = {*TIES, "model.score", "model.input_feeding", "training.objective.kind", "training.schedule.kind",
          "text.truecase"}  # fmt: skip
"""Keys that cannot change alone."""


@cache
def written(name: str) -> dict[str, Any]:
    """What stands in a recipe that comes with the project."""
    return load(name)[0]


def translates(name: str) -> bool:
    return "tokens" in systems.find(written(name)["system"]).Model.takes


def data_of(name: str) -> tuple[str, ...]:
    """What a recipe that comes with the project leaves to its user."""
    return TEXT if translates(name) else DATA


def values_of(name: str, *overrides: str) -> dict[str, Any]:
    """Every key of a recipe that comes with the project, defaults included."""
    return dict(flat(read_recipe(name, [*data_of(name), *overrides]).model_dump()))


def objective_of(name: str) -> type:
    return OBJECTIVES[written(name)["training"].get("objective", {"kind": "cross_entropy"})["kind"]]


def schedule_of(name: str) -> type:
    return SCHEDULES[written(name)["training"].get("schedule", {"kind": "constant"})["kind"]]


def other(name: str, key: str, value: Any) -> Any:
    """A valid value of ``key`` that is not ``value``."""
    kind = recipe_type(written(name)["system"])
    *sections, last = key.split(".")
    for section in sections:
        of_kind = {"objective": objective_of, "schedule": schedule_of}.get(section)
        kind = of_kind(name) if of_kind else kind.model_fields[section].annotation
    annotation = kind.model_fields[last].annotation
    if typing.get_origin(annotation) is typing.Literal:
        return next(choice for choice in typing.get_args(annotation) if choice != value)
    if value is None:
        return OF_NONE[key]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, list | tuple):
        return list(value[::-1]) or ["s3://bucket/"]
    return value / 2 + 0.013 if isinstance(value, float) else f"{value}2"


def test_there_are_recipes_to_test():
    names = set(recipe_names())
    assert {"show_tell.small", "show_tell.paper", "show_attend_tell.small", "show_attend_tell.paper"} <= names
    assert all(len(values_of(name)) > 40 for name in names)


@pytest.mark.parametrize("name", recipe_names())
def test_every_misspelt_key_is_named_with_the_nearest(name):
    keys = list(values_of(name))
    with pytest.raises(UserError) as caught:
        read_recipe(name, [*data_of(name), *(f"{key}x=1" for key in keys)])
    lines = str(caught.value).splitlines()
    for key in keys:
        (line,) = [line for line in lines if line.startswith(f"  {key}x: no such key")]
        assert f"no such key. Did you mean {key.split('.')[-1]!r}?" in line
    assert len(lines) == len(keys) + 1


def keys_by_recipe() -> dict[str, list[str]]:
    """Every key of every system, objective and schedule, with the first recipe that has it."""
    seen, keys = set(), {}
    for name in recipe_names():
        kinds = (written(name)["system"], objective_of(name), schedule_of(name), translates(name))
        sections = ("model.", "training.objective.", "training.schedule.", "")
        for key in values_of(name).keys() - {"system", "data.output"} - JOINED:
            kind = next(kind for kind, section in zip(kinds, sections, strict=True) if key.startswith(section))
            if (key, kind) not in seen:
                seen.add((key, kind))
                keys.setdefault(name, []).append(key)
    return keys


@pytest.mark.parametrize(("name", "keys"), keys_by_recipe().items())
def test_a_changed_value_changes_the_resolved_recipe_there_and_nowhere_else(name, keys):
    untied = [f"{key}=false" for key in TIES if translates(name)]
    if "training.objective.cross_entropy" in values_of(name):
        untied.append("training.objective.cross_entropy=0.1")
    before = values_of(name, *untied)
    for key in keys:
        after = values_of(name, *untied, f"{key}={other(name, key, before[key])}")
        assert {changed for changed in after if after[changed] != before[changed]} == {key}


@pytest.mark.parametrize("name", [name for name in recipe_names() if not translates(name)])
def test_a_system_and_its_output_must_fit(name):
    output = other(name, "data.output", values_of(name)["data.output"])
    unfit = "mrnn" if output == "pooled" else "top_down"
    for override in (f"data.output={output}", f"system={unfit}"):
        with pytest.raises(UserError, match=r"takes|no such key"):
            values_of(name, override)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("system=show_tel", "Did you mean 'show_tell'"),
        ("data.output=grid", "show_tell takes pooled"),
        ("model.dropout=1.5", "dropout is 1.5"),
        ("search.beam=0", "beam is 0"),
        ("search.min_length=30", "min_length is 30"),
        ("training.learning_rate=nan", "training.learning_rate: found"),
        ("training.schedule.kind.x=1", "kind is a value, not a section"),
        ("search.samples=3", "search.samples: no such key"),
        ("training.schedule.patience=2", "training.schedule.patience: no such key. There are warmup_steps, kind."),
        ("training.schedule.kind=gnm", "Did you mean 'gnmt'"),
        ("training.schedule.kind=gnmt", "training.schedule.decay_every: missing"),
        ("training.schedule={kind: inverse_sqrt, warmup_steps: 0}", "warmup_steps: found 0, expected"),
        ("training.precision=half", "expected 'float32', 'bfloat16' or 'float16'"),
        ("training.accumulate=0", "training.accumulate: found 0, expected"),
        ("training.ema=1", "training.ema: found 1, expected"),
        ("training.average_last=1", "training.average_last: found 1, expected"),
        ("training.average_last=1000", "average_last is 1000, but there are only"),
        ("model.vocab_size=9", "model.vocab_size: no such key"),
        ("training=3", "training: found 3, expected a section"),
        ("training.objective=[]", "training.objective: found [], expected a section"),
        ("training.epochs=1.5", "training.epochs: found 1.5, expected a whole number"),
        ("training.epochs=1_000", "training.epochs: found '1_000', expected a number"),
        ("training.learning_rate=inf", "training.learning_rate: found 'inf', expected a number"),
        ("model.dropout=12:30", "model.dropout: found '12:30', expected a number"),
        ("text.lowercase=no", "text.lowercase: found 'no', expected true or false"),
        ("text.lowercase=1", "text.lowercase: found 1, expected true or false"),
        ("data={1: 2}", "data.1: no such key. There are store"),
        ("tune={trials: 2}", "say it in the file, or add 'tune.space={KEY: ..., KEY: ...}' to the command"),
        ("tune.space.model.dropout={uniform: [0, 1, 2]}", "found [0, 1, 2], expected at most 2 of them"),
        ("tune.space.model.dropout={uniform: [0]}", "model.dropout.uniform: found [0], and value 2 is missing"),
    ],
)
def test_values_that_do_not_fit(override, message):
    with pytest.raises(UserError) as caught:
        read_recipe("show_tell.small", [*DATA, "training.schedule.kind=cosine", override])
    assert message in str(caught.value)


def test_case_is_kept_or_given_back_not_both():
    with pytest.raises(UserError, match="text: truecase is true, but lowercase is false"):
        read_recipe("show_tell.small", [*DATA, "text.lowercase=false", "text.truecase=true"])


def test_a_value_in_a_file_is_read_by_the_type_of_its_key(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "system: show_tell\ndata: {store: 0010, captions: 2024-05-01, output: pooled, validation_images: 0010}\n"
        "training: {epochs: 1, learning_rate: 3e-4}\ntracking: {experiment: 12:30, uri: ~}\nseed: 0o17\n"
    )
    recipe = read_recipe(str(path))
    assert (recipe.training.learning_rate, recipe.seed, recipe.data.validation_images) == (3e-4, 15, 10)
    assert (recipe.tracking.experiment, recipe.tracking.uri) == ("12:30", None)
    assert [Path(file).name for file in (recipe.data.store, recipe.data.captions)] == ["0010", "2024-05-01"]
    assert recipe.out == "runs/mine"
    path.write_text(path.read_text().replace("12:30", "null"))
    with pytest.raises(UserError, match=r"tracking\.experiment: found None, expected text"):
        read_recipe(str(path))


@given(st.text())
@example("0010")
@example("null")
@example("1e5")
@example("{a: b} # c")
def test_any_text_reaches_a_text_key_and_the_saved_recipe(text):
    recipe = read_recipe("show_tell.small", [*DATA, f"tracking.experiment={text}"])
    assert (recipe.tracking.experiment, type(recipe.tracking.experiment)) == (text, str)
    assert resolve(validate(load_yaml(recipe.to_yaml(), "it"), "it"), "show_tell.small") == recipe


def test_whole_sections_and_lists_on_the_command_line():
    recipe = read_recipe(
        "encdec.small",
        ["data={source: 0010, validation_source: v, columns: [1, no]}", "data.store=s", "training.clip_norm=~",
         "training={epochs: 3, tokens_per_batch: 0x40}", "training.schedule={kind: cosine}", "text.joint=true"],
    )  # fmt: skip
    assert Path(recipe.data.source).name == "0010"
    assert recipe.data.columns == ("1", "no")
    assert (recipe.training.epochs, recipe.training.tokens_per_batch, recipe.training.schedule.kind) == (
        3,
        64,
        "cosine",
    )


@pytest.mark.parametrize(("system", "words"), [("show_tell", 20), ("encdec", 100)])
def test_a_search_that_is_not_said_is_long_enough_for_what_is_generated(system, words, tmp_path):
    data = {"store": "s", "captions": "c", "output": "pooled"}
    if system == "encdec":
        data = {"source": "a.en", "target": "a.de", "validation_source": "b.en", "validation_target": "b.de"}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"system": system, "data": data, "training": {"epochs": 1}}))
    assert read_recipe(str(path)).search["max_length"] == words


def test_the_resolved_recipe_is_a_recipe_that_gives_itself(tmp_path):
    first = read_recipe("show_attend_tell.small", [*DATA, "model.hidden=77"], out="elsewhere")
    (tmp_path / "recipe.yaml").write_text(first.to_yaml())
    again = read_recipe(str(tmp_path / "recipe.yaml"))
    assert again == first
    assert (again.model["hidden"], again.out) == (77, "elsewhere")


def test_local_paths_are_made_absolute_and_uris_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = read_recipe("show_tell.small", ["data.store=s3://bucket/store", "data.captions=a/captions.jsonl"])
    assert recipe.data.store == "s3://bucket/store"
    assert recipe.data.captions == str(tmp_path / "a/captions.jsonl")


def test_a_recipe_can_be_sent_to_workers():
    recipe = read_recipe("show_tell.small", DATA)
    assert type(recipe) is CaptionRecipe
    assert pickle.loads(pickle.dumps(recipe)) == recipe
    recipe = read_recipe("encdec.small", TEXT)
    assert type(recipe) is TranslationRecipe
    assert pickle.loads(pickle.dumps(recipe)) == recipe


def test_a_key_that_stands_twice_is_refused(tmp_path):
    path = tmp_path / "twice.yaml"
    path.write_text("seed: 1\nsystem: show_tell\nseed: 2\n")
    with pytest.raises(UserError, match="the key 'seed' stands twice"):
        read_recipe(str(path))


@pytest.mark.parametrize("content", ["a: [", "- system", "", "just words"])
def test_a_file_that_is_no_recipe(tmp_path, content):
    (tmp_path / "broken.yaml").write_text(content)
    with pytest.raises(UserError, match=r"is not YAML|is not a recipe"):
        read_recipe(str(tmp_path / "broken.yaml"))


def test_no_such_recipe_names_those_that_there_are():
    with pytest.raises(UserError, match=r"Did you mean 'show_tell\.small'"):
        read_recipe("show_tell.smal")
