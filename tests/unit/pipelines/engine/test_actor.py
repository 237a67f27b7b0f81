"""What an actor does with a unit: compute, commit once, report."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest

from feature_store import Store, failure_schema, retry
from feature_store.errors import StorageFault
from pipelines.engine import actor
from pipelines.engine.counter import COUNTER
from pipelines.engine.failures import DEFERRED
from pipelines.engine.isolation import Attempts
from pipelines.engine.work import Unit
from pipelines.errors import Fault, UserError
from pipelines.inputs.listing_formats import SCHEMA
from tests.worlds import engine
from tests.worlds.nodes import await_

ROWS = pa.schema([pa.field("image_id", pa.string(), nullable=False)])


def unit(*ids, replaces=None, number=7):
    inputs = pa.table([ids, [f"/{id_}" for id_ in ids], *[[None] * len(ids)] * 2], schema=SCHEMA)
    inputs = inputs.append_column("tries", pa.array([0] * len(ids), pa.int64()))
    return Unit(inputs, replaces).pack().append_column("number", pa.array([number], pa.int64()))


class Sorting:
    """Inputs whose ids begin with "bad" fail, with "away" are deferred; the others get rows."""

    def __init__(self):
        self.seen = []

    def process(self, inputs):
        ids = inputs["image_id"].to_pylist()
        self.seen += ids
        stages = {id_: {"bad": "decode", "away": DEFERRED}.get(id_.partition("-")[0]) for id_ in ids}
        failures = [
            {"image_id": id_, "uri": f"/{id_}", "version": None, "stage": stage, "reason": "why", "tries": 1}
            for id_, stage in stages.items()
            if stage
        ]
        rows = pa.table({"image_id": [id_ for id_, stage in stages.items() if not stage]}, schema=ROWS)
        return rows, pa.Table.from_pylist(failures, failure_schema())


@pytest.fixture
def dataset(tmp_path):
    return Store(tmp_path / "store").dataset(kind="test", recipe={}, schema=ROWS)


@pytest.fixture
def make(dataset, monkeypatch):
    monkeypatch.setattr(retry, "SECONDS", retry.SECONDS)  # an actor sets it, for its own process
    attempts = engine.Actor(Attempts())
    with engine.without_ray(), dataset.begin() as term:
        yield lambda worker: actor.Actor(lambda: worker, term.handle, attempts, {}, 1.0)


def test_a_unit_is_committed_and_told(make, dataset):
    (report,) = make(Sorting())(unit("a", "bad-1", "away-1", "c")).to_pylist()
    assert (report["rows"], report["failed"], len(report["deferred"])) == (2, 1, 1)
    assert (report["number"], report["stages"], report["error"]) == (7, ["decode"], None)
    assert report["memory"] > 2**20 and report["ended"] >= report["begun"] and report["bytes"] > 0
    (part,) = dataset.snapshot().parts
    assert (part.rows, part.failures) == (2, 1)  # what storage did not give is neither


def test_a_unit_whose_first_attempt_died_after_its_commit_is_not_computed_again(make):
    packed, again = unit("a", "bad-1"), Sorting()
    make(Sorting())(packed)
    (report,) = make(again)(packed).to_pylist()
    assert again.seen == [] and (report["rows"], report["failed"]) == (1, 1)


@pytest.mark.parametrize("kind", [UserError, Fault, StorageFault])
def test_an_error_comes_back_as_what_it_was(make, kind):
    class Broken:
        def process(self, inputs):
            raise kind("no weights")

    (report,) = make(Broken())(unit("a")).to_pylist()
    assert "no weights" in report["error"]
    assert actor.ERRORS[report["of_store"], report["code"]] is kind


def test_what_replaces_a_part_takes_over_its_other_rows(make, dataset):
    make(Sorting())(unit("a", "b"))
    (old,) = dataset.snapshot().parts
    (report,) = make(Sorting())(unit("b", replaces=old)).to_pylist()
    assert report["rows"] == 1
    snapshot = dataset.snapshot()
    assert len(snapshot.parts) == 1
    ids = pa.Table.from_batches(snapshot.scan(), ROWS)["image_id"].to_pylist()
    assert sorted(ids) == ["a", "b"]


def test_a_unit_is_computed_while_the_one_before_is_committed(make, dataset, monkeypatch):
    """And what each takes of time does not overlap with the other's."""
    begun, may_commit = threading.Event(), threading.Event()

    class Telling(Sorting):
        def process(self, inputs):
            if inputs["image_id"][0].as_py() == "b":
                begun.set()
            return super().process(inputs)

    own = make(Telling())
    commit = own.commit

    def slow_commit(name, unit, *rest):
        if unit.inputs["image_id"][0].as_py() == "a":
            assert begun.wait(60), "the second has not begun"
            assert may_commit.wait(60)
        return commit(name, unit, *rest)

    monkeypatch.setattr(own, "commit", slow_commit)
    with ThreadPoolExecutor(2) as calls:
        first = calls.submit(own, unit("a", number=0))
        second = calls.submit(own, unit("b", number=1))
        (later,) = second.result(60).to_pylist()
        may_commit.set()
        (earlier,) = first.result(60).to_pylist()
    assert dataset.snapshot().rows == 2
    assert (earlier["number"], later["number"]) == (0, 1)
    spans = sorted((report["begun"], report["ended"]) for report in (earlier, later))
    assert spans[0][1] <= spans[1][0]


def test_the_inputs_of_a_unit_that_waits_can_be_read_ahead(make):
    following, begun = [], threading.Event()

    class Looking(Sorting):
        def process(self, inputs):
            begun.set()
            if not following:
                await_(lambda: COUNTER.following() is not None)
                following.append(COUNTER.following()["image_id"].to_pylist())
            return super().process(inputs)

    own = make(Looking())
    with ThreadPoolExecutor(2) as calls:
        first = calls.submit(own, unit("a", number=0))
        assert begun.wait(60)
        second = calls.submit(own, unit("b", "c", number=1))
        first.result(60), second.result(60)
    assert following == [["b", "c"]] and COUNTER.following() is None
