"""Captions as a task: what is left out, what is refused, and what its data are known by."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from feature_store import StoreError
from pipelines.errors import UserError
from pipelines.training.data.task import prepare
from rnncond.text import Vocabulary
from tests.worlds.training import captions_of, features_of, make_world, tiny_recipe


def change_captions(change) -> None:
    path = Path("captions.jsonl")
    path.write_text("".join(json.dumps(change(json.loads(line))) + "\n" for line in path.read_text().splitlines()))


def test_a_task_is_the_pictures_of_its_splits(world):
    """The world has 24 pictures of 6 features, the last 6 to validate on, with one, two and three captions in turn."""
    task, about = prepare(tiny_recipe(world, Path("run")))
    assert (task.count(), task.sizes()) == (6, {"feature_size": 6})
    assert (about["images"], about["captions"], about["captions_cut"]) == (18, 36, 0)
    assert task.sample(1, "a disc") == {"image_id": "image019", "caption": "a disc", "references": captions_of(19)}
    perfect = task.scores({image: captions_of(18 + image)[0] for image in range(6)})
    nothing = task.scores(dict.fromkeys(range(6), "x"))
    assert perfect["CIDEr"] > nothing["CIDEr"] == 0
    assert task.describe() == "18 images with 36 captions"


@pytest.mark.parametrize(
    ("override", "error", "message"),
    [
        ("data.store=nowhere", StoreError, "there is no store at"),
        ("data.captions=nowhere.jsonl", UserError, "There is no file of captions"),
        ("data.fingerprint=ffff", StoreError, "no set"),
        ("data.validation=test", UserError, "no image of split 'test' with features; .* are train, val"),
        ("text.min_count=1000", UserError, "no words"),
    ],
)
def test_bad_input_is_told(world, override, error, message):
    with pytest.raises(error, match=message):
        prepare(tiny_recipe(world, Path("run"), override))


def test_pictures_of_the_validation_that_are_trained_on_are_counted(world, capsys):
    prepare(tiny_recipe(world, Path("run")))
    assert "trained on" not in capsys.readouterr().err
    prepare(tiny_recipe(world, Path("run"), "data.train=val", "data.validation_images=4"))
    told = capsys.readouterr().err
    assert told.startswith("4 pictures (image018, image019, image020, image021) of 4 that choose the epoch are trained")


def test_captions_without_images_and_images_without_captions_are_counted_and_named(world):
    path = Path("captions.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[0]["image_id"], lines[0]["file"] = "stranger", "stranger.jpg"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    task, about = prepare(tiny_recipe(world, Path("run")))
    assert (about["captions_without_image"], about["images_without_captions"], about["images"]) == (1, 1, 17)
    assert about["unmatched"] == "captions without an image: 1 (stranger); images without captions: 1 (image000)"
    assert "image000" not in task.train.image_ids


def test_what_is_learnt_from_is_known_by_its_content(world, tmp_path):
    recipe = tiny_recipe(world, tmp_path / "run")
    original, captions = prepare(recipe)[0].data_id, Path("captions.jsonl").read_text()
    # Another word in the place of one: the same tokens.
    change_captions(lambda line: line | {"captions": [text.replace("disc", "disk") for text in line["captions"]]})
    assert prepare(recipe)[0].data_id != original
    # Words that are known to no vocabulary, but to scores.
    Path("captions.jsonl").write_text(captions.replace('"a green disc"', '"a GREEN disc"'))
    assert prepare(recipe)[0].data_id != original
    Path("captions.jsonl").write_text(captions)
    assert prepare(recipe)[0].data_id == original
    # Other pictures of the same names.
    other = tmp_path / "other"
    other.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.worlds.training.features_of", lambda index: tuple(2 * part for part in features_of(index)))
        make_world(other)
    assert prepare(tiny_recipe([f"data.store={other / 'store'}", world[1]], tmp_path / "run"))[0].data_id != original


def test_captions_get_the_case_of_those_that_are_learnt_from(world):
    change_captions(lambda line: line | {"captions": [f"A {said.title()}" for said in line["captions"]]})
    plain, cased = (prepare(tiny_recipe(world, Path("run"), f"text.truecase={flag}"))[0] for flag in ("false", "true"))
    for task, expected in ((plain, "a red disc"), (cased, "A Red Disc")):
        vocabulary = Vocabulary.from_json(task.vocabulary)
        assert vocabulary.decode(vocabulary.encode("a red disc")) == expected


def test_the_first_pictures_alone_are_trained_on(world):
    task, about = prepare(tiny_recipe(world, Path("run"), "data.train_images=5"))
    assert about["images"] == 5 and task.train.image_ids == [f"image{n:03d}" for n in range(5)]
