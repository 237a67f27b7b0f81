"""Whether anything of `rnncond caption` grows with the number of images.

    python benchmarks/caption_growth.py [--sizes 1000 10000 1000 10000 100000] [--out FOLDER]

Pictures of 64 x 48 through a small network and Show and Tell, at growing numbers: processor milliseconds of the workers
an image, peak resident memory of the driver, and the most that lay in Ray's object store, looked at twice a second.
What noise is, sizes that are given twice show.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

import photographs
from caption import BEAM, make_model
from record import peak_mb, save

NETWORK = "timm/test_resnet"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="*", default=[1_000, 10_000, 1_000, 10_000])
    parser.add_argument("--out", type=Path, help="folder for the result as JSON")
    parser.add_argument("--grow", nargs=2, metavar=("PHOTOS", "MODEL"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.grow:
        return grow(*arguments.grow)
    with tempfile.TemporaryDirectory() as name:
        folder, result = Path(name), []
        small = photographs.generate(folder / "small", (64, 48))
        model = make_model(folder / "show_tell", NETWORK, "show_tell", 64)
        for number, size in enumerate(arguments.sizes):
            result.append(growth(photographs.link(folder / str(number), small, size), model))
            print(json.dumps(result[-1]), flush=True)
    if arguments.out:
        print(save(arguments.out, __doc__, arguments, result, network=NETWORK))


def growth(photos: Path, model: str) -> dict[str, float]:
    """In a process of its own, whose peak is the driver's."""
    words = [sys.executable, __file__, "--grow", str(photos), model]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    answer = json.loads(process.stdout.read().splitlines()[-1])
    assert process.wait() == 0
    return answer


def grow(photos: str, model: str) -> None:
    from pipelines.engine.driver import Options
    from pipelines.verbs import caption

    with tempfile.TemporaryDirectory() as out, Watch() as watch:
        options = Options(address="local")
        outcome = caption.run(model, out, photos, weights="random", beam=BEAM, options=options)
    done = outcome.summary
    print(json.dumps({
        "images": done["computed"], "cpu_ms_per_image": 1e3 * done["cpu_seconds"] / done["computed"],
        "images_per_s": done["images_per_second"], "object_store_peak_mb": watch.peak / 1e6,
        "driver_peak_mb": peak_mb(),
    }))  # fmt: skip


class Watch(threading.Thread):
    """The most bytes that lay in the object store while the block ran."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self.ended = 0.0, threading.Event()

    def __enter__(self) -> Watch:
        self.start()
        return self

    def __exit__(self, *_) -> None:
        self.ended.set()
        self.join()

    def run(self) -> None:
        import ray

        while not self.ended.wait(0.5):
            with suppress(Exception):  # Ray is not up yet, or no more
                there, free = ray.cluster_resources(), ray.available_resources()
                self.peak = max(self.peak, there["object_store_memory"] - free["object_store_memory"])


if __name__ == "__main__":
    main()
