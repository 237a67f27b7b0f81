"""Captions and the images that there are, matched by one rule, however each side names an image."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from pipelines.console import plural
from pipelines.errors import UserError
from pipelines.inputs.caption_formats import Captioned, composed
from pipelines.inputs.entries import naming

SUFFIX = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,4}$")
"""Of a file's name. What follows the last full stop of ``3504_586949ec62.jpg.1`` or ``v1.5`` is none."""
NUMBERED = re.compile(r"(?:.*[^0-9])?([0-9]{6,})")
"""A name that ends with a number of fixed width, as COCO_val2014_000000391895 does."""


@dataclass(frozen=True)
class Matches:
    """Captions that have an image, under the image's id, and what is without its other half.

    Attributes:
        examples: in the order of the captions.
        without_image: names of the other captions, spelled as their images would be where something matched.
        ambiguous: those of them that fit several images, or name the same one as others.
        without_captions: ids of images, sorted.
    """

    examples: list[Captioned]
    without_image: list[str] = field(default_factory=list)
    without_captions: list[str] = field(default_factory=list)
    ambiguous: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[Captioned]:
        return iter(self.examples)

    def describe(self) -> str:
        """One line for the user; empty where every image has captions and every caption its image."""
        lines = []
        if self.without_image:
            lines.append(f"captions without an image: {naming(self.without_image)}")
        if self.ambiguous:
            lines.append(f"of these, names that fit several images or captions: {naming(self.ambiguous)}")
        if self.without_captions:
            lines.append(f"images without captions: {naming(self.without_captions)}")
        return "; ".join(lines)


def match_captions(examples: list[Captioned], image_ids: Iterable[str]) -> Matches:
    """Give each example the id that its image has in a store or listing.

    Data sets and image folders name one image differently: ``391895``, ``val2014/COCO_val2014_000000391895.jpg``,
    ``COCO_val2014_000000391895``. Of the ways in ``RULES`` to compare a name of the examples (id, path, or another id)
    with an image's id, the one that matches most is used for all; of several the strictest. A name matches only if no
    other example and no other image has it; and where folders agree for some images, they have to for all.

    Raises:
        UserError: nothing matches; the message shows an id of each side.
    """
    available = list(image_ids)
    best, folders_agree = Comparison([], {}, set()), False
    for spell_example, spell_image in RULES:
        images = group(available, spell_image)
        for name_of in NAMES:
            compared = compare([spell_example(name_of(example)) for example in examples], images)
            if folders_agree:
                compared = compared.without_contradictions(examples)
            if len(compared.image_of) > len(best.image_of) or not (best.image_of or best.ambiguous):
                best = compared
        folders_agree = folders_agree or any(last_two(image) for image in best.image_of.values())
        if len(best.image_of) == len(examples):
            break
    if not best.image_of:
        ours, theirs = (min(names, default="nothing") for names in ([e.image_id for e in examples], available))
        several = [examples[number].image_id for number in sorted(best.ambiguous)]
        shared = f" {naming(several, 'name')} fit several images or captions." if several else ""
        raise UserError(
            f"The captions are of {len(examples):,} {plural('image', len(examples))}, {ours!r} for one, and none of "
            f"them is among the {len(available):,} to be matched, {theirs!r} for one.{shared} Are these captions of "
            "these images?"
        )
    matched = [(number, example) for number, example in enumerate(examples) if number in best.image_of]
    names = [spelling or example.image_id for spelling, example in zip(best.spellings, examples, strict=True)]
    return Matches(
        [replace(example, image_id=best.image_of[number]) for number, example in matched],
        [name for number, name in enumerate(names) if number not in best.image_of],
        sorted(set(available) - set(best.image_of.values())),
        [names[number] for number in sorted(best.ambiguous)],
    )


@dataclass(frozen=True)
class Comparison:
    """What one rule gives.

    Attributes:
        spellings: of the examples, in their order; "" where the rule has none.
        image_of: the image of an example, by the example's number.
        ambiguous: numbers of examples that fit several images, or share one.
    """

    spellings: list[str]
    image_of: dict[int, str]
    ambiguous: set[int]

    def without_contradictions(self, examples: list[Captioned]) -> Comparison:
        """Without pairs of files of one name in different folders."""

        def contradicts(example: Captioned, image: str) -> bool:
            folders = [SUFFIX.sub("", last_two(name)) for name in (example.file or example.image_id, image)]
            return all(folders) and folders[0] != folders[1]

        kept = {number: image for number, image in self.image_of.items() if not contradicts(examples[number], image)}
        return Comparison(self.spellings, kept, self.ambiguous)


def compare(spellings: list[str], images: dict[str, str | None]) -> Comparison:
    """Which of ``images`` each example is, by the examples' spellings."""
    numbers: dict[str, list[int]] = {}
    for number, key in enumerate(spellings):
        if key in images:
            numbers.setdefault(key, []).append(number)
    image_of: dict[int, str] = {}
    ambiguous: set[int] = set()
    for key, those in numbers.items():
        image = images[key]
        if image is None or len(those) > 1:
            ambiguous.update(those)
        else:
            image_of[those[0]] = image
    return Comparison(spellings, image_of, ambiguous)


def group(image_ids: list[str], spell: Callable[[str], str]) -> dict[str, str | None]:
    """The image of each spelling; None where several have it."""
    images: dict[str, str | None] = {}
    for image_id in image_ids:
        key = spell(image_id)
        if key:
            images[key] = None if key in images else image_id
    return images


def path_of(name: str) -> str:
    """A path as every system writes it: ``./a\\b.jpg`` is ``a/b.jpg``."""
    return posixpath.normpath(composed(name).replace("\\", "/")) if name else ""


def last_two(name: str) -> str:
    """The file and its folder; "" where there is no folder."""
    parts = path_of(name).split("/")
    return "/".join(parts[-2:]) if len(parts) > 1 else ""


def last(name: str) -> str:
    return path_of(name).rpartition("/")[2]


def without_suffix(spell: Callable[[str], str]) -> Callable[[str], str]:
    return lambda name: SUFFIX.sub("", spell(name))


def number_at_end(name: str) -> str:
    """The number that COCO's file names end with, as COCO's ids are; "" where there is none."""
    match = NUMBERED.fullmatch(SUFFIX.sub("", last(name)))
    return str(int(match[1])) if match else ""


def only_number(name: str) -> str:
    """A whole number as such; "" of what is none."""
    match = re.fullmatch(r"([0-9]{1,18})(?:\.0)?", name)  # pandas writes 5.0 where some rows have no number
    return str(int(match[1])) if match else ""


def as_it_is(name: str) -> str:
    return name


NAMES: tuple[Callable[[Captioned], str], ...] = (
    lambda example: example.image_id,
    lambda example: example.file,
    lambda example: example.aliases[0] if example.aliases else "",
)
"""What an example may be called."""

RULES: tuple[tuple[Callable[[str], str], Callable[[str], str]], ...] = (
    (as_it_is, as_it_is),
    (path_of, path_of),
    (last_two, last_two),
    (last, last),
    (without_suffix(path_of), without_suffix(path_of)),
    (without_suffix(last_two), without_suffix(last_two)),
    (without_suffix(last), without_suffix(last)),
    (only_number, only_number),
    (number_at_end, only_number),
    (only_number, number_at_end),
)
"""How a name of an example is compared with an image's id, the strictest first."""
