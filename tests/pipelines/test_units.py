import os
import sys
from functools import partial

import pyarrow as pa
import pytest

from feature_store import Store, StoreError, failure_schema
from pipelines import units
from pipelines.console import Progress
from pipelines.listing import SCHEMA
from pipelines.units import Options, Totals, choose_rows, find_pending

ROWS = pa.schema([pa.field("image_id", pa.string(), nullable=False), pa.field("pid", pa.int64())])


def chunk(*ids: str) -> pa.Table:
    return pa.table([ids, [f"/{id_}" for id_ in ids], [None] * len(ids)], schema=SCHEMA)


def dataset_at(folder):
    return Store(folder / "store").dataset(kind="test", recipe={"a": 1}, schema=ROWS)


def failure_rows(*ids: str, tries: int = 1) -> pa.Table:
    rows = [
        {"image_id": id_, "uri": "/", "version": None, "stage": "read", "reason": "bad", "tries": tries} for id_ in ids
    ]
    return pa.Table.from_pylist(rows, failure_schema())


@pytest.fixture
def half_done(tmp_path):
    """A set that has a, c and the failure of b."""
    dataset = dataset_at(tmp_path)
    with dataset.begin() as term:
        rows = pa.table({"image_id": ["a", "c"], "pid": [0, 0]}, schema=ROWS)
        term.handle.commit(term.handle.part_name("abc"), rows, failure_rows("b", tries=2))
    return dataset


def test_pending(half_done):
    totals = Totals()
    chunks = [chunk("a", "b"), chunk("c"), chunk("d", "e")]
    (left,) = find_pending(chunks, half_done.snapshot(), False, totals)
    assert left.select(["image_id", "tries"]).to_pylist() == [
        {"image_id": "d", "tries": 0},
        {"image_id": "e", "tries": 0},
    ]
    assert (totals.listed, totals.done_before, totals.failed_before) == (5, 2, 1)
    assert totals.failures == ["b: read: bad"]


def test_pending_with_failures_tried_again(half_done):
    totals = Totals()
    tables = list(find_pending([chunk("a", "b"), chunk("c"), chunk("d")], half_done.snapshot(), True, totals))
    assert [table.select(["image_id", "tries"]).to_pylist() for table in tables] == [
        [{"image_id": "b", "tries": 2}],
        [{"image_id": "d", "tries": 0}],
    ]
    assert (totals.listed, totals.done_before, totals.failed_before) == (4, 2, 0)


def test_failures_of_other_inputs_do_not_count(half_done):
    totals = Totals()
    list(find_pending([chunk("x")], half_done.snapshot(), False, totals))
    assert (totals.listed, totals.failed_before, totals.failures) == (1, 0, [])


@pytest.mark.parametrize(
    ("row_bytes", "count", "workers", "expected"),
    [
        (200_000, 10**6, 4, 671),  # by the size of a part: 128 MiB / 200 kB
        (4_000, 10**9, 64, 4096),  # by what a kill may cost
        (174_000, 850, 2, 107),  # by what every worker should get: 850 / 8
        (174_000, 20, 2, 16),
        (10**12, 100, 1, 16),
    ],
)
def test_rows_of_a_unit(row_bytes, count, workers, expected):
    assert choose_rows(row_bytes, count, workers) == expected


@pytest.mark.ray
@pytest.mark.parametrize(("sizes", "rows", "expected"), [([10, 3], 4, [4, 4, 2, 3]), ([9], 5, [5, 4]), ([4], 9, [4])])
def test_cut(ray_cluster, sizes, rows, expected):
    import ray

    tables = [chunk(*(f"{at}-{index}" for index in range(size))) for at, size in enumerate(sizes)]
    cut = [ray.get(ref) for ref in units.cut([ray.put(table) for table in tables], rows)]
    assert [table.num_rows for table in cut] == expected
    assert pa.concat_tables(cut).equals(pa.concat_tables(tables))


@pytest.fixture
def cluster_that_knows_this_file(ray_cluster):
    import ray

    this = sys.modules[__name__]
    ray.cloudpickle.register_pickle_by_value(this)  # Ray's workers cannot import it
    yield
    ray.cloudpickle.unregister_pickle_by_value(this)


class Pids:
    """Fails every id that begins with "bad"; kills its process once where told to; writes down what it was asked."""

    def __init__(self, notes: str, kill: bool = False) -> None:
        self.notes, self.kill = notes, kill

    def process(self, unit):
        ids = unit["image_id"].to_pylist()
        marker = f"{self.notes}/killed"
        if self.kill and "k" in ids and not os.path.exists(marker):
            open(marker, "w").close()
            os._exit(1)
        with open(f"{self.notes}/{ids[0]}", "a") as notes:
            notes.write("x")
        good = [id_ for id_ in ids if not id_.startswith("bad")]
        rows = pa.table({"image_id": good, "pid": [os.getpid()] * len(good)}, schema=ROWS)
        return rows, failure_rows(*(id_ for id_ in ids if id_.startswith("bad")))


class TooWide(Pids):
    def process(self, unit):
        rows, failures = super().process(unit)
        return rows.append_column("extra", rows["pid"]), failures


def run(dataset, chunks, worker):
    progress = Progress("test", "inputs", None)
    return units.run(dataset, chunks, lambda plan: worker, progress, 8, Options(rows_per_part=2))


@pytest.mark.ray
def test_run(cluster_that_knows_this_file, tmp_path):
    dataset = dataset_at(tmp_path)
    letters = [chunk(*"abcde"), chunk("bad1", "f")]
    totals = run(dataset, letters, partial(Pids, str(tmp_path)))
    assert (totals.listed, totals.rows, totals.failed, totals.units) == (7, 6, 1, 4)
    assert totals.failures == ["bad1: read: bad"]
    assert 0 < totals.begun <= totals.ended
    assert sorted(dataset.snapshot().ids(include_failures=False).to_pylist()) == list("abcdef")

    again = run(dataset, [*letters, chunk("z")], partial(Pids, str(tmp_path)))
    assert (again.listed, again.done_before, again.failed_before, again.rows) == (8, 6, 1, 1)


@pytest.mark.ray
def test_a_worker_that_dies(cluster_that_knows_this_file, tmp_path):
    dataset = dataset_at(tmp_path)
    totals = run(dataset, [chunk(*"abijklmn")], partial(Pids, str(tmp_path), kill=True))
    assert (tmp_path / "killed").exists()
    assert totals.rows == 8
    assert sorted(dataset.snapshot().ids().to_pylist()) == list("abijklmn")


@pytest.mark.ray
def test_a_commit_that_fails_stops_the_run_with_its_reason(cluster_that_knows_this_file, tmp_path):
    with pytest.raises(StoreError, match="extra"):
        run(dataset_at(tmp_path), [chunk(*"abcdef")], partial(TooWide, str(tmp_path)))


@pytest.mark.ray
def test_nothing_to_do_starts_no_worker(ray_cluster, half_done):
    totals = run(half_done, [chunk("a"), chunk("c")], None)
    assert (totals.done_before, totals.rows, totals.plan) == (2, 0, None)
