"""Generated rows and failures for the store's tests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa

from feature_store import Dataset, Store, Term, feature_schema, from_numpy

DEPTH, GRID = 8, (2, 3, 8)
SCHEMA = feature_schema(["pooled", "grid"], {"pooled": (DEPTH,), "grid": GRID})
RECIPE = {"backbone": "drawn", "dtype": "float16"}


def dataset(store: Store, **recipe) -> Dataset:
    return store.dataset("features", {**RECIPE, **recipe}, SCHEMA)


def grid_of(id_: str) -> np.ndarray:
    """Numbers that tell which id they belong to."""
    return np.random.default_rng(list(id_.encode())).standard_normal(GRID).astype(np.float16)


def rows(ids: Iterable[str]) -> pa.Table:
    ids = list(ids)
    grids = np.array([grid_of(id_) for id_ in ids], np.float16).reshape(-1, *GRID)
    columns = {
        "image_id": pa.array(ids, pa.string()),
        "uri": pa.array([f"images/{id_}.jpg" for id_ in ids], pa.string()),
        "version": pa.array([None] * len(ids), pa.string()),
        "width": pa.array([3] * len(ids), pa.int32()),
        "height": pa.array([2] * len(ids), pa.int32()),
        "pooled": from_numpy(grids.mean((1, 2), dtype=np.float32).astype(np.float16)),
        "grid": from_numpy(grids),
    }
    return pa.table([columns[name] for name in SCHEMA.names], schema=SCHEMA)


def failures(ids: Iterable[str], reason: str = "truncated file", tries: int = 1) -> pa.Table:
    ids = list(ids)
    return pa.table(
        {
            "image_id": pa.array(ids, pa.string()),
            "uri": pa.array([f"images/{id_}.jpg" for id_ in ids], pa.string()),
            "version": pa.array([None] * len(ids), pa.string()),
            "stage": ["decode"] * len(ids),
            "reason": [reason] * len(ids),
            "tries": pa.array([tries] * len(ids), pa.int32()),
        }
    )


def commit(term: Term, done: Sequence[str], failed: Sequence[str] = (), reason: str = "truncated file"):
    name = term.handle.part_name([*done, *failed])
    return term.handle.commit(name, rows(done), failures(failed, reason))


def ids(start: int, stop: int) -> list[str]:
    return [f"{number:05d}" for number in range(start, stop)]
