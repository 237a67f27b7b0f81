"""A batch verb on a cluster that begins with no worker, grows to three, and loses one."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest
import ray

from feature_store import Store, failure_schema, verify
from pipelines.cluster import connection
from pipelines.console import Progress
from pipelines.engine import driver
from pipelines.engine.driver import Options
from pipelines.errors import UserError
from tests.worlds.autoscaling import AutoscalingNodes, end
from tests.worlds.nodes import await_

ROWS = pa.schema([pa.field("image_id", pa.string(), nullable=False)])


class Slow:
    """Leaves a file for each unit in a folder of its node's name."""

    def __init__(self, notes: Path) -> None:
        self.folder = notes / ray.get_runtime_context().get_node_id()
        self.folder.mkdir(exist_ok=True)

    def process(self, unit):
        time.sleep(0.5)
        (self.folder / unit["image_id"][0].as_py()).touch()
        return unit.select(["image_id"]).cast(ROWS), failure_schema().empty_table()


def units_done(folder: Path) -> list[Path]:
    return list((folder / "notes").glob("*/*"))


def work(address: str, root: str) -> None:
    """The driver: lists inputs until the file ``enough`` is there."""
    folder = Path(root)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    driver.MAX_ROWS = 1  # the work begins before it is all listed
    dataset = Store(folder / "store").dataset(kind="test", recipe={"a": 1}, schema=ROWS)

    def listed():
        for number in itertools.count():
            # Little ahead of the work, so that what is left to do when there is enough does not take long.
            await_(lambda listed=number: listed < len(units_done(folder)) + 12)
            if (folder / "enough").exists():
                break
            yield pa.table({"image_id": [f"{number:05d}a", f"{number:05d}b"]})
        (folder / "listed").write_text(str(2 * number))

    def run(chunks, **options):
        about = Options(address=address, rows_per_part=2, **options)
        return driver.run(
            dataset, chunks, lambda plan: lambda: Slow(folder / "notes"), Progress("t", "i", None), 8, about
        )

    one = pa.table({"image_id": ["x"]})
    refused = []
    types = connection.node_types
    for known in (types, tuple):  # by what the autoscaler's file says, and by what the autoscaler reports
        connection.node_types = known
        try:
            run([one], gpus=1)
        except UserError as error:
            refused.append(str(error))
    connection.node_types = types
    summary = run(listed())
    told = {"refused": refused, "rows": summary.rows, "failed": summary.failed, "plan": summary.plan.describe()}
    (folder / "summary.json").write_text(json.dumps(told))


@pytest.mark.ray
@pytest.mark.slow
def test_a_cluster_that_begins_with_nothing_grows_and_loses_a_node(tmp_path):
    (tmp_path / "notes").mkdir()
    with AutoscalingNodes({"CPU": 1, "object_store_memory": 100_000_000}, most=3) as nodes:
        call = f"from tests.integration import test_growth; test_growth.work({nodes.address!r}, {str(tmp_path)!r})"
        environment = {**os.environ, "HOME": nodes.folder, "PYTHONPATH": ":".join(filter(None, sys.path))}
        running = subprocess.Popen([sys.executable, "-c", call], env=environment, cwd=Path(__file__).parents[2])

        def is_running() -> bool:
            return running.poll() is None

        try:
            await_(lambda: len({unit.parent for unit in units_done(tmp_path)}) == 3, is_running)
            end(nodes.raylets()[1])
            before = len(units_done(tmp_path))
            await_(lambda: len(units_done(tmp_path)) > before + 10, is_running)
            (tmp_path / "enough").touch()
            assert running.wait(timeout=300) == 0
        finally:
            running.kill()

    summary = json.loads((tmp_path / "summary.json").read_text())
    listed = int((tmp_path / "listed").read_text())
    dataset = Store(tmp_path / "store").open()
    assert verify(dataset).problems == []
    expected = [f"{number:05d}{letter}" for number in range(listed // 2) for letter in "ab"]
    assert sorted(dataset.snapshot().ids().to_pylist()) == expected
    assert (summary["rows"], summary["failed"], summary["plan"]) == (listed, 0, "1 to 3 with 1 CPU each")
    by_file, by_report = summary["refused"]
    assert "gpus: 1 asked for" in by_file and "may start up to 3 worker with 1 CPU" in by_file
    assert "nor one that its autoscaler may start, holds a worker with 1 CPU and 1 GPU" in by_report
