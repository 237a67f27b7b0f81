"""The file formats of captions, each to ``Captioned``.

========  ==================================================================================================
listing   a JSON object a line: {"image_id", "file", "split", "captions": [...]}; other keys are left alone
COCO      {"images": [{"id", "file_name"}], "annotations": [{"image_id", "caption"}]}; the split is the word
          train, val or test in the name of the file
Karpathy  {"images": [{"filename", "filepath", "split", "sentences": [{"raw"}]}]}; ``restval`` is train, as in
          the papers that train on it; COCO's ids (``cocoid``) name the images, too
Flickr    ``NAME#K<tab>caption`` lines; splits from ``*trainImages.txt``, ``*devImages.txt`` and
          ``*testImages.txt`` beside it, where those are, with a name a line
========  ==================================================================================================

Ids are compared as text, so that 5 is "5".
"""

from __future__ import annotations

import json
import posixpath
import re
import unicodedata
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from pipelines.console import tell
from pipelines.errors import UserError
from pipelines.files.filesystems import as_uri, locate, names_in
from pipelines.files.jsonl import from_json, refuse_halves, shown
from pipelines.files.text import read_text
from pipelines.inputs.entries import naming, numbered_lines, parse_each, value_of

SPLITS = {
    **dict.fromkeys(("train", "training", "restval"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "minival"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""What data sets call their splits, and what they are called here."""

EXPECTED = (
    "Expected: a JSON object a line with image_id, file, split and captions; COCO's captions JSON; Karpathy's "
    "dataset JSON; or Flickr's lines NAME#K<tab>caption."
)
FLICKR_LINE = r"[^\t\n]+#\d+\t"
SPLIT_LIST = re.compile(r"(?:^|[^a-zA-Z])(train|dev|val|test)Images[.]txt$")


@dataclass(frozen=True)
class Captioned:
    """An image and its captions.

    Attributes:
        image_id: as the data has it, else the file's name without its suffix.
        file: the path as the data names it; "" where it names none.
        split: train, val or test; "" where the data names none.
        aliases: other ids that the data gives the image.
        id_from_name: whether ``image_id`` is only the file's name.
    """

    image_id: str
    file: str
    split: str
    captions: tuple[str, ...]
    aliases: tuple[str, ...] = field(default=(), compare=False)
    id_from_name: bool = field(default=False, compare=False)


def read_file(path: str) -> list[Captioned]:
    """The captioned images of one file, with the splits that it names.

    Raises:
        UserError: it is of no format that is known here, or an entry is not as its format has it.
    """
    text = read_text(path)
    start = text.lstrip()
    if start.startswith("{"):
        return from_objects(path, text)
    if re.match(FLICKR_LINE, start):
        return from_flickr(path, text)
    first = start.split("\n", 1)[0][:80]
    raise UserError(f"{path} is not a file of captions: it begins with {first!r}. {EXPECTED}")


def from_objects(path: str, text: str) -> list[Captioned]:
    """The formats in JSON: one object, or one a line."""
    try:
        whole = from_json(text)
    except json.JSONDecodeError:
        return parse_each(path, numbered_lines(text), lambda line: from_listing(from_json(line)), EXPECTED)
    except ValueError as error:
        raise UserError(f"{path}: the first JSON object cannot be read: {error}. {EXPECTED}") from None
    if "images" not in whole:
        return parse_each(path, [("line 1", whole)], from_listing, EXPECTED)
    return from_coco(path, whole) if "annotations" in whole else from_karpathy(path, whole)


def from_listing(entry: Any) -> Captioned:
    """A line of a listing.

    Raises:
        ValueError, KeyError: it is not as the format has it; so for all formats.
    """
    captions = value_of(entry, "captions", list)
    if not all(isinstance(caption, str) for caption in captions):
        raise ValueError(f"'captions' is {shown(captions)}, expected a list of strings")
    refuse_halves(captions)
    file = value_of(entry, "file", str) if "file" in entry else ""
    image_id = str(value_of(entry, "image_id", int | str)) if "image_id" in entry else None
    return captioned(image_id, file, entry.get("split"), captions)


def from_karpathy(path: str, whole: dict[str, Any]) -> list[Captioned]:
    def parse(entry: Any) -> Captioned:
        file = value_of(entry, "filename", str)
        if "filepath" in entry:
            file = posixpath.join(value_of(entry, "filepath", str), file)
        captions = [value_of(sentence, "raw", str) for sentence in value_of(entry, "sentences", list)]
        # What others write as image_id of their results: COCO's id, and the running number where there is none.
        key = next((key for key in ("cocoid", "imgid") if entry.get(key) is not None), None)
        aliases = (str(value_of(entry, key, int | str)),) if key else ()
        return captioned(None, file, value_of(entry, "split", str), captions, aliases)

    return parse_each(path, entries_of(path, whole, "images"), parse, EXPECTED)


def from_coco(path: str, whole: dict[str, Any]) -> list[Captioned]:
    captions: dict[str, list[str]] = {}

    def collect(annotation: Any) -> None:
        image_id = str(value_of(annotation, "image_id", int | str))
        captions.setdefault(image_id, []).append(value_of(annotation, "caption", str))

    parse_each(path, entries_of(path, whole, "annotations"), collect, EXPECTED)
    split = split_in_name(PurePosixPath(path).name)
    without_captions: list[str] = []

    def parse(entry: Any) -> Captioned | None:
        image_id = str(value_of(entry, "id", int | str))
        if image_id not in captions:
            without_captions.append(image_id)
            return None
        return captioned(image_id, value_of(entry, "file_name", str), split, captions[image_id])

    examples = [example for example in parse_each(path, entries_of(path, whole, "images"), parse, EXPECTED) if example]
    without_image = list(captions.keys() - {example.image_id for example in examples})
    if captions and not examples:
        ours = naming(without_captions) if without_captions else "none"
        raise UserError(
            f"{path}: none of the {len(captions):,} images with captions is in its list of images: the annotations "
            f"say {naming(sorted(without_image))}, the images {ours}. Do both lists belong together?"
        )
    if without_image:
        tell(f"{path} has captions of {naming(sorted(without_image), 'image')} that it does not list; left out.")
    if without_captions:
        tell(f"{path} lists {naming(without_captions, 'image')} without captions; left out.")
    return examples


def split_in_name(name: str) -> str | None:
    """The split that a file's name tells: its one word that means a split, as in ``captions_val2014.json``."""
    words = re.findall(r"[^\W\d_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name))
    splits = {SPLITS[word.lower()] for word in words if word.lower() in SPLITS}
    return splits.pop() if len(splits) == 1 else None


def entries_of(path: str, whole: dict[str, Any], key: str) -> list[tuple[str, Any]]:
    """The entries of one of a file's lists, each after its location.

    Raises:
        UserError: it is no list.
    """
    try:
        return [(f"{key}[{index}]", entry) for index, entry in enumerate(value_of(whole, key, list))]
    except ValueError as error:
        raise UserError(f"{path}: {error}. {EXPECTED}") from None


def from_flickr(path: str, text: str) -> list[Captioned]:
    captions: dict[str, list[str]] = {}

    def parse(line: str) -> None:
        match = re.fullmatch(r"(.+)#\d+\t(.*)", line)
        if not match:
            raise ValueError(f"found {line[:60]!r}, expected NAME#K<tab>caption")
        captions.setdefault(match[1].strip(), []).append(match[2])

    parse_each(path, numbered_lines(text), parse, EXPECTED)
    splits = flickr_splits(path)
    named = {file: splits.get(composed(file)) for file in captions}
    if splits:
        refuse_or_tell(path, splits, named)
    entries = [(file, (file, named[file], texts)) for file, texts in captions.items() if named[file] or not splits]
    return parse_each(path, entries, lambda entry: captioned(None, *entry), EXPECTED)


def refuse_or_tell(path: str, splits: dict[str, str], named: dict[str, str | None]) -> None:
    """Name the files that only the captions, or only the lists of splits beside them, have.

    Raises:
        UserError: they have none in common.
    """
    without_split = [file for file, split in named.items() if not split]
    without_captions = sorted(splits.keys() - {composed(file) for file in named})
    if len(without_split) == len(named):
        raise UserError(
            f"{path}: none of its {len(named):,} images is in the lists of splits beside it (*trainImages.txt, "
            f"*devImages.txt, *testImages.txt). The captions say {naming(without_split)}, the lists "
            f"{naming(without_captions)}. Do they belong together?"
        )
    if without_split:
        tell(f"{path}: {naming(without_split, 'image')} in none of the lists of splits beside it; left out.")
    if without_captions:
        tell(f"{path}: the lists of splits beside it name {naming(without_captions, 'image')} without captions.")


def split_lists(path: str) -> dict[str, str]:
    """The lists of splits beside a file of captions, as Flickr8k has them, and the split of each."""
    filesystem, inside = locate(path)
    folder = posixpath.dirname(inside)
    return {
        as_uri(filesystem, f"{folder}/{name}", path): match[1]
        for name in names_in(filesystem, folder)
        if (match := SPLIT_LIST.search(name))
    }


def flickr_splits(path: str) -> dict[str, str]:
    """File name to split, from the lists of splits; images in none of them are not in use."""
    return {
        composed(file): split
        for list_, split in split_lists(path).items()
        for line in read_text(list_).split("\n")
        if (file := line.strip())
    }


def composed(name: str) -> str:
    """A name with each accented letter as one character, as some systems store it and others do not."""
    return unicodedata.normalize("NFC", name)


def captioned(
    image_id: str | None, file: str, split: str | None, captions: list[str], aliases: tuple[str, ...] = ()
) -> Captioned:
    """An image with the captions that have words in them, and its split by the name that it has here.

    Args:
        image_id: None where the data has none, so that the file's name stands for it.

    Raises:
        ValueError: the split has no such name, or there is no caption or nothing to name the image by.
    """
    if split is not None and split not in list(SPLITS):
        raise ValueError(f"the split is {split!r}, expected train, val or test")
    kept = tuple(" ".join(caption.split()) for caption in captions if caption.strip())
    known = PurePosixPath(file).stem if image_id is None else image_id
    if not known:
        raise ValueError("there is neither image_id nor file")
    if not kept:
        raise ValueError(f"the image {known!r} has no caption with words in it")
    return Captioned(known, file, SPLITS[split] if split else "", kept, aliases, image_id is None)
