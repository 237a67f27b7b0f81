"""What Prometheus is told, asked of the address at which it asks."""

from __future__ import annotations

import re
import time
import urllib.request

import pyarrow as pa
import pytest

from feature_store import Store, failure_schema
from pipelines.cluster import prometheus
from pipelines.console import Progress
from pipelines.engine import driver
from pipelines.engine.driver import Options
from pipelines.inputs.listing_formats import SCHEMA

ROWS = pa.schema([pa.field("image_id", pa.string(), nullable=False)])


class BadFail:
    """Gives every id a row, but for those that begin with "bad"."""

    def process(self, unit):
        ids = unit["image_id"].to_pylist()
        failed = [
            {"image_id": id_, "uri": "/", "version": None, "stage": id_.split("-")[1], "reason": "bad", "tries": 1}
            for id_ in ids
            if id_.startswith("bad")
        ]
        done = [id_ for id_ in ids if not id_.startswith("bad")]
        return pa.table([done], schema=ROWS), pa.Table.from_pylist(failed, failure_schema())


@pytest.fixture
def metrics(cluster_that_knows_this_file):
    """A function that gives the samples of an output when there are so many: (name, its own tag) -> value."""
    import ray

    address = f"http://127.0.0.1:{ray.nodes()[0]['MetricsExportPort']}/metrics"

    def read(output: str) -> dict[tuple[str, str], float]:
        text = urllib.request.urlopen(address, timeout=60).read().decode()
        found = {}
        for name, tags, value in re.findall(r"^ray_rnncond_(\w+)\{(.*)\} (\S+)$", text, re.MULTILINE):
            if f'output="{output}"' in tags:
                own = re.search(r'(?:stage|metric)="([^"]*)"', tags)
                found[name, own[1] if own else ""] = float(value)
        return found

    def wait(output: str, count: int, meanwhile=lambda: None):
        deadline = time.monotonic() + 300
        while meanwhile() or len(found := read(output)) < count:
            assert time.monotonic() < deadline, f"only {found}"
            time.sleep(0.5)
        return found

    return wait


@pytest.mark.ray
def test_the_pace_of_a_training(tmp_path, metrics):
    meter = prometheus.TrainingMeter("show_tell", str(tmp_path))
    meter.epoch({"epoch": 1, "val_loss": 3.25, "CIDEr": 41.0, "seconds": 9.0})
    entry = {"epoch": 2, "steps": 70, "step": 20, "train_loss": 3.5, "words_per_second": 1200.0}
    assert metrics(str(tmp_path), 6, lambda: meter.progress(entry)) == {
        ("train_epoch", ""): 2,
        ("train_steps", ""): 70,
        ("train_loss", ""): 3.5,
        ("train_words_per_second", ""): 1200,
        ("train_score", "val_loss"): 3.25,
        ("train_score", "CIDEr"): 41,
    }


@pytest.mark.ray
def test_counts_of_a_batch_verb(tmp_path, metrics):
    ids = ["a", "b", "c", "bad-read", "bad-decode", "d", "bad-decode2", "bad-read-2"]
    listed = pa.table([ids, ["/"] * len(ids), *[[None] * len(ids)] * 2], schema=SCHEMA)
    dataset = Store(tmp_path / "store").dataset(kind="test", recipe={"a": 1}, schema=ROWS)
    options = Options(workers=1, rows_per_part=3)
    driver.run(dataset, [listed], lambda plan: BadFail, Progress("x", "inputs", None), 100, options)

    size = sum(path.stat().st_size for path in (tmp_path / "store").rglob("parts/*.parquet"))
    assert metrics(dataset.store.files.shown, 6) == {
        ("inputs_done_total", ""): 4,
        ("inputs_failed_total", "read"): 2,
        ("inputs_failed_total", "decode"): 1,
        ("inputs_failed_total", "decode2"): 1,
        ("units_committed_total", ""): 3,
        ("bytes_committed_total", ""): size,
    }


def test_failures_of_a_part_from_an_attempt_that_died_are_counted_too(monkeypatch):
    counted = []

    class Counter:
        def __init__(self, name, description, tag_keys):
            self.name = name

        def set_default_tags(self, tags):
            pass

        def inc(self, value=1.0, tags=None):
            counted.append((self.name.removeprefix("rnncond_"), value, (tags or {}).get("stage")))

    monkeypatch.setattr(prometheus, "Counter", Counter)
    prometheus.BatchMeter("features", "s").add({"rows": 0, "failed": 5, "bytes": 0, "stages": ["read", "read"]})
    assert counted == [("units_committed", 1.0, None), ("inputs_failed", 2, "read"), ("inputs_failed", 3, "unknown")]


def test_what_is_within_units_is_a_gauge_once_there_is_any(monkeypatch):
    told = []

    class Metric:
        def __init__(self, name, description, tag_keys):
            self.name = name.removeprefix("rnncond_")

        def set_default_tags(self, tags):
            told.append((self.name, tags["output"]))

        def set(self, value, tags=None):
            told.append((self.name, value))

    monkeypatch.setattr(prometheus, "Counter", Metric)
    monkeypatch.setattr(prometheus, "Gauge", Metric)
    meter = prometheus.BatchMeter("features", "s")
    del told[:]
    for count in (0, 7, 0):
        meter.within(count)
    assert told == [("inputs_in_units", "s"), ("inputs_in_units", 7), ("inputs_in_units", 0)]
