"""What a listing gives, as rows."""

from __future__ import annotations

from typing import Any

from pipelines.inputs.listing import Listing
from pipelines.inputs.listing_formats import SCHEMA


def rows(images: object) -> list[dict[str, Any]]:
    """Of all chunks; each id is there once."""
    chunks = list(Listing(str(images)).chunks())
    assert all(chunk.schema == SCHEMA for chunk in chunks)
    listed = [row for chunk in chunks for row in chunk.to_pylist()]
    assert len({row["image_id"] for row in listed}) == len(listed)
    return listed


def ids(images: object) -> list[str]:
    return [row["image_id"] for row in rows(images)]


def listed(images: object) -> tuple[list[dict[str, Any]], int]:
    """The rows, and how many other files were ignored."""
    listing = Listing(str(images))
    return [row for chunk in listing.chunks() for row in chunk.to_pylist()], listing.ignored
