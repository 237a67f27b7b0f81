"""A store in a folder, on a cluster of several machines: its nodes are made up, but for the one that there is."""

from __future__ import annotations

import fsspec
import pyarrow as pa
import pytest
import ray

from feature_store import Store, failure_schema
from pipelines.cluster import shared_storage
from pipelines.cluster.resources import Plan
from pipelines.cluster.shared_storage import refuse_hidden
from pipelines.console import Progress
from pipelines.engine import driver
from pipelines.engine.driver import Options
from pipelines.errors import UserError

ROWS = pa.schema([pa.field("image_id", pa.string(), nullable=False)])
PLAN = Plan(1, 1, 0)


class Copy:
    def process(self, unit):
        return unit.select(["image_id"]).cast(ROWS), failure_schema().empty_table()


def dataset_in(*place):
    return Store(*place).dataset(kind="test", recipe={"a": 1}, schema=ROWS)


@pytest.fixture
def machines(ray_cluster, monkeypatch):
    """A function that has the cluster consist of the one node that there is and the same under other addresses."""
    real = [node for node in ray.nodes() if node["Alive"]]

    def pretend(**resources):
        others = [{**real[0], "NodeManagerAddress": address, "Resources": has} for address, has in resources.items()]
        monkeypatch.setattr(ray, "nodes", lambda: [*real, *others])

    return pretend


@pytest.mark.ray
def test_a_store_that_another_machine_does_not_see_is_refused_before_any_work(
    cluster_that_knows_this_file, machines, monkeypatch, tmp_path
):
    machines(a={"CPU": 2}, b={"CPU": 2}, dead={"CPU": 0})
    monkeypatch.setattr(shared_storage, "ask", lambda path, nodes: {"a": True, "b": False})
    dataset = dataset_in(tmp_path / "store")
    with pytest.raises(UserError, match=r"store is a folder .* machines b do not see.*object storage.*data\.store"):
        run(dataset, workers=1)
    assert dataset.snapshot().rows == 0
    assert dataset.writer() is None


@pytest.mark.ray
def test_a_store_that_all_see_is_filled(cluster_that_knows_this_file, machines, tmp_path, capsys):
    machines(a={"CPU": 2})
    assert run(dataset_in(tmp_path / "store"), workers=1).rows == 2
    assert "is not known" not in capsys.readouterr().err


def run(dataset, **options):
    listed = pa.table({"image_id": ["x", "y"]})
    return driver.run(dataset, [listed], lambda plan: Copy, Progress("test", "inputs", None), 8, Options(**options))


@pytest.mark.ray
def test_the_machines_are_asked_for_a_file_of_this_very_writer(machines, monkeypatch, tmp_path, capsys):
    machines(a={"CPU": 2}, b={"CPU": 2})
    with dataset_in(tmp_path / "store").begin() as term:
        refuse_hidden(term.handle, PLAN)
        assert shared_storage.ask(str(tmp_path / "nothing"), shared_storage.other_machines(PLAN)) == {
            "a": False,
            "b": False,
        }
        monkeypatch.setattr(shared_storage, "ask", lambda path, nodes: {"a": True})
        assert capsys.readouterr().err == ""
        refuse_hidden(term.handle, PLAN)
        assert "Whether b see" in capsys.readouterr().err


@pytest.mark.ray
def test_nodes_that_have_gone_do_not_answer(ray_cluster, tmp_path):
    assert shared_storage.ask(str(tmp_path), {"a": "0" * 56}) == {}


@pytest.mark.ray
def test_nobody_is_asked_on_one_machine_nor_where_no_worker_comes(machines, monkeypatch, tmp_path):
    monkeypatch.setattr(shared_storage, "ask", None)
    with dataset_in(tmp_path / "store").begin() as term:
        refuse_hidden(term.handle, PLAN)
        machines(a={"CPU": 0.0}, b={})
        refuse_hidden(term.handle, PLAN)
        machines(a={"CPU": 8})
        refuse_hidden(term.handle, Plan(1, 4, 1))
    with dataset_in("store", fsspec.filesystem("memory")).begin() as term:
        refuse_hidden(term.handle, PLAN)
