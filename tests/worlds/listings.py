"""What a listing gives, and what a set has of files that could not be read."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from feature_store import failure_schema
from pipelines.inputs.listing import Listing
from pipelines.inputs.listing_formats import SCHEMA


def chunk(*ids: str, version: str | None = None) -> pa.Table:
    """Of a listing of files that nobody reads."""
    return pa.table([ids, [f"/{id_}" for id_ in ids], [version] * len(ids), [None] * len(ids)], schema=SCHEMA)


def failure_rows(*ids: str, version: str | None = None, tries: int = 1) -> pa.Table:
    """Of a set in which these files could not be read."""
    about = {"uri": "/", "version": version, "stage": "read", "reason": "bad", "tries": tries}
    return pa.Table.from_pylist([{"image_id": id_, **about} for id_ in ids], failure_schema())


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
