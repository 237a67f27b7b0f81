"""Captions of images from the file formats in use.

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
its ``captions_*.json``: COCO's come in two. Paths are local or uris, see ``pipelines.files.filesystems``; ``.gz`` too.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from pyarrow import fs

from pipelines.errors import UserError
from pipelines.files.filesystems import locate, type_of
from pipelines.files.jsonl import from_json, refuse_halves, shown

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
    filesystem, inside = locate(path)
    found = type_of(filesystem, inside)
    if found == fs.FileType.NotFound:
        raise UserError(f"There is no file of captions {path}.")
    if found != fs.FileType.Directory:
        return [path]
    names = [name for name in names_in(filesystem, inside) if re.fullmatch(r"captions_.*\.json", name)]
    if not names:
        raise UserError(f"The folder {path} has no file captions_*.json. Name the file of captions itself.")
    return [f"{path.rstrip('/')}/{name}" for name in names]


def names_in(filesystem: fs.FileSystem, folder: str) -> list[str]:
    return sorted(info.base_name for info in filesystem.get_file_info(fs.FileSelector(folder)))


def read_file(path: str) -> list[Captioned]:
    filesystem, inside = locate(path)
    try:
        with filesystem.open_input_stream(inside) as file:
            text = file.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not text in UTF-8 ({error.reason} at byte {error.start}). {EXPECTED}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    start = text.lstrip()[:1]
    if start == "{":
        return from_objects(path, text)
    if re.match(r"[^\t\n]+#\d+\t", text.lstrip()):
        return from_flickr(path, text)
    first = text.lstrip().split("\n", 1)[0][:80]
    raise UserError(f"{path} is not a file of captions: it begins with {first!r}. {EXPECTED}")


def from_objects(path: str, text: str) -> list[Captioned]:
    """Of the formats in JSON: one object, or one a line."""
    try:
        whole = from_json(text)
    except json.JSONDecodeError:
        return hold_out(each(path, numbered_lines(text), lambda line: from_listing(from_json(line))))
    except ValueError as error:
        raise UserError(f"{path}: the first JSON object cannot be read: {error}. {EXPECTED}") from None
    if "images" not in whole:
        return hold_out(each(path, [("line 1", whole)], from_listing))
    return from_coco(path, whole) if "annotations" in whole else from_karpathy(path, whole)


def numbered_lines(text: str) -> list[tuple[str, str]]:
    """Where each line stands, and the line; none of blanks alone."""
    return [(f"line {number}", line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]


def from_listing(entry: Any) -> Captioned:
    captions = value(entry, "captions", list)
    if not all(isinstance(caption, str) for caption in captions):
        raise ValueError(f"'captions' is {shown(captions)}, expected a list of strings")
    refuse_halves(captions)
    file = value(entry, "file", str) if "file" in entry else ""
    image_id = str(value(entry, "image_id", int | str)) if "image_id" in entry else stem(file)
    return example(image_id, file, entry.get("split"), captions)


def from_karpathy(path: str, whole: dict) -> list[Captioned]:
    def parse(entry: Any) -> Captioned:
        file = value(entry, "filename", str)
        if "filepath" in entry:
            file = posixpath.join(value(entry, "filepath", str), file)
        captions = [value(sentence, "raw", str) for sentence in value(entry, "sentences", list)]
        return example(stem(file), file, value(entry, "split", str), captions)

    return each(path, entries_of(path, whole, "images"), parse)


def from_coco(path: str, whole: dict) -> list[Captioned]:
    captions: dict[int | str, list[str]] = {}

    def collect(annotation: Any) -> None:
        captions.setdefault(value(annotation, "image_id", int | str), []).append(value(annotation, "caption", str))

    each(path, entries_of(path, whole, "annotations"), collect)
    named = re.search("train|val|test", PurePosixPath(path).name)

    def parse(entry: Any) -> Captioned | None:
        image_id = value(entry, "id", int | str)
        if image_id not in captions:
            return None
        return example(str(image_id), value(entry, "file_name", str), named and named[0], captions[image_id])

    return hold_out([found for found in each(path, entries_of(path, whole, "images"), parse) if found])


def entries_of(path: str, whole: dict, key: str) -> list[tuple[str, Any]]:
    """The entries of one of a file's lists, each with its place."""
    try:
        return [(f"{key}[{index}]", entry) for index, entry in enumerate(value(whole, key, list))]
    except ValueError as error:
        raise UserError(f"{path}: {error}. {EXPECTED}") from None


