"""Captions that another program wrote to a file, to be scored as they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipelines.errors import UserError
from pipelines.files.jsonl import from_json
from pipelines.files.text import read_text
from pipelines.inputs.entries import numbered_lines, parse_each, value_of

EXPECTED = (
    'Expected COCO results ([{"image_id": ..., "caption": ...}, ...]), one such object a line, or ID<tab>caption lines.'
)


def read_hypotheses(path: str) -> dict[str, str]:
    """Captions by image id: COCO's results, JSON lines with image_id and caption, or ID<tab>caption lines.

    Raises:
        UserError: the file is none of these, has no captions, or two of an image.
    """
    hypotheses: dict[str, str] = {}
    for place, image_id, caption in entries_of(path, read_text(path)):
        if image_id in hypotheses:
            raise UserError(f"{path}: {place} is a second caption of the image {image_id!r}; expected one of each.")
        hypotheses[image_id] = caption
    if not hypotheses:
        raise UserError(f"{path} has no captions. {EXPECTED}")
    return hypotheses


def entries_of(path: str, text: str) -> Iterator[tuple[str, str, str]]:
    """Place, image id and caption of every entry."""
    if text.lstrip().startswith("["):
        try:
            entries: list[tuple[str, Any]] = [(f"entry {n}", entry) for n, entry in enumerate(from_json(text), 1)]
        except ValueError as error:
            raise UserError(f"{path} cannot be read as JSON: {error}. {EXPECTED}") from None
        captions = parse_each(path, entries, from_object, EXPECTED)
    else:
        entries = numbered_lines(text)
        captions = parse_each(path, entries, from_line, EXPECTED)
    for (place, _), (image_id, caption) in zip(entries, captions, strict=True):
        yield place, image_id, caption


def from_line(line: str) -> tuple[str, str]:
    if line.lstrip().startswith("{"):
        return from_object(from_json(line))
    cells = line.split("\t")
    if len(cells) != 2:
        raise ValueError(f"found {line[:60]!r}, expected ID<tab>caption")
    return cells[0], cells[1]


def from_object(entry: Any) -> tuple[str, str]:
    return str(value_of(entry, "image_id", int | str)), value_of(entry, "caption", str)
