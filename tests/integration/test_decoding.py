"""`--decode local` and `--decode cluster` give the same, also where a node that decodes is taken away."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import ray
from PIL import Image
from ray._private.services import wait_for_node

from feature_store import Store, feature_schema, verify
from pipelines.console import Progress
from pipelines.engine import driver
from pipelines.engine.driver import Options
from pipelines.engine.workers import shipped
from pipelines.features.preprocess import Preprocess
from pipelines.inputs.listing import Listing
from pipelines.verbs.features import FeatureWorker
from tests.worlds.nodes import DEADLINE, Nodes, await_, patiently

COUNT = 192
MODES = ("local", "cluster")


@dataclass(frozen=True)
class Noting(Preprocess):
    """Tasks leave the name of their node in ``notes`` and wait until one of these is gone; the worker's own threads
    wait for the same, so tasks have time to come."""

    notes: Path | None = None

    def __call__(self, image):
        if self.notes:
            context = ray.get_runtime_context()
            if not context.get_actor_id():
                (self.notes / context.get_node_id()).touch()
            await_(lambda: (self.notes / "killed").exists())
        return super().__call__(image)


class Corner:
    """A network that says what is in a corner of a picture. It has a GPU of which Ray alone knows."""

    batch = 8
    outputs, shapes = ("pooled",), {"pooled": (12,)}

    def __init__(self, notes: Path | None) -> None:
        self.preprocess = Noting((32, 32), (36, 36), "bilinear", (0.5,) * 3, (0.5,) * 3, notes=notes)

    def to(self, device):
        return self

    def example(self, count):
        return [np.zeros((32, 32, 3), np.uint8)] * count

    def __call__(self, pictures):
        return {"pooled": np.stack(pictures)[:, :2, :2].reshape(-1, 12).astype(np.float16)}


def photos_in(folder: Path) -> Path:
    folder.mkdir()
    for number in range(COUNT):
        noise = np.random.default_rng(number).integers(0, 256, (6, 8, 3), np.uint8)
        Image.fromarray(noise).resize((80, 60)).save(folder / f"{number:03d}.jpg")
    (folder / "050.jpg").write_bytes((folder / "051.jpg").read_bytes()[:500])
    (folder / "150.jpg").write_bytes(b"")
    (folder / "151.jpg").unlink()
    (folder / "151.jpg").symlink_to("nowhere")
    return folder


def work(address: str, root: str) -> None:
    """The driver."""
    folder = Path(root)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    for mode in MODES:
        network = Corner(folder / "notes" if mode == "cluster" else None)
        dataset = Store(folder / mode).dataset("features", {"a": 1}, feature_schema(network.outputs, network.shapes))
        make_worker = shipped(FeatureWorker, network, dataset.schema, 8, 1, mode)
        options = Options(address=address, gpus=1, rows_per_part=COUNT // 2)
        listing = Listing(str(folder / "photos"))
        driver.run(dataset, listing.begin(None), make_worker, Progress("t", "images", None), 24, options)


@pytest.mark.ray
def test_both_ways_give_the_same_rows_also_where_a_decoding_node_is_taken_away(tmp_path):
    photos_in(tmp_path / "photos")
    notes = tmp_path / "notes"
    notes.mkdir()
    with Nodes(2) as nodes:
        gpu = patiently(lambda: nodes.cluster.add_node(wait=False, num_cpus=1, num_gpus=1))
        wait_for_node(gpu.gcs_address, gpu.plasma_store_socket_name, DEADLINE)
        call = f"from tests.integration import test_decoding; test_decoding.work({nodes.address!r}, {str(tmp_path)!r})"
        environment = {**os.environ, "HOME": nodes.folder, "PYTHONPATH": ":".join(filter(None, sys.path))}
        running = subprocess.Popen([sys.executable, "-c", call], env=environment, cwd=Path(__file__).parents[2])
        (name, *_) = await_(lambda: [path.name for path in notes.iterdir()], lambda: running.poll() is None)
        nodes.kill(next(node for node in nodes.cluster.worker_nodes if node.node_id == name))
        (notes / "killed").touch()
        assert running.wait(DEADLINE) == 0
    rows, failures = {}, {}
    for mode in MODES:
        (dataset,) = Store(tmp_path / mode).datasets()
        assert verify(dataset).problems == []
        rows[mode] = pa.Table.from_batches(dataset.snapshot().scan()).sort_by("image_id")
        failures[mode] = dataset.snapshot().failures().sort_by("image_id")
    assert rows["local"]["image_id"].to_pylist() == [
        f"{number:03d}.jpg" for number in range(COUNT) if number not in (50, 150, 151)
    ]
    assert rows["cluster"].equals(rows["local"])
    assert failures["local"]["stage"].to_pylist() == ["decode", "decode", "read"]
    assert failures["cluster"].equals(failures["local"])
