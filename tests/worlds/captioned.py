"""Stores of captions, as ``rnncond caption`` writes them, without a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from feature_store import Dataset, Store
from pipelines.verbs.caption import schema_of
from rnncond.search import SearchOptions

FEATURES = {"fingerprint": "0" * 16, "output": "grid", "recipe": {"backbone": "drawn"}}


def caption_set(
    root: Path,
    model: str,
    captions: Mapping[str, str],
    score: float = -1.0,
    folder: str = "images",
    versions: Mapping[str, str | None] | None = None,
    **recipe: Any,
) -> Dataset:
    """A set of captions by image id, which is current afterwards unless another one is pinned.

    Args:
        versions: of the pictures that have another than "1".
    """
    described = {"model": model, "system": "show_tell", "search": {"beam": 1}, "features": FEATURES, "places": []}
    made = Store(root).dataset("captions", described | recipe, schema_of(SearchOptions()))
    rows = [
        {
            "image_id": id_, "uri": f"{folder}/{id_}.jpg", "version": (versions or {}).get(id_, "1"), "caption": text,
            "score": score, "log_prob": score, "nbest": [{"caption": text, "score": score}], "model": model,
        }
        for id_, text in captions.items()
    ]  # fmt: skip
    with made.begin() as term:
        term.handle.commit(term.handle.part_name(captions), pa.Table.from_pylist(rows, made.schema))
    made.store.completed(made)
    return made
