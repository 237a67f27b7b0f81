"""Captions of images from the file formats in use.

A file is recognised by what is in it, not by its name: a listing of JSON objects, COCO's or Karpathy's JSON, or
Flickr's lines; see ``caption_formats``. A file that names no split at all has its images held out by their ids: see
``hold_out``. A folder stands for all its ``captions_*.json``: COCO's come in two. Paths are local or uris, see
``pipelines.files.filesystems``; ``.gz`` too.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from pyarrow import fs

from pipelines.errors import UserError
from pipelines.files.filesystems import as_uri, locate, names_in, type_of
from pipelines.inputs.caption_formats import EXPECTED, Captioned, read_file
from pipelines.inputs.entries import naming


def read_captions(path: str | Path) -> list[Captioned]:
    """All captioned images of a file, or of a folder's ``captions_*.json``, in the order in which they are named.

    Captions without an image in the file, and images without captions or without a split, are reported.

    Raises:
        UserError: no such file, none of the formats, or entries that are not as the format has them; the message
            names the first of them.
    """
    path = str(path)
    examples = distinct([example for file in files_of(path) for example in hold_out(read_file(file))])
    if not examples:
        raise UserError(f"{path} has no captions. {EXPECTED}")
    twice = repeated(example.image_id for example in examples)
    if twice:
        raise UserError(
            f"{path} names {naming(twice, 'image')} more than once{in_splits(examples, twice)}; an image's captions "
            "belong together, and in one split."
        )
    return examples


def in_splits(examples: list[Captioned], twice: list[str]) -> str:
    """How many of the images ``twice`` are in several splits, and in which; "" if none is."""
    splits: dict[str, set[str]] = {name: set() for name in twice}
    for example in examples:
        if example.image_id in splits:
            splits[example.image_id].add(example.split)
    several = Counter(" and ".join(sorted(names)) for names in splits.values() if len(names) > 1)
    return "".join(f", {count:,} in {names}" for names, count in several.items())


def files_of(path: str) -> list[str]:
    """The files of captions that ``path`` stands for.

    Raises:
        UserError: it is not there, or a folder without such files.
    """
    filesystem, inside = locate(path)
    kind = type_of(filesystem, inside)
    if kind == fs.FileType.NotFound:
        raise UserError(f"There is no file of captions {path}.")
    if kind != fs.FileType.Directory:
        return [path]
    names = [name for name in names_in(filesystem, inside) if re.fullmatch(r"captions_.*\.json", name)]
    if not names:
        raise UserError(f"The folder {path} has no file captions_*.json. Name the file of captions itself.")
    return [as_uri(filesystem, f"{inside.rstrip('/')}/{name}", path) for name in names]


def distinct(examples: list[Captioned]) -> list[Captioned]:
    """``examples`` with their paths for ids where several have one id from the same file name in several folders."""
    named = [example for example in examples if example.id_from_name]
    twice = set(repeated(example.image_id for example in named))
    return [
        replace(example, image_id=example.file) if example.id_from_name and example.image_id in twice else example
        for example in examples
    ]


def repeated(names: Iterable[str]) -> list[str]:
    return [name for name, times in Counter(names).items() if times > 1]


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
