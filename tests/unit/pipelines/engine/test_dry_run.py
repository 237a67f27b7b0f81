"""What a run will take, by a sample of it."""

from __future__ import annotations

import math
from functools import partial

import pyarrow as pa
import pytest

from feature_store import Store
from pipelines.cluster.resources import Plan
from pipelines.engine import driver, dry_run
from pipelines.engine.driver import Options, limited
from pipelines.engine.dry_run import Price, estimate, refuse_kept, spread_over, temporary_store, where_decoded
from pipelines.engine.failures import Failures
from pipelines.engine.summary import RunSummary
from pipelines.errors import UserError
from pipelines.inputs.listing_formats import SCHEMA
from tests.worlds.listings import chunk

ROWS = pa.schema([pa.field("image_id", pa.string(), nullable=False)])


def report(seconds: float, rows: int = 10, begun: float = 100.0, **more) -> dict:
    known = {
        "failed": 0,
        "bytes": 500,
        "cpu": 1.0,
        "done_elsewhere": 0,
        "retries": 0,
        "deferred": [],
        "failures": [],
        "memory": 7,
    }
    return {**known, "rows": rows, "begun": begun, "ended": begun + seconds, **more}


@pytest.mark.parametrize(
    ("text", "price"),
    [("1.20 USD", (1.2, "USD")), ("$3", (3.0, "$")), ("€0.95", (0.95, "€")), ("CHF 2", (2.0, "CHF")), ("4€", (4, "€"))],
)
def test_a_price_has_an_amount_and_a_currency(text, price):
    assert Price.parse(text) == price


def test_a_small_price_is_not_nothing():
    assert Price(0.1, "USD").of(0.0198, 0.019, 0.021) == "0.002 USD (0.0019 to 0.0021)"
    assert Price(10, "€").of(1.5, 0.001, 2) == "15.00 € (0.01 to 20.00)"


@pytest.mark.parametrize("text", ["1.20", "USD", "", "-1 USD", "1,20 USD", "$1 USD", "1 usd"])
def test_a_price_without_a_currency_is_refused(text):
    with pytest.raises(UserError, match=r"--price-per-hour: found .*, expected an amount with its currency"):
        Price.parse(text)


def test_hours_follow_from_what_an_input_takes():
    """Units of 1 and 3 seconds for 10 inputs: 0.2 s each; 2 workers do 1,000 in 100 s. The standard deviation of 0.1
    and 0.3 is 0.1414, its error 0.1, and Student's t of one degree of freedom 12.71, so nothing is sure."""
    summary = RunSummary(plan=Plan(2, 1, 0))
    summary.add(report(1.0))
    summary.add(report(3.0))
    assert summary.seconds_per_input == (pytest.approx(0.2), pytest.approx(math.sqrt(0.02)))
    needed = estimate(summary, 1000, 5.0)
    assert needed.seconds == pytest.approx(5 + 1000 * 0.2 / 2)
    assert needed.low == 2.5, "half the start, and no time for the rest"
    assert needed.high == pytest.approx(7.5 + 500 * (0.2 + 12.71 * 0.1))
    for _ in range(20):
        summary.add(report(2.0))
    narrow = estimate(summary, 1000, 0.0)
    assert narrow.high - narrow.low < 0.2 * narrow.seconds


def test_a_sample_is_spread_over_the_inputs():
    inputs = chunk(*map(str, range(101)))
    assert spread_over(inputs, 5)["image_id"].to_pylist() == ["0", "25", "50", "75", "100"]
    assert spread_over(inputs, 1000).num_rows == 101


def test_the_first_inputs():
    chunks = [chunk("a", "b", "c"), chunk("d", "e")]

    def ids(limit):
        return [id_ for some in limited(iter(chunks), limit) for id_ in some["image_id"].to_pylist()]

    assert ids(None) == list("abcde")
    assert [ids(limit) for limit in (1, 3, 4, 9)] == [["a"], list("abc"), list("abcd"), list("abcde")]


class Worker:
    def process(self, unit: pa.Table) -> tuple[pa.Table, pa.Table]:
        failures = Failures.before(unit)
        return unit.select(["image_id"]), failures.table()


@pytest.fixture
def tried(monkeypatch):
    """What the driver is given, which does it in this process: 0.1 s for each input, units one after the other."""
    calls = []

    def run(dataset, chunks, make_worker, progress, row_bytes, options, listed=None, besides=()):
        (sample,) = chunks
        calls.append((dataset.store.files.shown, sample, options))
        summary = RunSummary(plan=Plan(2, 1, 0))
        with dataset.begin() as term:
            rows = sample.select(dataset.schema.names).cast(dataset.schema)
            term.handle.commit(term.handle.part_name(rows["image_id"].to_pylist()), rows)
        for start in range(0, sample.num_rows, options.rows_per_part):
            count = min(options.rows_per_part, sample.num_rows - start)
            summary.add(report(0.1 * count, count, begun=1e12, bytes=1000 * count, memory=2 * 10**9))
        return summary

    monkeypatch.setattr(driver, "run", run)
    return calls


