"""A small world to learn: pictures of coloured shapes, with captions in English and in German.

A picture shows one or two groups, each of one to three equal shapes; a caption names the count, size, colour, shape
and position of every group, so that ``attributes(caption) == scene`` says whether it is exactly right, however it is
worded. Everything is a function of the seed.

    OUT/images/test-00007.jpg     160 x 160 pixels
    OUT/captions.jsonl            {"image_id", "file", "split", "captions"}; captions_de.jsonl has them in German
    OUT/text/train.en, train.de   the same sentences line by line, a translation corpus; also val and test
    OUT/world.json                the seed, and the scene of every picture

Held out: one in ``HELD_OUT`` of all possible groups (count, size, colour, shape and place together) occurs in ``test``
alone, whose pictures show nothing else. To caption them a model must put together what it has only seen apart.
"""

from __future__ import annotations

import json
import math
import random
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

SIDE = 160
"""Pixels of a picture's edge."""

VERSION = 2
"""Of what a seed makes; a change of drawing or wording must raise it, so that an older folder is not reused."""


class Group(NamedTuple):
    """Equal shapes that stand together. A field that a caption does not name is 0 or empty."""

    position: str = ""
    number: int = 0
    size: str = ""
    colour: str = ""
    shape: str = ""


Scene = tuple[Group, ...]
"""Groups in the order of POSITIONS, no two in one place."""

POSITIONS = {
    "top left": (36, 36), "top right": (124, 36), "middle": (80, 80),
    "bottom left": (36, 124), "bottom right": (124, 124),
}  # fmt: skip
COUNTS = (1, 2, 3)
SIZES = {"large": 12.0, "small": 7.5}
COLOURS = {
    "red": (210, 40, 40), "green": (40, 150, 60), "blue": (40, 70, 205),
    "yellow": (240, 205, 30), "black": (25, 25, 30), "purple": (140, 50, 165),
}  # fmt: skip
SHAPES = ("circle", "triangle", "star", "diamond")
HELD_OUT = 8
"""One group in so many is held out."""


# The scene


def scene(rng: random.Random, held_out: bool, groups: tuple[int, ...] = (1, 1, 2)) -> Scene:
    """A scene of one of ``groups`` groups: held-out ones alone if ``held_out``, else none of them."""
    while True:
        number = rng.choice(groups)
        places = sorted(rng.sample(list(POSITIONS), number), key=list(POSITIONS).index)
        drawn = tuple(
            Group(place, rng.choice(COUNTS), rng.choice(list(SIZES)), rng.choice(list(COLOURS)), rng.choice(SHAPES))
            for place in places
        )
        if all(is_held_out(group) == held_out for group in drawn):
            return drawn


def is_held_out(group: Group) -> bool:
    """Every group that differs from a held-out one in a single attribute is seen in training."""
    values = (tuple(POSITIONS), COUNTS, tuple(SIZES), tuple(COLOURS), SHAPES)
    return sum(choices.index(value) for choices, value in zip(values, group, strict=True)) % HELD_OUT == 0


# The picture


def draw(scene: Scene, rng: random.Random) -> Image.Image:
    """The picture of a scene: jittered places, sizes, angles and hues on a shaded, noisy background."""
    scale = 2
    canvas = background(rng).resize((SIDE * scale, SIDE * scale))
    pen = ImageDraw.Draw(canvas)
    for group in scene:
        radius = SIZES[group.size] * rng.uniform(0.94, 1.08)
        colour = tuple(min(255, max(0, value + rng.randint(-15, 15))) for value in COLOURS[group.colour])
        for x, y in centres(group, radius, rng):
            corners = outline(group.shape, radius, rng.uniform(-0.15, 0.15))
            pen.polygon([((x + dx) * scale, (y + dy) * scale) for dx, dy in corners], fill=colour)
    pixels = np.asarray(canvas.reduce(scale), np.float32)
    noise = np.random.default_rng(rng.getrandbits(64)).standard_normal(pixels.shape, np.float32)
    return Image.fromarray((pixels + 4 * noise).clip(0, 255).astype(np.uint8))


def background(rng: random.Random) -> Image.Image:
    """Four light corner colours, blended."""
    light = rng.randint(185, 235)
    corners = [[light + rng.randint(-20, 20) for _ in range(3)] for _ in range(4)]
    return Image.fromarray(np.array(corners, np.uint8).reshape(2, 2, 3))


