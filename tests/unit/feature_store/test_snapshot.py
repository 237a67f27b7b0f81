"""Readers: what comes out is what went in, cheaply, and also for those who do not know this project."""

from __future__ import annotations

import pickle

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_store import Store, StoreError, feature_schema, to_numpy, writer
from feature_store import snapshot as read
from tests.worlds.feature_rows import DEPTH, GRID, SCHEMA, commit, dataset, grid_of, ids, rows


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Three parts whose ids interleave, of several row groups each."""
    monkeypatch.setattr(writer, "ROW_GROUP_BYTES", 4 * rows(ids(0, 100)).nbytes // 100)
    made = dataset(Store(tmp_path / "store"))
    with made.begin() as term:
        for offset in range(3):
            commit(term, ids(offset, 90 + offset)[::3], [f"x{offset}"])
    return made


def test_scanning_gives_every_row_once_by_row_group(made):
    snapshot = made.snapshot()
    batches = list(snapshot.scan(["image_id", "grid"]))
    assert [batch.num_rows for batch in batches] == [group.rows for group in snapshot.row_groups()]
    assert len(batches) > 6 and batches[0].schema.names == ["image_id", "grid"]
    seen = [id_ for batch in batches for id_ in batch["image_id"].to_pylist()]
    assert sorted(seen) == ids(0, 90) and len(seen) == 90
    for batch in batches:
        expected = np.stack([grid_of(id_) for id_ in batch["image_id"].to_pylist()])
        np.testing.assert_array_equal(to_numpy(batch["grid"]), expected)


def test_row_groups_are_known_without_opening_a_file_and_read_alone(made, monkeypatch):
    snapshot = pickle.loads(pickle.dumps(made.snapshot()))
    with monkeypatch.context() as patch:
        patch.setattr(read.Snapshot, "_source", lambda *_: pytest.fail("opened a file"))
        groups = snapshot.row_groups()
    whole = pa.Table.from_batches(snapshot.scan())
    alone = pa.Table.from_batches([snapshot.read_row_group(part, index) for part, index, _ in groups])
    assert alone.equals(whole)
    (grid,) = snapshot.read_row_group(groups[3].part, groups[3].index, ["grid"])
    assert to_numpy(grid).shape == (groups[3].rows, *GRID) and not to_numpy(grid).flags.owndata


@given(wanted=st.lists(st.sampled_from(ids(0, 90)), max_size=20))
def test_take_gives_rows_by_id_in_the_order_asked(shared, wanted):
    assert shared.snapshot().take(wanted).equals(rows(wanted))
    assert shared.snapshot().take(wanted, ["width", "pooled"]).equals(rows(wanted).select(["width", "pooled"]))


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        return made.__wrapped__(tmp_path_factory.mktemp("shared"), patch)


def test_take_opens_only_parts_that_can_hold_an_id(tmp_path, monkeypatch):
    made = dataset(Store(tmp_path / "store"))
    with made.begin() as term:
        for start in range(0, 50, 10):
            commit(term, ids(start, start + 10))
    opened = []
    source = read.Snapshot._source
    monkeypatch.setattr(read.Snapshot, "_source", lambda self, path: opened.append(path) or source(self, path))
    snapshot = made.snapshot()
    assert snapshot.take(["00012", "00041"]).num_rows == 2
    assert opened == [snapshot.parts[1].path, snapshot.parts[4].path]


def test_missing_ids_are_named_with_the_reason_if_there_is_one(made):
    with pytest.raises(StoreError, match=r"no rows for 2 of the ids .*: 00095, x1 \(failed: truncated file\)"):
        made.snapshot().take(["00003", "00095", "x1", "x1"])


def test_an_unknown_column_is_refused(made):
    with pytest.raises(StoreError, match="has no column grids; it has image_id, uri"):
        next(made.snapshot().scan(["grids"]))


def test_a_file_that_is_gone_is_named(made):
    snapshot = made.snapshot()
    made.files.delete(f"{made.folder}/{snapshot.parts[0].path}")
    with pytest.raises(StoreError, match=f"{snapshot.parts[0].file}.parquet is gone although it was committed"):
        list(snapshot.scan())


def test_plain_pyarrow_duckdb_and_polars_read_the_parts(made):
    snapshot = made.snapshot()
    expected = {id_: grid_of(id_).reshape(-1) for id_ in ids(0, 90)}

    table = pq.read_table(snapshot.paths).sort_by("image_id")
    assert table.schema.field("grid").type == pa.fixed_shape_tensor(pa.float16(), GRID)
    grids = table["grid"].combine_chunks()
    np.testing.assert_array_equal(grids.to_numpy_ndarray().reshape(90, -1), np.stack(list(expected.values())))

    query = duckdb.sql(f"SELECT image_id, grid, len(pooled) FROM read_parquet({snapshot.paths}) ORDER BY image_id")
    found = query.fetchall()
    assert [row[0] for row in found] == ids(0, 90) and {row[2] for row in found} == {DEPTH}
    for id_, grid, _ in found:
        np.testing.assert_array_equal(np.array(grid, np.float16), expected[id_])

    frame = pl.read_parquet(snapshot.paths).sort("image_id")
    assert frame["image_id"].to_list() == ids(0, 90)
    for id_, grid in zip(frame["image_id"], frame["grid"].to_list(), strict=True):
        np.testing.assert_array_equal(np.array(grid, np.float16).reshape(-1), expected[id_])


def test_regions_of_varying_number_are_stored(tmp_path):
    schema = feature_schema(["regions"], {"regions": (4,)})
    counts = [2, 0, 3]
    flat = pa.array(np.arange(20, dtype=np.float16))
    boxes = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(20, dtype=np.float32)), 4)
    offsets = pa.array(np.cumsum([0, *counts]), pa.int32())
    base = {name: rows(ids(0, 3))[name] for name in SCHEMA.names[:5]}
    table = pa.table(
        {
            **base,
            "regions": pa.ListArray.from_arrays(offsets, pa.FixedSizeListArray.from_arrays(flat, 4)),
            "boxes": pa.ListArray.from_arrays(offsets, boxes),
            "scores": pa.ListArray.from_arrays(offsets, pa.array(np.linspace(0, 1, 5), pa.float32())),
            "classes": pa.ListArray.from_arrays(offsets, pa.array(range(5), pa.int32())),
        },
        schema=schema,
    )
    made = Store(tmp_path / "store").dataset("features", {"backbone": "detector"}, schema)
    with made.begin() as term:
        term.handle.commit("p", table)
    found = made.snapshot().take(ids(0, 3))
    assert found.equals(table) and [len(value) for value in found["regions"].to_pylist()] == counts
    with pytest.raises(StoreError, match="no output is called 'rois'; there are pooled, grid, regions"):
        feature_schema(["rois"], {})


def test_a_set_may_have_any_columns(tmp_path):
    schema = pa.schema(
        [
            pa.field("line", pa.string(), nullable=False),
            pa.field("text", pa.string(), nullable=False),
            pa.field("score", pa.float32()),
            pa.field("best", pa.list_(pa.string())),
        ]
    )
    made = Store(tmp_path / "store").dataset("translations", {"model": "m"}, schema, id_column="line")
    table = pa.table({"line": ["b", "a"], "text": ["", "ä"], "score": [0.5, None], "best": [["x", "y"], []]}, schema)
    with made.begin() as term:
        term.handle.commit("p", table)
    assert made.snapshot().take(["b", "a"]).equals(table)
