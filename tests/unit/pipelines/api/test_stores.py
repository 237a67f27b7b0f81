"""A store as a table or as a data set of torch."""

from __future__ import annotations

import pickle

import numpy as np
import polars
import pyarrow as pa
import pytest
import torch

from feature_store import Store, StoreError, feature_schema, from_arrays
from feature_store.schema import region_fields
from pipelines.api import open_store
from tests.worlds import captioner as world


@pytest.fixture
def store(tmp_path):
    world.make_store(tmp_path / "store", tmp_path / "images")
    return tmp_path / "store"


def grids() -> np.ndarray:
    """What ``make_store`` puts into the store."""
    shape = (len(world.CAPTIONS), world.ROWS, world.COLUMNS, world.SIZE)
    return np.random.default_rng(0).normal(size=shape).astype(np.float16)


def test_tables_have_rows_and_tensors(store):
    features = open_store(store)
    assert (features.kind, len(features)) == ("features", len(world.CAPTIONS))
    frame = features.pandas()
    assert list(frame.index) == sorted(world.CAPTIONS)
    np.testing.assert_array_equal(np.stack(frame["grid"]), grids())
    table = features.arrow(["image_id", "width"])
    assert table.to_pydict() == {"image_id": sorted(world.CAPTIONS), "width": [48] * len(world.CAPTIONS)}
    assert isinstance(features.polars(["image_id", "width"]), polars.DataFrame)
    width = features.pandas(["width"])
    assert (list(width.columns), list(width.index)) == (["width"], sorted(world.CAPTIONS))
    assert features.failures().empty


def test_torch_gets_batches(store):
    data = open_store(store).torch()
    assert len(data) == len(world.CAPTIONS)
    batch = next(iter(torch.utils.data.DataLoader(data, batch_size=3)))
    assert batch["image_id"] == sorted(world.CAPTIONS)[:3]
    torch.testing.assert_close(batch["grid"], torch.from_numpy(grids()[:3]))
    assert data[-1]["image_id"] == sorted(world.CAPTIONS)[-1]
    with pytest.raises(IndexError):
        data[len(data)]
    assert list(open_store(store).torch(["width"])[0]) == ["width"]


def test_row_groups_are_found_by_number_and_forgotten_again(tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.api.stores.KEPT_GROUPS", 2)
    schema = pa.schema([pa.field("image_id", pa.string(), nullable=False), pa.field("n", pa.int64(), nullable=False)])
    dataset = Store(tmp_path / "s").dataset("features", {"a": 1}, schema)
    with dataset.begin() as term:
        for number in range(5):
            ids = [f"{number}{letter}" for letter in "ab"]
            table = pa.table([pa.array(ids), pa.array([2 * number, 2 * number + 1])], schema=schema)
            term.handle.commit(term.handle.part_name(ids), table)
    data = open_store(tmp_path / "s").torch(["n"])
    assert [data[index]["n"] for index in (9, 0, 5, 4, 1, 8)] == [9, 0, 5, 4, 1, 8]
    assert len(data.kept) == 2
    assert pickle.loads(pickle.dumps(data))[7] == {"n": 7}


def test_regions_have_as_many_rows_as_the_image(tmp_path):
    schema = feature_schema(["regions"], {"regions": (3,)})
    regions = [np.ones((2, 3), np.float16), np.zeros((1, 3), np.float16)]
    columns = {
        "image_id": ["a", "b"], "uri": ["a", "b"], "version": ["1", "1"], "width": [1, 1], "height": [1, 1],
        "regions": from_arrays(regions), "boxes": from_arrays([np.zeros((len(one), 4), np.float32) for one in regions]),
        "scores": from_arrays([np.ones(len(one), np.float32) for one in regions]),
        "classes": from_arrays([np.ones(len(one), np.int32) for one in regions]),
    }  # fmt: skip
    assert {field.name for field in region_fields(3)} < set(columns)
    dataset = Store(tmp_path / "s").dataset("features", {"a": 1}, schema)
    with dataset.begin() as term:
        term.handle.commit(term.handle.part_name(["a", "b"]), pa.table(columns, schema=schema))
    items = list(open_store(tmp_path / "s").torch())
    assert [item["regions"].shape for item in items] == [(2, 3), (1, 3)]
    assert [item["scores"].shape for item in items] == [(2,), (1,)]


def test_what_is_not_there_is_told(store, tmp_path):
    with pytest.raises(StoreError, match="no store"):
        open_store(tmp_path / "nowhere")
    with pytest.raises(StoreError, match="kind captions"):
        open_store(store, kind="captions")
    with pytest.raises(StoreError, match="no column"):
        open_store(store).arrow(["grids"])
