"""What `rnncond features` costs beside its decoding and its CNN, and whether its driver grows with the inputs.

    python benchmarks/features.py [--images FOLDER] [--count 400] [--rounds 3] [--out benchmarks/results]

**Throughput.** The bound is the same decoding and the same network in bare processes, one thread a core, no Ray, no
store, results thrown away. Bound and `features` take turns. ``ratio`` compares images/s from the first unit's beginning
to the last one's end; ``cpu_ratio`` compares processor seconds per image, which other work on the machine disturbs
less. ``start_up_s`` is everything before and after, with Ray running already.

**Memory.** Peak resident memory of the driver of the installed command, at growing numbers of images.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import photographs
from PIL import Image
from record import measure_cores, peak_mb, save

from pipelines.allocator import keep_freed_memory

NETWORK = "torchvision/squeezenet1_0"
SMALL_NETWORK = "timm/mobilenetv3_small_050"
CORES = os.cpu_count()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, help="a folder of photographs; generated ones of 500 x 375 if not given")
    parser.add_argument("--count", type=int, default=400, help="photographs a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs="*", default=[1_000, 10_000], help="for the driver's memory")
    parser.add_argument("--out", type=Path, help="folder for the result as JSON")
    arguments = parser.parse_args()
    keep_freed_memory(os.environ)  # of the bare loop as of rnncond
    with tempfile.TemporaryDirectory() as folder:
        photos = photographs.link_or_generate(Path(folder), arguments.images, arguments.count)
        result = {"throughput": throughput(photos, arguments.rounds) if arguments.rounds else None, "driver": []}
        for size in arguments.sizes:
            result["driver"].append(driver_memory(Path(folder, str(size)), size))
            print(json.dumps(result["driver"][-1]))
    if arguments.out:
        print(save(arguments.out, __doc__, arguments, result, network=NETWORK))


# Throughput


def throughput(photos: Path, rounds: int) -> dict:
    from pipelines.cluster import connection

    measured = []
    with connection.connect("local", cpus=CORES):
        for _ in range(rounds):
            bound, product = measure_cores(bare, photos), measure_features(photos)
            measured.append({
                "bare_images_per_s": bound["rate"], "features_images_per_s": product["rate"],
                "ratio": product["rate"] / bound["rate"], "cpu_ratio": bound["cpu"] / product["cpu"],
                "start_up_s": product["start_up"],
            })  # fmt: skip
            print(json.dumps(measured[-1]), flush=True)
    median = {name: statistics.median(one[name] for one in measured) for name in measured[0]}
    print("median", json.dumps(median))
    return {"median": median, "rounds": measured}


def measure_features(photos: Path) -> dict[str, float]:
    from pipelines.engine.driver import Options
    from pipelines.verbs import features

    with tempfile.TemporaryDirectory() as store:
        started = time.perf_counter()
        outcome = features.run(str(photos), store, NETWORK, "random", options=Options(address="local"))
        wall = time.perf_counter() - started
    done = outcome.summary
    assert not outcome.failed
    return {
        "rate": done["computed"] / done["seconds"],
        "cpu": done["cpu_seconds"] / done["computed"],
        "start_up": wall - done["seconds"],
    }


def bare(paths: list[str], barrier, results) -> None:
    import torch

    from pipelines.features import backbones, decode

    torch.set_num_threads(1)
    network = backbones.load(NETWORK, "random")
    size = network.batch
    network(network.example(size))
    barrier.wait()
    begun, cpu = time.time(), time.process_time()
    for start in range(0, len(paths), size):
        batch = [decode.decode(Path(path).read_bytes(), network.preprocess.needed) for path in paths[start:][:size]]
        network(np.stack([network.preprocess(picture.image) for picture in batch]))
    results.put((begun, time.time(), time.process_time() - cpu))


# Memory


def driver_memory(folder: Path, size: int) -> dict[str, float]:
    folder.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)).save(folder / "one.jpg")
    photos = photographs.link(folder / "photos", folder, size)
    words = [sys.executable, "-m", "pipelines.cli.main", "features", str(photos), "--store", str(folder / "store")]
    words += ["--backbone", SMALL_NETWORK, "--weights", "random", "--outputs", "pooled", "--json"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    peak = 0.0
    while process.poll() is None:
        peak = peak_mb(process.pid) or peak
        time.sleep(0.1)
    answer = json.loads(process.stdout.read().splitlines()[-1])
    assert process.returncode == 0 and answer["computed"] == size
    return {"images": size, "driver_peak_mb": peak, "images_per_s": answer["images_per_second"]}


if __name__ == "__main__":
    main()
