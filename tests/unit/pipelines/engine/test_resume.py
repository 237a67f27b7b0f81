import pyarrow as pa
import pytest

from feature_store import Store, failure_schema
from pipelines.engine.resume import Pending
from pipelines.engine.summary import RunSummary
from pipelines.inputs.listing_formats import SCHEMA
from tests.worlds.listings import chunk, failure_rows

ROWS = pa.schema([pa.field("image_id", pa.string(), nullable=False), pa.field("version", pa.string())])


@pytest.fixture
def half_done(tmp_path):
    """A set that has a, c of version 1 and the failure of b."""
    dataset = Store(tmp_path / "store").dataset(kind="test", recipe={"a": 1}, schema=ROWS)
    with dataset.begin() as term:
        rows = pa.table({"image_id": ["a", "c"], "version": ["1", "1"]}, schema=ROWS)
        term.handle.commit(term.handle.part_name("abc"), rows, failure_rows("b", version="1", tries=2))
    return dataset


def test_pending(half_done):
    summary = RunSummary()
    chunks = [chunk("a", "b"), chunk("c"), chunk("d", "e")]
    (left,) = Pending(half_done.snapshot(), summary).chunks(chunks)
    assert left.select(["image_id", "tries"]).to_pylist() == [
        {"image_id": "d", "tries": 0},
        {"image_id": "e", "tries": 0},
    ]
    assert (summary.listed, summary.done_before, summary.failed_before) == (5, 2, 1)
    assert summary.failures == ["b: read: bad"]


def test_pending_with_failures_tried_again(half_done):
    summary = RunSummary()
    tables = list(
        Pending(half_done.snapshot(), summary, retry_failed=True).chunks([chunk("a", "b"), chunk("c"), chunk("d")])
    )
    assert [table.select(["image_id", "tries"]).to_pylist() for table in tables] == [
        [{"image_id": "b", "tries": 2}],
        [{"image_id": "d", "tries": 0}],
    ]
    assert (summary.listed, summary.done_before, summary.failed_before) == (4, 2, 0)


def test_failures_of_other_inputs_do_not_count(half_done):
    summary = RunSummary()
    list(Pending(half_done.snapshot(), summary).chunks([chunk("x")]))
    assert (summary.listed, summary.failed_before, summary.failures) == (1, 0, [])


def test_a_failed_input_that_changed_is_tried_again_with_the_changed_ones(half_done):
    for redo_changed, expected in ((False, []), (True, [["b"], ["c"]])):
        summary = RunSummary()
        pending = Pending(half_done.snapshot(), summary, redo_changed=redo_changed)
        left = [
            table[0].to_pylist() for table in pending.chunks([chunk("a", version="1"), chunk("b", "c", version="2")])
        ]
        left += [unit.inputs[0].to_pylist() for unit in pending.changed_units()]
        assert left == expected
        assert summary.changed == 2
        assert summary.failed_before == (0 if redo_changed else 1)


def test_a_changed_input_takes_its_part_along(half_done):
    pending = Pending(half_done.snapshot(), RunSummary(), redo_changed=True)
    assert list(pending.chunks([chunk("a", "b", version="1"), chunk("c", version="2")])) == []
    (unit,) = pending.changed_units()
    assert unit.inputs.select(["image_id", "version", "tries"]).to_pylist() == [
        {"image_id": "c", "version": "2", "tries": 0}
    ]
    assert unit.replaces == half_done.snapshot().parts[0]
    assert unit.failures["image_id"].to_pylist() == ["b"]


@pytest.mark.parametrize(
    ("folder", "expected"), [("/A", ""), ("/B", "a.jpg was /A/a.jpg and is now /B/a.jpg")], ids=["same", "other"]
)
def test_inputs_of_another_root_that_count_as_done_by_their_names(tmp_path, folder, expected):
    located = ROWS.append(pa.field("uri", pa.string()))
    dataset = Store(tmp_path / "store").dataset(kind="test", recipe={"a": 1}, schema=located)
    ids = ["a.jpg", "b.jpg"]
    with dataset.begin() as term:
        rows = pa.table([ids, ["1", "1"], [f"/A/{id_}" for id_ in ids]], schema=located)
        term.handle.commit(term.handle.part_name(ids), rows)
    summary = RunSummary()
    now = ["0.jpg", *ids]
    listed = pa.table([now, [f"{folder}/{id_}" for id_ in now], [None] * 3, [None] * 3], schema=SCHEMA)
    (left,) = Pending(dataset.snapshot(), summary).chunks([listed])
    assert (left[0].to_pylist(), summary.done_before, summary.moved_example) == (["0.jpg"], 2, expected)
    assert (f"read from elsewhere: {expected}." in (summary.hint("images", False) or "")) == bool(expected)
    again, changed = RunSummary(), listed.set_column(2, "version", pa.array(["2"] * 3))
    list(Pending(dataset.snapshot(), again, redo_changed=True).chunks([changed]))
    assert again.changed == 2 and not again.moved_example, "what is done again counts as done by nothing"


def test_failures_of_ill_storage_that_older_versions_committed_are_tried_again_unasked(tmp_path):
    dataset = Store(tmp_path / "store").dataset(kind="test", recipe={"a": 1}, schema=ROWS)
    failed = {
        "slow": ("read", "AWS Error SLOW_DOWN during HeadObject operation: Please reduce your request rate."),
        "away": ("read", "AWS Error NETWORK_CONNECTION during GetObject operation: curlCode: 7, Couldn't connect"),
        "expired": ("read", "AWS Error UNKNOWN (HTTP status 400) during GetObject operation: ExpiredToken"),
        "gone": ("read", "no such file"),
        "broken": ("decode", "broken picture: timed out"),
        "SlowDown": ("read", "[Errno 13] Failed to open local file 's3://b/SlowDown'"),
    }
    rows = [{"image_id": name, "uri": f"s3://b/{name}", "version": None, "stage": stage, "reason": reason, "tries": 1}
            for name, (stage, reason) in failed.items()]  # fmt: skip
    with dataset.begin() as term:
        failures = pa.Table.from_pylist(rows, failure_schema())
        term.handle.commit(term.handle.part_name(failed), None, failures)
    summary = RunSummary()
    (left,) = Pending(dataset.snapshot(), summary).chunks([chunk(*failed)])
    assert left[0].to_pylist() == ["slow", "away", "expired"]
    assert summary.failed_before == 3