def centres(group: Group, radius: float, rng: random.Random) -> list[tuple[float, float]]:
    """Where the shapes of a group stand: apart from one another, around the group's place."""
    x, y = POSITIONS[group.position]
    if group.number == 1:
        return [(x + rng.uniform(-7, 7), y + rng.uniform(-7, 7))]
    nearest = 1.25 * radius / math.sin(math.pi / group.number) + 1
    ring, turn = max(nearest, rng.uniform(nearest, 17)), rng.uniform(0, math.tau)
    angles = [turn + math.tau * place / group.number for place in range(group.number)]
    return [(x + ring * math.cos(angle), y + ring * math.sin(angle)) for angle in angles]


def outline(shape: str, radius: float, turn: float) -> list[tuple[float, float]]:
    """Corners of a shape around the origin, turned by ``turn`` radians; y points down."""
    spokes = {
        "circle": [(1.0, k / 48) for k in range(48)],
        "triangle": [(1.15, k / 3) for k in range(3)],
        "star": [(1.2 if k % 2 == 0 else 0.5, k / 10) for k in range(10)],
        "diamond": [(1.2 if k % 2 == 0 else 0.65, k / 4) for k in range(4)],
    }[shape]
    angles = [(length * radius, turn + math.tau * (part - 1 / 4)) for length, part in spokes]
    return [(length * math.cos(angle), length * math.sin(angle)) for length, angle in angles]


# The words. German nouns have a gender, and adjectives and articles an ending by gender, number and case.

GERMAN_SHAPES = {
    "circle": ("Kreis", "Kreise", "m"), "diamond": ("Raute", "Rauten", "f"),
    "triangle": ("Dreieck", "Dreiecke", "n"), "star": ("Stern", "Sterne", "m"),
}  # fmt: skip
GERMAN_STEMS = {
    "large": "groß", "small": "klein", "red": "rot", "green": "grün", "blue": "blau",
    "yellow": "gelb", "black": "schwarz", "purple": "violett",
}  # fmt: skip
GERMAN_PLACES = {
    "top left": "oben links", "top right": "oben rechts", "middle": "in der Mitte",
    "bottom left": "unten links", "bottom right": "unten rechts",
}  # fmt: skip
ARTICLES = {
    "nominative": {"m": "ein", "n": "ein", "f": "eine"},
    "accusative": {"m": "einen", "n": "ein", "f": "eine"},
    "dative": {"m": "einem", "n": "einem", "f": "einer"},
}
ENDINGS = {
    "nominative": {"m": "er", "n": "es", "f": "e", "plural": "e"},
    "accusative": {"m": "en", "n": "es", "f": "e", "plural": "e"},
    "dative": {"m": "en", "n": "en", "f": "en", "plural": "en"},
}
ENGLISH_NUMBERS = {2: "two", 3: "three"}
GERMAN_NUMBERS = {2: "zwei", 3: "drei"}
SYNONYMS = {"large": ("large", "big"), "small": ("small", "little")}


def english(group: Group, size: str) -> str:
    """ "two large red stars"; ``size`` is the word for the size."""
    if group.number == 1:
        return f"a {size} {group.colour} {group.shape}"
    return f"{ENGLISH_NUMBERS[group.number]} {size} {group.colour} {group.shape}s"


def german(group: Group, case: str) -> str:
    """ "zwei große rote Sterne", declined for ``case``."""
    singular, plural, gender = GERMAN_SHAPES[group.shape]
    ending = ENDINGS[case][gender if group.number == 1 else "plural"]
    size, colour = GERMAN_STEMS[group.size] + ending, GERMAN_STEMS[group.colour] + ending
    if group.number == 1:
        return f"{ARTICLES[case][gender]} {size} {colour} {singular}"
    if case == "dative" and not plural.endswith("n"):
        plural += "n"
    return f"{GERMAN_NUMBERS[group.number]} {size} {colour} {plural}"


ENGLISH = ("{}.", "The picture shows {}.", "You can see {}.", "A picture of {}.", "{}.")
GERMAN = ("{}.", "Das Bild zeigt {}.", "Man sieht {}.", "Ein Bild mit {}.", "{}.")
CASES = ("nominative", "accusative", "accusative", "dative", "nominative")
PLACE_FIRST = len(ENGLISH) - 1
"""The template that names a group's place before the group: "In the middle there is a small red star"."""


