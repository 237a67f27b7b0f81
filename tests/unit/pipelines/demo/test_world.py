"""The generated world: equal for equal seeds, read back exactly, grammatical, with its held-out part held out."""

from __future__ import annotations

import itertools
import json
import random

import numpy as np
import pytest
from PIL import Image

from pipelines.demo import world
from pipelines.demo.world import Group

TEMPLATES = range(len(world.ENGLISH))
SIZES = {"train": 30, "val": 5, "test": 10}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("world")
    world.make(out, SIZES, seed=3)
    return out


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rows(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_a_seed_makes_one_world(made, tmp_path):
    world.make(tmp_path / "again", SIZES, seed=3)
    world.make(tmp_path / "other", SIZES, seed=4)
    assert contents(tmp_path / "again") == contents(made)
    assert rows(tmp_path / "other" / "captions.jsonl") != rows(made / "captions.jsonl")


def test_a_larger_world_begins_with_the_smaller(made, tmp_path):
    world.make(tmp_path, {"train": 31}, seed=3)
    assert rows(tmp_path / "captions.jsonl")[:30] == rows(made / "captions.jsonl")[:30]


def test_every_caption_of_both_languages_reads_back(made):
    scenes = json.loads((made / "world.json").read_text())["scenes"]
    count = 0
    for language in ("captions.jsonl", "captions_de.jsonl"):
        for row in rows(made / language):
            shown = tuple(Group(*group) for group in scenes[row["image_id"]])
            assert [world.attributes(caption) for caption in row["captions"]] == [shown] * len(TEMPLATES)
            count += len(row["captions"])
    assert count == 2 * 45 * 5


@pytest.mark.parametrize("template", TEMPLATES)
def test_every_group_reads_back_in_every_template(template):
    rng = random.Random(0)
    groups = [
        Group(place, count, size, colour, shape)
        for place in world.POSITIONS
        for count in world.COUNTS
        for size in world.SIZES
        for colour in world.COLOURS
        for shape in world.SHAPES
    ]
    assert len(groups) == 5 * 3 * 2 * 6 * 4
    for group in groups:
        for caption in world.caption_pair((group,), template, rng):
            assert world.attributes(caption) == (group,), caption


RED_CIRCLE = Group("top left", 1, "small", "red", "circle")
STARS = Group("middle", 2, "large", "black", "star")


@pytest.mark.parametrize(
    ("caption", "read"),
    [
        ("a big black star in the middle", (STARS._replace(number=1),)),
        ("two large black stars in the middle and a little red circle in the top left", (RED_CIRCLE, STARS)),
        ("TWO LARGE BLACK STARS, IN THE MIDDLE", (STARS,)),
        ("a small red circle", (RED_CIRCLE._replace(position=""),)),
        ("a red red circle", (Group(number=1, colour="red"), Group(colour="red", shape="circle"))),
        ("a dog on the sofa", (Group(number=1),)),
        ("", ()),
    ],
)  # fmt: skip
def test_reading_is_of_attributes_not_of_wording(caption, read):
    assert sorted(world.attributes(caption)) == sorted(read)


def test_the_same_group_told_twice_is_not_the_scene():
    once = "a small red circle in the top left"
    assert world.attributes(f"{once} and {once}") == (RED_CIRCLE, RED_CIRCLE)


def one(shape, colour="red", size="small", count=1, place="top left"):
    return Group(place, count, size, colour, shape)


@pytest.mark.parametrize(
    ("group", "case", "words"),
    [
        (one("circle"), "nominative", "ein kleiner roter Kreis"),
        (one("circle"), "accusative", "einen kleinen roten Kreis"),
        (one("circle"), "dative", "einem kleinen roten Kreis"),
        (one("star", "black", "large"), "accusative", "einen großen schwarzen Stern"),
        (one("triangle", "blue"), "nominative", "ein kleines blaues Dreieck"),
        (one("triangle", "blue"), "accusative", "ein kleines blaues Dreieck"),
        (one("triangle", "yellow", "large"), "dative", "einem großen gelben Dreieck"),
        (one("diamond", "purple"), "nominative", "eine kleine violette Raute"),
        (one("diamond", "purple"), "accusative", "eine kleine violette Raute"),
        (one("diamond", "purple"), "dative", "einer kleinen violetten Raute"),
        (one("circle", "green", count=2), "nominative", "zwei kleine grüne Kreise"),
        (one("triangle", "green", "large", 3), "accusative", "drei große grüne Dreiecke"),
        (one("star", "green", count=2), "dative", "zwei kleinen grünen Sternen"),
        (one("diamond", "green", count=3), "dative", "drei kleinen grünen Rauten"),
    ],
)
def test_german_is_declined(group, case, words):
    assert world.german(group, case) == words


SENTENCES = """
A {} red circle in the top left and two {} black stars in the middle.
Ein kleiner roter Kreis oben links und zwei große schwarze Sterne in der Mitte.
The picture shows a {} red circle in the top left and two {} black stars in the middle.
Das Bild zeigt einen kleinen roten Kreis oben links und zwei große schwarze Sterne in der Mitte.
You can see a {} red circle in the top left and two {} black stars in the middle.
Man sieht einen kleinen roten Kreis oben links und zwei große schwarze Sterne in der Mitte.
A picture of a {} red circle in the top left and two {} black stars in the middle.
Ein Bild mit einem kleinen roten Kreis oben links und zwei großen schwarzen Sternen in der Mitte.
In the top left there is a {} red circle and in the middle there are two {} black stars.
Oben links ist ein kleiner roter Kreis und in der Mitte sind zwei große schwarze Sterne.
""".strip().splitlines()


@pytest.mark.parametrize("template", TEMPLATES)
def test_sentences(template):
    english, german = SENTENCES[2 * template : 2 * template + 2]
    said = [world.caption_pair((RED_CIRCLE, STARS), template, random.Random(seed)) for seed in range(20)]
    sizes = [(small, large) for small in ("small", "little") for large in ("large", "big")]
    assert {pair[0] for pair in said} == {english.format(*words) for words in sizes}
    assert {pair[1] for pair in said} == {german}


def test_what_is_held_out_is_in_test_pictures_alone_and_nothing_else_is(made):
    shown = {"test": set(), "train": set(), "val": set()}
    for image_id, groups in json.loads((made / "world.json").read_text())["scenes"].items():
        shown[image_id.partition("-")[0]] |= {tuple(group) for group in groups}
    assert shown["test"]
    assert not shown["test"] & (shown["train"] | shown["val"])
    assert all(world.is_held_out(Group(*group)) for group in shown["test"])


def test_each_held_out_group_differs_from_a_seen_one_in_any_single_attribute():
    values = (list(world.POSITIONS), world.COUNTS, list(world.SIZES), list(world.COLOURS), world.SHAPES)
    groups = [Group(*chosen) for chosen in itertools.product(*values)]
    held = [group for group in groups if world.is_held_out(group)]
    assert len(held) == pytest.approx(len(groups) / world.HELD_OUT, rel=0.25)
    for group in held:
        for field, choices in zip(Group._fields, values, strict=True):
            others = [group._replace(**{field: value}) for value in choices if value != getattr(group, field)]
            assert not any(world.is_held_out(other) for other in others), (group, field)


CHANGES = [{"colour": "blue"}, {"shape": "triangle"}, {"size": "large"}, {"number": 2}, {"position": "middle"}]


@pytest.mark.parametrize("change", CHANGES)
def test_another_attribute_is_another_picture(change):
    groups = RED_CIRCLE, RED_CIRCLE._replace(**change)
    plain, changed = (np.asarray(world.draw((group,), random.Random(0)), np.int16) for group in groups)
    # Beyond noise, whose standard deviation is 4: some pixels belong to another thing.
    assert (np.abs(plain - changed).max(-1) > 60).sum() > 20


def test_shapes_stay_in_the_picture_and_apart():
    for seed in range(300):
        rng = random.Random(seed)
        group = Group(rng.choice(list(world.POSITIONS)), rng.choice(world.COUNTS), "large", "red", "star")
        radius = world.SIZES["large"] * 1.08
        places = np.array(world.centres(group, radius, rng))
        assert ((places - 1.2 * radius > 0) & (places + 1.2 * radius < world.SIDE)).all()
        apart = [np.linalg.norm(a - b) for n, a in enumerate(places) for b in places[:n]]
        assert all(distance > 2 * 1.2 * radius for distance in apart)


def test_the_folder_is_as_told(made):
    row = rows(made / "captions.jsonl")[0]
    assert row.keys() == {"image_id", "file", "split", "captions"}
    assert Image.open(made / row["file"]).size == (world.SIDE, world.SIDE)
    for split, size in SIZES.items():
        english, german = ((made / "text" / f"{split}.{end}").read_text("utf-8").splitlines() for end in ("en", "de"))
        assert len(english) == len(german) == 5 * size
        assert [world.attributes(line) for line in english] == [world.attributes(line) for line in german]