def test_what_is_left_is_estimated_and_nothing_is_written(tmp_path, tried):
    dataset = Store(tmp_path / "out").dataset("test", {"a": 1}, ROWS)
    with dataset.begin() as term:
        term.handle.commit(term.handle.part_name(["x000"]), pa.table({"image_id": ["x000"]}, schema=ROWS))
    before = sorted(path for path in (tmp_path / "out").rglob("*"))
    chunks = [chunk(*(f"x{number:03d}" for number in range(start, start + 50))) for start in (0, 50, 100)]
    options = Options(dry_run=True, sample=8, limit=120, price_per_hour="2 USD", retry_failed=True)
    told = dry_run.run(dataset, iter(chunks), partial(Worker), 100, "images", options)
    shown = told.summary
    assert (shown["images"], shown["already done"], shown["left to do"], shown["tried"]) == (120, 1, 119, 8)
    assert shown["images_per_second"] == 20, "2 workers, 0.1 s each"
    assert shown["gigabytes written"] == pytest.approx(119_000 / 1e9, abs=1e-4)
    assert shown["gigabytes of memory per worker"] == 2
    assert "USD" in shown["price"]
    ((place, sample, given),) = tried
    assert sample["image_id"].to_pylist()[0] == "x001", "what is done is not tried"
    assert (given.rows_per_part, given.limit, given.retry_failed) == (2, None, False)
    assert sorted(path for path in (tmp_path / "out").rglob("*")) == before
    assert not place.startswith(str(tmp_path / "out"))
    assert told.code == 0


@pytest.mark.parametrize(
    ("decode", "gpus", "elsewhere", "told"),
    [
        ("local", 1, 0, None),
        (None, 0, 0, None),
        (None, 1, 0, "own CPUs decoded all 10, so the rate is that of --decode local"),
        ("cluster", 0, 0, "own CPUs decoded all 10, so the rate is that of --decode local"),
        ("cluster", 1, 4, "Other nodes decoded 4 of the 10"),
    ],
)
def test_a_dry_run_says_who_decoded_where_other_nodes_might(decode, gpus, elsewhere, told):
    summary = RunSummary(plan=Plan(2, 1, gpus))
    summary.add(report(1.0, done_elsewhere=elsewhere))
    note = where_decoded(summary, decode)
    assert note is None if told is None else told in note


def test_a_dry_run_counts_what_other_nodes_decoded(tmp_path, tried):
    dataset = Store(tmp_path / "out").dataset("test", {"a": 1}, ROWS)
    run = partial(dry_run.run, dataset, [chunk("a", "b")], partial(Worker), 100, "images", Options(dry_run=True))
    assert "decoded_elsewhere" not in run().summary
    told = run("cluster")
    assert told.summary["decoded_elsewhere"] == 0
    assert "own CPUs decoded all 2" in told.hint


def test_where_nothing_is_left_nothing_is_tried(tmp_path, tried):
    dataset = Store(tmp_path / "out").dataset("test", {"a": 1}, ROWS)
    with dataset.begin() as term:
        term.handle.commit(term.handle.part_name(["a"]), pa.table({"image_id": ["a"]}, schema=ROWS))
    told = dry_run.run(dataset, [chunk("a")], partial(Worker), 100, "images", Options(dry_run=True))
    assert (told.summary["left to do"], tried) == (0, [])


def test_inputs_that_have_changed_are_tried_where_they_are_to_be_done_again(tmp_path, tried):
    schema = pa.schema([*ROWS, pa.field("version", pa.string())])
    dataset = Store(tmp_path / "out").dataset("test", {"a": 1}, schema)
    with dataset.begin() as term:
        rows = pa.table({"image_id": ["a", "b"], "version": ["1", "1"]}, schema=schema)
        term.handle.commit(term.handle.part_name(["a", "b"]), rows)
    columns = {"image_id": ["a", "b"], "uri": ["/", "/"], "version": ["2", "1"], "problem": [None, None]}
    listed = pa.table([columns[name] for name in SCHEMA.names], schema=SCHEMA)
    told = dry_run.run(dataset, [listed], partial(Worker), 100, "images", Options(dry_run=True))
    assert (told.summary["changed"], told.summary["left to do"]) == (1, 0)
    assert "1 input changed" in told.hint and "--redo-changed" in told.hint
    options = Options(dry_run=True, redo_changed=True)
    told = dry_run.run(dataset, [listed], partial(Worker), 100, "images", options)
    assert told.summary["left to do"] == 1 and "--redo-changed" not in told.hint
    ((_, sample, _),) = tried
    assert sample["image_id"].to_pylist() == ["a"]
    assert sample.column_names == SCHEMA.names, "as a listing gives it"


def test_the_samples_store_is_beside_one_that_other_machines_see_and_removed(tmp_path):
    store = Store(tmp_path / "out")
    with temporary_store(store, on_cluster=True) as sampled:
        assert sampled.files.shown.startswith(f"{store.files.shown}.dry-run-")
        sampled.create()
    with temporary_store(store, on_cluster=False) as elsewhere:
        elsewhere.create()
        assert not elsewhere.files.shown.startswith(str(tmp_path))
    assert not elsewhere.exists()
    assert list(tmp_path.iterdir()) == []


def test_options_that_do_not_go_together_are_told():
    with pytest.raises(UserError, match="--keep-features: a dry run keeps nothing"):
        refuse_kept(Options(dry_run=True), {"--keep-features": "store", "--other": None})
    with pytest.raises(UserError, match="--price-per-hour is for --dry-run"):
        refuse_kept(Options(price_per_hour="1 USD"), {})
    with pytest.raises(UserError, match="currency"):
        refuse_kept(Options(dry_run=True, price_per_hour="1"), {})
    refuse_kept(Options(), {"--keep-features": "store"})
