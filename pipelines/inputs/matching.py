"""Captions and the images that there are, joined by their ids, however each side spells them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from pipelines.errors import UserError
from pipelines.inputs.captions import Captioned, naming, stem


@dataclass(frozen=True)
class Joined:
    """Captions that have an image, under the image's id, and what is without its other half."""

    examples: list[Captioned]
    without_image: list[str]
    without_captions: list[str]

    def __iter__(self) -> Iterator[Captioned]:
        return iter(self.examples)

    def describe(self) -> str:
        """One line for the user; empty where everything met."""
        lines = []
        if self.without_image:
            lines.append(f"captions without an image: {naming(self.without_image)}")
        if self.without_captions:
            lines.append(f"images without captions: {naming(self.without_captions)}")
        return "; ".join(lines)


def join(examples: list[Captioned], image_ids: Iterable[str]) -> Joined:
    """Give each example the image id of the store (or listing) that it means.

    Data sets and image folders name one image differently: ``391895``, ``val2014/COCO_val2014_391895.jpg``,
    ``COCO_val2014_391895``. Of the ways to spell an example (its id, its path, the path without suffix, the file's
    name, the name without suffix) and an image (its id, or the id's last part) the pair that meets most is used for
    all; a spelling that two share is not used.

    Raises:
        UserError: nothing meets; the message shows an id of each side.
    """
    available = list(image_ids)
    by_id, by_name = {name: name for name in available}, {PurePosixPath(name).name: name for name in available}
    best: dict[str, Captioned] = {}
    images = by_id
    for spelled_images in (by_id, by_name) if len(by_name) == len(by_id) else (by_id,):
        for spell in SPELLINGS:
            spelled = {spell(example): example for example in examples}
            if len(spelled) == len(examples) and meeting(spelled, spelled_images) > meeting(best, images):
                best, images = spelled, spelled_images
    joined = [replace(example, image_id=images[name]) for name, example in best.items() if name in images]
    if not joined:
        ours, theirs = (min(names, default="nothing") for names in ([e.image_id for e in examples], available))
        raise UserError(
            f"None of {len(examples):,} captioned images is among the {len(available):,} images that there are: the "
            f"captions say {ours!r}, the images {theirs!r}. Are these captions of these images?"
        )
    without_image = [name for name in best if name not in images]
    return Joined(joined, without_image, sorted(images[name] for name in images.keys() - best.keys()))


def meeting(examples: dict[str, Captioned], images: dict[str, str]) -> int:
    return len(examples.keys() & images.keys())


SPELLINGS: tuple[Callable[[Captioned], str], ...] = (
    lambda example: example.image_id,
    lambda example: example.file,
    lambda example: str(PurePosixPath(example.file).with_suffix("")) if example.file else "",
    lambda example: PurePosixPath(example.file).name,
    lambda example: stem(example.file),
)
