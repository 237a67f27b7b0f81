import os
import time
from functools import partial

import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from feature_store import Store, StoreError, verify
from pipelines.console import Progress
from pipelines.engine import driver
from pipelines.engine.driver import Options, choose_rows
from pipelines.engine.failures import DEFERRED
from pipelines.engine.work import Unit, cut, merge
from pipelines.errors import Fault, UserError
from pipelines.inputs.listing_formats import SCHEMA
from tests.worlds.listings import chunk, failure_rows

ROWS = pa.schema([pa.field("image_id", pa.string(), nullable=False), pa.field("pid", pa.int64())])


def dataset_at(folder):
    return Store(folder / "store").dataset(kind="test", recipe={"a": 1}, schema=ROWS)


@pytest.fixture
def half_done(tmp_path):
    """A set that has a, c and the failure of b."""
    dataset = dataset_at(tmp_path)
    with dataset.begin() as term:
        rows = pa.table({"image_id": ["a", "c"], "pid": [0, 0]}, schema=ROWS)
        term.handle.commit(term.handle.part_name("abc"), rows, failure_rows("b", tries=2))
    return dataset


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


@pytest.mark.parametrize(("size", "rows", "expected"), [(10, 4, [4, 4, 2]), (3, 4, [3]), (9, 5, [5, 4])])
def test_cut(size, rows, expected):
    table = chunk(*map(str, range(size)))
    units_ = list(cut(table, rows))
    assert [unit.inputs.num_rows for unit in units_] == expected
    assert pa.concat_tables([unit.inputs for unit in units_]).equals(table)


def test_small_chunks_are_merged():
    unit = Unit(chunk("u"))
    found = list(merge([chunk("a"), unit, chunk("b", "c"), chunk(*"defgh"), chunk("i")], 3))
    assert found[0] is unit
    assert [table["image_id"].to_pylist() for table in found[1:]] == [list("abc"), list("defgh"), ["i"]]


def test_a_unit_is_packed_in_one_row():
    unit = Unit(chunk("a", "b"), None, failure_rows("c"))
    assert unit.pack().num_rows == 1
    assert Unit.unpack(unit.pack()) == unit


def test_look_ahead_takes_no_more_than_it_needs():
    taken = []
    chunks = (taken.append(number) or chunk(f"{number}a", f"{number}b") for number in range(10))
    known, whole = driver.look_ahead(chunks, 3)
    assert (len(known), taken) == (2, [0, 1])
    assert sum(map(driver.count, whole)) == 20


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


def run(dataset, chunks, worker, **options):
    progress = Progress("test", "inputs", None)
    options = {"workers": 1, "rows_per_part": 2, **options}  # each worker is a process to start
    summary = driver.run(dataset, chunks, lambda plan: worker, progress, 8, Options(**options))
    assert progress.total in (None, summary.rows + summary.failed)
    assert dataset.left() == 0
    return summary


@pytest.mark.ray
def test_a_run_in_which_a_worker_dies(cluster_that_knows_this_file, tmp_path):
    dataset = dataset_at(tmp_path)
    letters = [chunk(*"abcdk"), chunk("bad1", "f")]
    summary = run(dataset, letters, partial(Pids, str(tmp_path), kill=True))
    assert (tmp_path / "killed").exists()
    assert (summary.listed, summary.rows, summary.failed, summary.units) == (7, 6, 1, 4)
    assert summary.failures == ["bad1: read: bad"]
    assert 0 < summary.begun <= summary.ended
    assert sorted(dataset.snapshot().ids(include_failures=False).to_pylist()) == list("abcdfk")


class Deadly(Pids):
    """Dies of "k" each time, and raises at "r"."""

    def process(self, unit):
        ids = unit["image_id"].to_pylist()
        if "k" in ids:
            os._exit(1)
        if "r" in ids:
            raise ValueError("no good")
        return super().process(unit)


@pytest.mark.ray
def test_an_input_that_kills_and_one_that_raises(cluster_that_knows_this_file, tmp_path):
    dataset = dataset_at(tmp_path)
    summary = run(dataset, [chunk(*"abckrstu")], partial(Deadly, str(tmp_path)))
    assert (summary.rows, summary.failed) == (6, 2)
    snapshot = dataset.snapshot()
    assert sorted(snapshot.ids(include_failures=False).to_pylist()) == list("abcstu")
    failed = snapshot.failures().select(["image_id", "stage", "reason"]).to_pylist()
    assert [tuple(row.values()) for row in failed] == [
        ("k", "process", "the process that worked on it died 2 times"),
        ("r", "compute", "ValueError: no good"),
    ]


@pytest.mark.ray
@pytest.mark.parametrize("name", ["ray::ReadUnits", "ray::_QueueActor"])
def test_the_task_that_hands_out_the_work_dies(cluster_that_knows_this_file, tmp_path, monkeypatch, name):
    """Or the queue that it empties: units that were under way are handed out again, and each counts once. The work has
    begun, although the listing has not ended."""
    monkeypatch.setattr(driver, "MAX_ROWS", 1)
    killed = []

    def chunks():
        for number in range(5):
            yield chunk(*(f"{number}{letter}" for letter in "abcd"))
        wait_for(lambda: (tmp_path / "0a").exists())
        victims = [one for one in psutil.Process().children(recursive=True) if name in title(one)]
        for victim in victims:
            victim.kill()
            killed.append(victim)
        yield chunk("last")

    dataset = dataset_at(tmp_path)
    summary = run(dataset, chunks(), partial(Pids, str(tmp_path)))
    assert len(killed) == 1
    assert (summary.listed, summary.rows, summary.units) == (21, 21, 11)
    assert verify(dataset).problems == []
    assert all(path.read_text() == "x" for path in tmp_path.glob("[0-9l]*"))