def captions(scene: Scene, rng: random.Random) -> tuple[list[str], list[str]]:
    """Five sentences in English, and the same five in German."""
    pairs = [caption_pair(scene, template, rng) for template in range(len(ENGLISH))]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def caption_pair(scene: Scene, template: int, rng: random.Random) -> tuple[str, str]:
    """One sentence in English and in German; ``template`` is an index of ENGLISH and GERMAN."""
    first, second = [], []
    for group in scene:
        here, dort = f"in the {group.position}", GERMAN_PLACES[group.position]
        words, worte = english(group, rng.choice(SYNONYMS[group.size])), german(group, CASES[template])
        if template == PLACE_FIRST:
            first.append(f"{here} there {'is' if group.number == 1 else 'are'} {words}")
            second.append(f"{dort} {'ist' if group.number == 1 else 'sind'} {worte}")
        else:
            first.append(f"{words} {here}")
            second.append(f"{worte} {dort}")
    pair = ENGLISH[template].format(listed(first, "and")), GERMAN[template].format(listed(second, "und"))
    english_sentence, german_sentence = (sentence[0].upper() + sentence[1:] for sentence in pair)
    return english_sentence, german_sentence


def listed(items: list[str], conjunction: str) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {conjunction} {items[-1]}"


# The words read back


def lexicon() -> dict[str, tuple[str, str | int]]:
    """Every word or phrase of either language that names an attribute, as (field, value), in lower case."""
    words: dict[str, tuple[str, str | int]] = {"a": ("number", 1), "one": ("number", 1)}
    words |= {word: ("number", 1) for articles in ARTICLES.values() for word in articles.values()}
    words |= {
        word: ("number", count) for numbers in (ENGLISH_NUMBERS, GERMAN_NUMBERS) for count, word in numbers.items()
    }
    words |= {word: ("size", size) for size, synonyms in SYNONYMS.items() for word in synonyms}
    words |= {colour: ("colour", colour) for colour in COLOURS}
    endings = {ending for case in ENDINGS.values() for ending in case.values()}
    for name, stem in GERMAN_STEMS.items():
        words |= {stem + ending: ("size" if name in SIZES else "colour", name) for ending in endings}
    for shape, (singular, plural, _) in GERMAN_SHAPES.items():
        forms = (shape, f"{shape}s", singular, plural, f"{plural}n")
        words |= {form.lower(): ("shape", shape) for form in forms}
    words |= {place: ("position", place) for place in POSITIONS}
    words |= {word.lower(): ("position", place) for place, word in GERMAN_PLACES.items()}
    return words


LEXICON = lexicon()
WORDS = re.compile("|".join(rf"\b{re.escape(word)}\b" for word in sorted(LEXICON, key=len, reverse=True)))
NO_COUNT = re.compile(r"^\s*(a picture|ein bild)\b")
"""Here the article counts the picture, not a shape."""


def attributes(caption: str) -> Scene:
    """The groups that a caption of either language names, in the order of their places.

    A group is complete when its five attributes are named; one that is named twice before that begins the next group
    and leaves the last one incomplete, which equals no group of a scene.
    """
    groups: list[Group] = []
    current: dict[str, Any] = {}
    for match in WORDS.finditer(NO_COUNT.sub("", caption.lower())):
        field, value = LEXICON[match.group()]
        if field in current:
            groups.append(Group(**current))
            current = {}
        current[field] = value
        if len(current) == len(Group._fields):
            groups.append(Group(**current))
            current = {}
    if current:
        groups.append(Group(**current))
    order = {place: index for index, place in enumerate(POSITIONS)}
    return tuple(sorted(groups, key=lambda group: (order.get(group.position, -1), group)))


# The folder


def make(out: Path, sizes: dict[str, int], seed: int = 0) -> dict[str, Any]:
    """Write a world of ``sizes`` pictures per split to ``out`` and return its world.json, written last."""
    (out / "images").mkdir(parents=True, exist_ok=True)
    (out / "text").mkdir(exist_ok=True)
    rows: dict[str, list[dict[str, Any]]] = {"en": [], "de": []}
    scenes = {}
    for split, size in sizes.items():
        for number in range(size):
            image_id = f"{split}-{number:05d}"
            rng = random.Random(f"{seed}/{image_id}")
            shown = scene(rng, held_out=split == "test")
            draw(shown, rng).save(out / "images" / f"{image_id}.jpg", quality=92)
            for language, sentences in zip(rows, captions(shown, rng), strict=True):
                row = {"image_id": image_id, "file": f"images/{image_id}.jpg", "split": split, "captions": sentences}
                rows[language].append(row)
            scenes[image_id] = shown
    write_captions(out / "captions.jsonl", rows["en"])
    write_captions(out / "captions_de.jsonl", rows["de"])
    for language, of_language in rows.items():
        for split in sizes:
            sentences = [text for row in of_language if row["split"] == split for text in row["captions"]]
            (out / "text" / f"{split}.{language}").write_text("".join(f"{text}\n" for text in sentences), "utf-8")
    about = {"version": VERSION, "seed": seed, "sizes": sizes, "scenes": scenes}
    (out / "world.json").write_text(json.dumps(about), "utf-8")
    return about


def write_captions(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
