"""Every key of a recipe is shown as it is checked: its type, its default and what it means."""

from __future__ import annotations

import re

import pytest

from pipelines.config import recipe, schema
from pipelines.config.choices import recipe_names
from pipelines.config.schema import keys_of_recipe
from pipelines.errors import UserError
from rnncond import systems


def by_path(source: str) -> dict[str, schema.Key]:
    return {key.path: key for key in keys_of_recipe(source)}


@pytest.mark.parametrize("name", recipe_names())
def test_every_key_has_a_type_and_a_meaning(name):
    keys = by_path(name)
    assert len(keys) > 60
    assert [path for path, key in keys.items() if not key.meaning or not key.type] == []


def test_keys_are_those_that_a_recipe_is_checked_by():
    """The resolved recipe has every key that is no alternative of another kind, and no other."""
    resolved = recipe.read_recipe("show_tell.small", ["data.store=s", "data.captions=c"]).model_dump()
    paths = set()

    def walk(values, path=""):
        for key, value in values.items():
            if isinstance(value, dict) and value:
                walk(value, f"{path}{key}.")
            else:
                paths.add(f"{path}{key}")

    walk(resolved)
    shown = {path.replace("[cross_entropy]", "").replace("[constant]", "") for path in by_path("show_tell.small")}
    assert paths == {path for path in shown if "[" not in path and not path.startswith("tune.")}


def test_types_defaults_and_values():
    keys = by_path("show_attend_tell.small")
    assert keys["data.store"].default is None, "it has to be given"
    assert keys["data.output"] == ("data.output", "pooled | grid | regions", None, "grid", keys["data.output"].meaning)
    assert keys["seed"][1:4] == ("whole number, at least 0", "1", None)
    assert keys["training.images_per_batch"][1:4] == ("whole number, at least 1", "64", "32")
    assert keys["training.label_smoothing"].type == "number, at least 0, below 1"
    assert keys["training.clip_norm"].type == "number, above 0 | null"
    assert keys["tracking.system_metrics"].type == "true or false"
    assert keys["training.schedule[plateau].patience"].default == "1"
    kinds = {path: key.value for path, key in keys.items() if path.startswith("training.schedule") and "kind" in path}
    chosen = {path: value for path, value in kinds.items() if value is not None}
    assert len(kinds) == 5 and all(path == f"training.schedule[{value}].kind" for path, value in chosen.items())
    assert "tune.trials" in keys
    assert by_path("encdec.paper")["tune.trials"].value is None, "it has no section tune, and may have one"


def test_a_systems_own_keys_are_what_its_config_says():
    assert by_path("mrnn.small")["model.multimodal"].meaning == "R, width of the layer where words and image meet."
    assert "vocab_size" not in " ".join(by_path("mrnn.small")), "the data determine it"
    inherited = by_path("encdec_residual.small")
    assert {path for path in inherited if path.startswith("model.")}


@pytest.mark.parametrize("name", systems.names())
def test_a_systems_own_keys_are_explained_in_words_beside_their_letters(name):
    for path, meaning in schema.meanings_of_system(name).items():
        words = [word for word in re.findall("[a-z]+", meaning.lower()) if len(word) > 2 and word != "and"]
        assert len(words) >= 2, f"{path}: {meaning}"


def test_attributes_of_a_docstring():
    text = """Sizes.

    Attributes:
        one, two: the first
            and the second.
        three: the third.

    Raises:
        ValueError: no attribute.
    """
    assert schema.attributes_in(text) == {
        "one": "the first and the second.", "two": "the first and the second.", "three": "the third."
    }  # fmt: skip
    assert schema.attributes_in(None) == schema.attributes_in("Nothing.") == {}


def test_what_is_not_there_is_told_and_a_strange_system_has_the_rest(tmp_path):
    with pytest.raises(UserError, match=r"no recipe 'show_tel\.small'.*Did you mean 'show_tell\.small'"):
        keys_of_recipe("show_tel.small")
    own = tmp_path / "own.yaml"
    own.write_text("system: no_such_system\ntraining: {epochs: 3}\n")
    assert by_path(str(own))["training.epochs"].value == "3"
    assert "no_such_system" not in systems.names()