def title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def wait_for(condition) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "nothing happens"
        time.sleep(0.05)


@pytest.mark.ray
def test_a_commit_that_fails_stops_the_run_with_its_reason(cluster_that_knows_this_file, tmp_path):
    with pytest.raises(StoreError, match="extra"):
        run(dataset_at(tmp_path), [chunk(*"abcdef")], partial(TooWide, str(tmp_path)))


def test_nothing_to_do_starts_no_worker(half_done):
    summary = run(half_done, [chunk("a"), chunk("c")], None)
    assert (summary.done_before, summary.rows, summary.plan) == (2, 0, None)


def test_a_listing_that_turns_out_wrong_ends_the_run_and_keeps_what_is_done(without_ray, tmp_path, monkeypatch):
    monkeypatch.setattr(driver, "MAX_ROWS", 1)  # so that the work begins before the listing has ended
    dataset = dataset_at(tmp_path)

    def chunks():
        yield chunk(*"abcd")
        wait_for(lambda: dataset.snapshot().rows == 4)
        raise UserError("line 5: nonsense")

    with pytest.raises(UserError, match="line 5"):
        run(dataset, chunks(), partial(Pids, str(tmp_path)))
    assert sorted(dataset.snapshot().ids().to_pylist()) == list("abcd")


class Versions:
    """A row has the version that was listed; what begins with "bad" fails."""

    def process(self, unit):
        good = [row for row in unit.to_pylist() if row["version"] != "bad"]
        bad = [row["image_id"] for row in unit.to_pylist() if row["version"] == "bad"]
        columns = {name: [row[name] for row in good] for name in VERSIONED.names}
        return pa.table(columns, schema=VERSIONED), failure_rows(*bad)


VERSIONED = pa.schema([pa.field("image_id", pa.string(), nullable=False), pa.field("version", pa.string())])


def versioned(**versions) -> pa.Table:
    ids = list(versions)
    return pa.table([ids, [f"/{id_}" for id_ in ids], list(versions.values()), [None] * len(ids)], schema=SCHEMA)


@pytest.mark.heavy
def test_changed_inputs(without_ray, tmp_path):
    dataset = Store(tmp_path / "store").dataset(kind="test", recipe={"a": 1}, schema=VERSIONED)

    def rows():
        found = pa.Table.from_batches(dataset.snapshot().scan(), VERSIONED).to_pylist()
        assert verify(dataset).problems == []
        return {row["image_id"]: row["version"] for row in found}, dataset.snapshot().failures()[0].to_pylist()

    run(dataset, [versioned(a="1", b="bad", c="1", d="1", e=None, f="1")], Versions)
    now = versioned(a="2", b="bad", c="1", d="bad", e="2", f="1", g="1")
    told = run(dataset, [now], Versions)
    assert (told.changed, told.done_before, told.rows) == (2, 5, 1)
    assert "2 inputs changed" in told.hint("images", False)
    assert rows()[0] == {"a": "1", "c": "1", "d": "1", "e": None, "f": "1", "g": "1"}

    redone = run(dataset, [now], Versions, redo_changed=True)
    assert (redone.changed, redone.done_before, redone.rows, redone.failed) == (2, 4, 1, 1)
    assert rows() == ({"a": "2", "c": "1", "e": None, "f": "1", "g": "1"}, ["b", "d"])

    again = run(dataset, [now], Versions, redo_changed=True)
    assert (again.changed, again.done_before, again.failed_before, again.rows) == (0, 5, 2, 0)

    # A changed input and one that had failed, in one part.
    last = run(dataset, [versioned(a="3", b="1")], Versions, redo_changed=True, retry_failed=True)
    assert (last.rows, last.failed) == (2, 0)
    assert rows() == ({"a": "3", "b": "1", "c": "1", "e": None, "f": "1", "g": "1"}, ["d"])


class Unread(Versions):
    """Storage does not give what has the version "away"."""

    def process(self, unit):
        rows, failures = super().process(unit.filter(pc.not_equal(unit["version"], "away")))
        away = failure_rows(*unit["image_id"].filter(pc.equal(unit["version"], "away")).to_pylist())
        stage = pa.repeat(pa.scalar(DEFERRED), away.num_rows)
        away = away.set_column(away.column_names.index("stage"), away.schema.field("stage"), stage)
        return rows, pa.concat_tables([failures, away])


@pytest.mark.heavy
def test_what_storage_did_not_give_is_neither_done_nor_failed(without_ray, tmp_path):
    dataset = Store(tmp_path / "store").dataset(kind="test", recipe={"a": 1}, schema=VERSIONED)

    def held():
        assert verify(dataset).problems == []
        rows = pa.Table.from_batches(dataset.snapshot().scan(), VERSIONED).to_pylist()
        return {row["image_id"]: row["version"] for row in rows}, dataset.snapshot().failures()[0].to_pylist()

    with pytest.raises(Fault, match=r"2 inputs could not be read.*3 were done:\n.*b: storage") as fault:
        run(dataset, [versioned(a="1", b="away", c="1", d="bad", e="away", f="1")], Unread)
    assert fault.value.code == 4
    assert held() == ({"a": "1", "c": "1", "f": "1"}, ["d"])

    later = run(dataset, [versioned(a="1", b="1", c="1", d="bad", e="1", f="1")], Unread)
    assert (later.rows, later.done_before, later.failed_before) == (2, 3, 1)
    everything = {id_: "1" for id_ in "abcef"}
    assert held() == (everything, ["d"])

    with pytest.raises(Fault, match="1 inputs could not be read"):
        run(dataset, [versioned(a="away", b="2", c="1", d="bad", e="1", f="1")], Unread, redo_changed=True)
    assert held() == (everything | {"b": "2"}, ["d"])