def value(entry: Any, key: str, kind: Any) -> Any:
    """What a JSON object has under ``key``.

    Raises:
        ValueError: it is no object, or what it has is not of the ``kind``, or has half of a character.
        KeyError: it does not have the key.
    """
    if not isinstance(entry, dict):
        raise ValueError(f"found {shown(entry)}, expected a JSON object")
    found = entry[key]
    if not isinstance(found, kind) or isinstance(found, bool):
        raise ValueError(f"{key!r} is {shown(found)}, expected {KINDS[kind]}")
    if isinstance(found, str):
        refuse_halves([found])
    return found


KINDS = {str: "a string", list: "a list", int | str: "a whole number or a string"}


def from_flickr(path: str, text: str) -> list[Captioned]:
    captions: dict[str, list[str]] = {}

    def parse(line: str) -> None:
        match = re.fullmatch(r"(.+)#\d+\t(.*)", line)
        if not match:
            raise ValueError(f"found {line[:60]!r}, expected NAME#K<tab>caption")
        captions.setdefault(match[1], []).append(match[2])

    each(path, numbered_lines(text), parse)
    splits = flickr_splits(path)
    if splits:
        captions = {file: texts for file, texts in captions.items() if file in splits}
    return hold_out([example(stem(file), file, splits.get(file), texts) for file, texts in captions.items()])


def flickr_splits(path: str) -> dict[str, str]:
    """File name to split, from the lists that come with Flickr8k; images in none of them are not in use."""
    filesystem, inside = locate(path)
    folder, splits = posixpath.dirname(inside), {}
    for name in names_in(filesystem, folder):
        if listing := re.search("(train|dev|test)Images[.]txt$", name):
            with filesystem.open_input_stream(f"{folder}/{name}") as file:
                splits.update(dict.fromkeys(file.read().decode().split(), listing[1]))
    return splits


def example(image_id: str, file: str, split: str | None, captions: list[str]) -> Captioned:
    if split is not None and split not in list(SPLITS):
        raise ValueError(f"the split is {split!r}, expected train, val or test")
    kept = tuple(" ".join(caption.split()) for caption in captions if caption.strip())
    if not image_id:
        raise ValueError("there is neither image_id nor file")
    if not kept:
        raise ValueError(f"the image {image_id!r} has no caption with words in it")
    return Captioned(image_id, file, SPLITS[split] if split else "", kept)


def each(path: str, entries: Iterable[tuple[str, object]], parse: Callable, expected: str = EXPECTED) -> list:
    """``parse`` of every entry; all that fail in one message, the first few by place and reason, with ``expected``."""
    parsed, problems = [], []
    for place, entry in entries:
        try:
            parsed.append(parse(entry))
        except KeyError as error:
            problems.append(f"{place}: {error.args[0]!r} is missing")
        except ValueError as error:
            problems.append(f"{place}: {error}")
    if problems:
        more = f"\n  and {len(problems) - SHOWN:,} more" if len(problems) > SHOWN else ""
        wrong = "\n  ".join(problems[:SHOWN])
        total = len(parsed) + len(problems)
        raise UserError(f"{path}: {len(problems):,} of {total:,} entries are wrong:\n  {wrong}{more}\n{expected}")
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


def naming(names: list[str], unit: str = "") -> str:
    """``3 images (a, b, c)``, with the first few named."""
    shown = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
    plural = f" {unit}{'s' if len(names) > 1 else ''}" if unit else ""
    return f"{len(names):,}{plural} ({shown})"
