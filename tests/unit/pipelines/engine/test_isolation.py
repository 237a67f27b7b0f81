"""Inputs to blame for deaths and exceptions, without Ray: a death is an exception that nobody catches."""

from __future__ import annotations

from types import SimpleNamespace

import pyarrow as pa
import pytest
import torch

from feature_store import StoreError, failure_schema
from pipelines.engine import isolation
from pipelines.engine.isolation import CAREFUL, DEATHS, MOST, Attempts, compute
from pipelines.errors import UserError

ROWS = pa.schema([pa.field("image_id", pa.string(), nullable=False)])


class Death(BaseException):
    pass


class Handle:
    """Of an actor that is an object."""

    def __init__(self, actor) -> None:
        self.actor = actor

    def __getattr__(self, name: str):
        return SimpleNamespace(remote=getattr(self.actor, name))


class Worker:
    """Dies of the ids in ``deadly``; raises ``error`` at those in ``raising``; writes down what it was asked."""

    def __init__(self, deadly: str = "", raising: str = "", error: Exception | None = None) -> None:
        self.deadly, self.raising, self.error, self.asked = deadly, raising, error or ValueError("no good"), []

    def process(self, unit):
        ids = unit["image_id"].to_pylist()
        self.asked.append("".join(ids))
        if set(ids) & set(self.deadly):
            raise Death
        if set(ids) & set(self.raising):
            raise self.error
        return unit.select(["image_id"]).cast(ROWS), failure_schema().empty_table()


@pytest.fixture(autouse=True)
def without_ray(monkeypatch):
    def end(code: int):
        raise Death

    monkeypatch.setattr(isolation, "ray", SimpleNamespace(get=lambda found: found))
    monkeypatch.setattr(isolation.os, "_exit", end)


def inputs(ids: str) -> pa.Table:
    uris = [f"/{id_}" for id_ in ids]
    return pa.table({"image_id": list(ids), "uri": uris, "tries": pa.array([1] * len(ids), pa.int32())})


def until_done(worker: Worker, ids: str) -> tuple[str, list[tuple], int]:
    """Ids with rows, failures, and the number of deaths."""
    attempts, deaths = Handle(Attempts()), 0
    while True:
        try:
            rows, failures = compute(worker, attempts, 7, inputs(ids))
        except Death:
            deaths += 1
            continue
        columns = ["image_id", "uri", "stage", "reason", "tries"]
        failed = [tuple(row.values()) for row in failures.select(columns).to_pylist()]
        return "".join(rows["image_id"].to_pylist()) if rows else "", failed, deaths


def test_a_unit_without_trouble_is_done_at_once():
    worker = Worker()
    assert until_done(worker, "abc") == ("abc", [], 0)
    assert worker.asked == ["abc"]


@pytest.mark.parametrize("deadly", ["a", "c", "ad"])
def test_what_kills_is_left_out(deadly):
    rows, failed, deaths = until_done(Worker(deadly), "abcd")
    assert rows == "".join(sorted(set("abcd") - set(deadly)))
    reason = "the process that worked on it died 2 times"
    assert failed == [(id_, f"/{id_}", "process", reason, 2) for id_ in deadly]
    assert deaths == CAREFUL - 1 + DEATHS * len(deadly)


def test_an_input_alone_in_its_unit_that_kills():
    assert until_done(Worker("a"), "a")[1][0][:3] == ("a", "/a", "process")


def test_what_raises_is_a_failure_and_the_others_have_rows():
    assert until_done(Worker(raising="b"), "abc") == ("ac", [("b", "/b", "compute", "ValueError: no good", 2)], 0)


def test_where_all_raise_nothing_is_noted():
    with pytest.raises(UserError, match=r"None of 3 inputs .* The first, a: ValueError: no good"):
        until_done(Worker(raising="abc"), "abc")


def test_a_machine_that_cannot_work_ends_the_run():
    ids = "abcdefghijklmnopqrstuvwxyz"
    worker = Worker(ids)
    with pytest.raises(UserError, match=f"died {MOST} times"):
        until_done(worker, ids)
    assert len(worker.asked) == MOST


@pytest.mark.parametrize("error", [StoreError("the disk is full"), UserError("no credentials")])
def test_what_concerns_the_run_is_raised(error):
    with pytest.raises(type(error), match=str(error)):
        until_done(Worker(raising="b", error=error), "abc")


def test_a_device_that_fails_takes_its_process_along():
    rows, failed, deaths = until_done(Worker(raising="b", error=torch.AcceleratorError("CUDA error")), "abc")
    assert (rows, failed[0][:3], deaths) == ("ac", ("b", "/b", "process"), 4)


def test_a_death_at_another_unit_does_not_count():
    actor = Attempts()
    for number in (1, 2):
        actor.begin(number)
        actor.turn_to(number, "a")
    assert (actor.begin(1).lost, actor.begin(2).lost) == ([], [])
    actor.turn_to(1, "a")
    assert (actor.begin(1).lost, actor.begin(2).lost) == (["a"], [])
    actor.end(1)
    assert actor.begin(1) == (1, False, "", [])
