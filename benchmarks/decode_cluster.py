"""How busy a GPU is that takes its pixels from CPUs of other nodes, by how many these are.

    python benchmarks/decode_cluster.py [--needed 4.4] [--cpus 0 2 4 8] [--slowdown 20] [--out benchmarks/results]

Raylets of this machine are the nodes: one has a CPU and a GPU of which Ray alone knows, two more have the ``--cpus``.
The network sleeps as a GPU would compute: it takes an image in the time that ``--needed`` CPUs take to decode one (an
H100 with ResNet-50, 3,000 images/s, needs 4.4 for photographs of 0.1 megapixels: decode_rates.py). Decoding is real,
and each decoded picture is followed by a pause, so that a CPU here is ``--slowdown`` times slower than a core and the
machine's cores can be many CPUs. The network is as much slower, so its units are smaller: one takes as long as 4,096
pictures at 3,000 images/s, and what is between two units weighs as much as there; tasks have 4 pictures. ``busy`` is
the network's time by the time from the fourth unit to the last; ``store_mb`` the most that the object stores of all
nodes held at a time, sampled.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import photographs
import ray
from ray._private.internal_api import node_stats
from ray.cluster_utils import Cluster
from record import save

from feature_store import Store, feature_schema
from pipelines.cluster import spread
from pipelines.console import Progress
from pipelines.engine import driver
from pipelines.engine.driver import Options
from pipelines.engine.workers import shipped
from pipelines.features.preprocess import Preprocess, load
from pipelines.inputs.listing import Listing
from pipelines.verbs.features import FeatureWorker

SIZE = (387, 258)
"""0.1 megapixels."""
OUTPUTS, SHAPES = ("pooled",), {"pooled": (2048,)}
UNIT_SECONDS = 4096 / 3000
WARM_UNITS = 3
"""That are not counted: in their time Ray starts the processes that decode."""


@dataclass(frozen=True)
class Slowed(Preprocess):
    """As ResNet-50's, and a pause."""

    pause: float = 0.0

    def __call__(self, image):
        pixels = super().__call__(image)
        time.sleep(self.pause)
        return pixels


class Sleeper:
    """A network that takes ``seconds`` an image of nobody's time, and writes down when."""

    outputs, shapes, batch = OUTPUTS, SHAPES, 16

    def __init__(self, preprocess: Preprocess, seconds: float, notes: Path) -> None:
        self.preprocess, self.seconds, self.notes = preprocess, seconds, notes

    def to(self, device):
        return self

    def example(self, count):
        return []

    def __call__(self, pictures):
        begun = time.time()
        values = np.stack(pictures).mean((1, 2))[:, [0] * 2048] if pictures else np.zeros((0, 2048))
        time.sleep(max(len(pictures) * self.seconds - (time.time() - begun), 0))
        if pictures:
            with self.notes.open("a") as notes:
                notes.write(f"{begun} {time.time()}\n")
        return {"pooled": values.astype(np.float16)}


class SmallTasks(FeatureWorker):
    def __init__(self, *arguments) -> None:
        spread.TASK_ITEMS = 4
        super().__init__(*arguments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, help="a folder of photographs; generated ones if not given")
    parser.add_argument("--count", type=int, default=2048)
    parser.add_argument("--needed", type=float, default=4.4, help="CPUs that decode as fast as the network computes")
    parser.add_argument("--cpus", type=int, nargs="+", default=[0, 2, 4, 8], help="of other nodes")
    parser.add_argument("--slowdown", type=float, default=20)
    parser.add_argument("--out", type=Path, help="folder for the result as JSON")
    arguments = parser.parse_args()
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        source = arguments.images or photographs.generate(Path(folder, "made"), SIZE)
        photos = photographs.link(Path(folder, "photos"), source, arguments.count)
        core = core_seconds(photos)
        preprocess = Slowed(
            (224, 224), (256, 256), "bilinear", (0.5,) * 3, (0.5,) * 3, pause=(arguments.slowdown - 1) * core
        )
        seconds = core * arguments.slowdown / arguments.needed
        print(
            f"a core decodes a photograph in {core * 1e3:.2f} ms; the network takes {1 / seconds:.0f} images/s",
            flush=True,
        )
        for cpus in arguments.cpus:
            results[cpus] = run(Path(folder, str(cpus)), photos, preprocess, seconds, cpus)
            print(cpus, json.dumps(results[cpus]), flush=True)
    if arguments.out:
        print(save(arguments.out, __doc__, arguments, results, core_ms=core * 1e3, network_rate=1 / seconds))


def core_seconds(photos: Path) -> float:
    plain = Preprocess((224, 224), (256, 256), "bilinear", (0.5,) * 3, (0.5,) * 3)
    rows = [{"image_id": "", "uri": str(path), "version": None} for path in sorted(photos.iterdir())[:200]]
    return statistics.median(load(row, plain).cpu for row in rows)


def run(folder: Path, photos: Path, preprocess: Preprocess, seconds: float, cpus: int) -> dict[str, float]:
    folder.mkdir()
    network = Sleeper(preprocess, seconds, folder / "notes")
    dataset = Store(str(folder / "store")).dataset("features", {"a": 1}, feature_schema(OUTPUTS, SHAPES))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    watch = StoreWatch()
    try:
        cluster.add_node(num_cpus=1, num_gpus=1)
        for _ in range(2 if cpus else 0):
            cluster.add_node(num_cpus=cpus // 2)
        make_worker = shipped(SmallTasks, network, dataset.schema, None, 1, "cluster" if cpus else "local")
        options = Options(address=cluster.address, gpus=1, rows_per_part=round(UNIT_SECONDS / seconds))
        with watch:
            summary = driver.run(
                dataset, Listing(str(photos)).begin(None), make_worker, Progress("busy", "images", None), 4096, options
            )
    finally:
        ray.shutdown()
        cluster.shutdown()
    times = [tuple(map(float, line.split())) for line in network.notes.read_text().splitlines()]
    warm = times[WARM_UNITS * options.rows_per_part // network.batch :]
    busy = sum(end - begin for begin, end in warm) / (warm[-1][1] - warm[0][0])
    made = {"images": summary.rows, "units": summary.units, "cpu": summary.cpu}
    return {"busy": busy, **made, "store_mb": watch.most / 1e6}


class StoreWatch(threading.Thread):
    """Looks what the object stores of all nodes hold, while its block lasts and Ray is there."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most, self.ended = 0, threading.Event()

    def __enter__(self) -> StoreWatch:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.join()

    def run(self) -> None:
        while not self.ended.wait(0.5):
            if ray.is_initialized():
                nodes = [node for node in ray.nodes() if node["Alive"]]
                held = [
                    node_stats(node["NodeManagerAddress"], node["NodeManagerPort"], False).store_stats for node in nodes
                ]
                self.most = max(self.most, sum(one.object_store_bytes_used for one in held))


if __name__ == "__main__":
    main()
