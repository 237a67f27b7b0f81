"""Captions of images from the file formats in use, and their join with the images that there are.

A file is recognised by what is in it, not by its name:

========  ==================================================================================================
listing   a JSON object a line: {"image_id", "file", "split", "captions": [...]}; other keys are left alone
COCO      {"images": [{"id", "file_name"}], "annotations": [{"image_id", "caption"}]}; the split is the word
          train, val or test in the name of the file
Karpathy  {"images": [{"filename", "filepath", "split", "sentences": [{"raw"}]}]}; ``restval`` is train, as in
          the papers that train on it
Flickr    ``NAME#K<tab>caption`` lines; splits from ``*trainImages.txt``, ``*devImages.txt`` and
          ``*testImages.txt`` beside it, where those are
========  ==================================================================================================

A file that names no split at all has its images held out by their ids: see ``hold_out``. A folder stands for all
its ``captions_*.json``: COCO's come in two. Paths are local or anything that fsspec opens; ``.gz`` too.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import fsspec

from pipelines.console import UserError

SPLITS = {"train": "train", "restval": "train", "val": "val", "dev": "val", "test": "test"}
SHOWN = 5
"""Problems, or ids, that a message names before it only counts."""


@dataclass(frozen=True)
class Captioned:
    """An image and its captions; ``split`` is train, val or test, ``file`` the path as the data names it."""

    image_id: str
    file: str
    split: str
    captions: tuple[str, ...]


def read_captions(path: str | Path) -> list[Captioned]:
    """All captioned images of a file, or of a folder's ``captions_*.json``, in the order in which they are named.

    Raises:
        UserError: no such file, none of the formats, or entries that are not as the format has them; the message
            names the first of them.
    """
    path = str(path)
    examples = [example for file in files_of(path) for example in read_file(file)]
    if not examples:
        raise UserError(f"{path} has no captions. {EXPECTED}")
    count = Counter(example.image_id for example in examples)
    twice = [image_id for image_id, times in count.items() if times > 1]
    if twice:
        raise UserError(f"{path} names {naming(twice, 'image')} more than once; an image's captions belong together.")
    return examples


EXPECTED = (
    "Expected: a JSON object a line with image_id, file, split and captions; COCO's captions JSON; Karpathy's "
    "dataset JSON; or Flickr's lines NAME#K<tab>caption."
)


def files_of(path: str) -> list[str]:
    filesystem, root = fsspec.core.url_to_fs(path)
    if not filesystem.exists(root):
        raise UserError(f"There is no file of captions {path}.")
    if not filesystem.isdir(root):
        return [path]
    files = [filesystem.unstrip_protocol(file) for file in sorted(filesystem.glob(f"{root}/captions_*.json"))]
    if not files:
        raise UserError(f"The folder {path} has no file captions_*.json. Name the file of captions itself.")
    return files


def read_file(path: str) -> list[Captioned]:
    try:
        with fsspec.open(path, "rt", encoding="utf-8-sig", compression="infer") as file:
            text = file.read()
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not text in UTF-8 ({error.reason} at byte {error.start}). {EXPECTED}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    start = text.lstrip()[:1]
    if start == "{":
        return from_json(path, text)
    if re.match(r"[^\t\n]+#\d+\t", text.lstrip()):
        return from_flickr(path, text)
    first = text.lstrip().split("\n", 1)[0][:80]
    raise UserError(f"{path} is not a file of captions: it begins with {first!r}. {EXPECTED}")


def from_json(path: str, text: str) -> list[Captioned]:
    try:
        whole = json.loads(text)
    except json.JSONDecodeError:
        return from_listing(path, text.splitlines())
    if "images" not in whole:
        return from_listing(path, [json.dumps(whole)])
    return from_coco(path, whole) if "annotations" in whole else from_karpathy(path, whole)


def from_listing(path: str, lines: Iterable[str]) -> list[Captioned]:
    def parse(line: str) -> Captioned:
        entry = json.loads(line)
        if not isinstance(entry, dict):
            raise ValueError(f"found {line[:60]!r}, expected a JSON object")
        captions = entry.get("captions")
        if not isinstance(captions, list) or not all(isinstance(caption, str) for caption in captions):
            raise ValueError(f'"captions" is {json.dumps(captions)[:60]}, expected a list of strings')
        file = str(entry.get("file", ""))
        image_id = str(entry["image_id"]) if "image_id" in entry else stem(file)
        return example(image_id, file, entry.get("split"), captions)

    numbered = ((f"line {number}", line) for number, line in enumerate(lines, 1) if line.strip())
    return hold_out(each(path, numbered, parse))


def from_karpathy(path: str, whole: dict) -> list[Captioned]:
    def parse(entry: dict) -> Captioned:
        file = posixpath.join(entry.get("filepath", ""), entry["filename"])
        captions = [sentence["raw"] for sentence in entry["sentences"]]
        return example(stem(file), file, entry["split"], captions)

    return each(path, ((f"images[{index}]", entry) for index, entry in enumerate(whole["images"])), parse)


def from_coco(path: str, whole: dict) -> list[Captioned]:
    captions: dict[int, list[str]] = {}
    for annotation in whole["annotations"]:
        if "caption" not in annotation or "image_id" not in annotation:
            found = ", ".join(sorted(annotation))
            raise UserError(
                f"{path} has annotations with {found}; expected image_id and caption, as in captions_*.json."
            )
        captions.setdefault(annotation["image_id"], []).append(annotation["caption"])
    named = re.search("train|val|test", PurePosixPath(path).name)

    def parse(entry: dict) -> Captioned:
        return example(str(entry["id"]), entry["file_name"], named and named[0], captions[entry["id"]])

    described = ((f"images[{i}]", entry) for i, entry in enumerate(whole["images"]) if entry.get("id") in captions)
    return hold_out(each(path, described, parse))


def from_flickr(path: str, text: str) -> list[Captioned]:
    captions: dict[str, list[str]] = {}

    def parse(line: str) -> None:
        match = re.fullmatch(r"(.+)#\d+\t(.*)", line)
        if not match:
            raise ValueError(f"found {line[:60]!r}, expected NAME#K<tab>caption")
        captions.setdefault(match[1], []).append(match[2])

    each(path, ((f"line {n}", line) for n, line in enumerate(text.splitlines(), 1) if line.strip()), parse)
    splits = flickr_splits(path)
    if splits:
        captions = {file: texts for file, texts in captions.items() if file in splits}
    return hold_out([example(stem(file), file, splits.get(file), texts) for file, texts in captions.items()])


def flickr_splits(path: str) -> dict[str, str]:
    """File name to split, from the lists that come with Flickr8k; images in none of them are not in use."""
    filesystem, root = fsspec.core.url_to_fs(path)
    splits = {}
    for split in ("train", "dev", "test"):
        for listing in filesystem.glob(f"{posixpath.dirname(root)}/*{split}Images.txt"):
            splits.update(dict.fromkeys(filesystem.cat_file(listing).decode().split(), split))
    return splits


def example(image_id: str, file: str, split: str | None, captions: list[str]) -> Captioned:
    if split is not None and split not in SPLITS:
        raise ValueError(f"the split is {split!r}, expected train, val or test")
    kept = tuple(" ".join(caption.split()) for caption in captions if caption.strip())
    if not image_id:
        raise ValueError("there is neither image_id nor file")
    if not kept:
        raise ValueError(f"the image {image_id!r} has no caption with words in it")
    return Captioned(image_id, file, SPLITS[split] if split else "", kept)


def each(path: str, entries: Iterable[tuple[str, object]], parse: Callable) -> list:
    """``parse`` of every entry; all that fail in one message, the first few by place and reason."""
    parsed, problems = [], []
    for place, entry in entries:
        try:
            parsed.append(parse(entry))
        except KeyError as error:
            problems.append(f"{place}: {error.args[0]!r} is missing")
        except (ValueError, TypeError, AttributeError) as error:
            problems.append(f"{place}: {error}")
    if problems:
        more = f"\n  and {len(problems) - SHOWN:,} more" if len(problems) > SHOWN else ""
        wrong = "\n  ".join(problems[:SHOWN])
        total = len(parsed) + len(problems)
        raise UserError(f"{path}: {len(problems):,} of {total:,} entries are wrong:\n  {wrong}{more}\n{EXPECTED}")
    return parsed


def hold_out(examples: list[Captioned]) -> list[Captioned]:
    """Where no example has a split: one image in twenty, by the hash of its id, is val and the others are train.

    The split of an image depends on its id alone, so it stays where it is when the data grows. Where some examples
    have a split, those without are train.
    """
    some = any(example.split for example in examples)

    def split_of(image_id: str) -> str:
        held = hashlib.sha256(image_id.encode()).digest()[0] * 20 < 256
        return "val" if held and not some else "train"

    return [replace(example, split=example.split or split_of(example.image_id)) for example in examples]


def stem(file: str) -> str:
    return PurePosixPath(file).stem


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


def naming(names: list[str], unit: str = "") -> str:
    """``3 images (a, b, c)``, with the first few named."""
    shown = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
    plural = f" {unit}{'s' if len(names) > 1 else ''}" if unit else ""
    return f"{len(names):,}{plural} ({shown})"
