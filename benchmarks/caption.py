"""What `rnncond caption` costs beside decoding, CNN and search, and whether anything grows with the number of images.

    python benchmarks/caption.py [--images FOLDER] [--count 400] [--rounds 3] [--sizes 1000 10000] [--out FOLDER]

**Throughput.** Show, Attend and Tell (E = H = A = 512, V = 9487), with a beam of 3 that is not let end before 16 words.
The bound is the same decoding, network and search in bare processes, one thread a core: no Ray, no store, no text made
of the words, results thrown away. Bound and `caption` take turns. ``ratio`` compares images/s from the first unit's
beginning to the last one's end; ``cpu_ratio`` compares processor seconds per image, which other work on the machine
disturbs less. ``start_up_s`` is everything before and after, with Ray running already.

**Growth.** Pictures of 64 x 48 through a small network and Show and Tell, at growing numbers: processor milliseconds
per image, peak resident memory of the driver, and the most that lay in Ray's object store, looked at twice a second.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import photographs
import torch
from record import peak_mb, save

NETWORKS = ("torchvision/squeezenet1_0", "torchvision/resnet50")
SMALL_NETWORK = "timm/test_resnet"
VOCAB, SIZE, WORDS, BEAM = 9487, 512, 16, 3
CORES = os.cpu_count()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, help="a folder of photographs; generated ones of 500 x 375 if not given")
    parser.add_argument("--count", type=int, default=400, help="photographs a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--networks", nargs="*", default=NETWORKS)
    parser.add_argument("--sizes", type=int, nargs="*", default=[1_000, 10_000], help="for what grows")
    parser.add_argument("--out", type=Path, help="folder for the result as JSON")
    parser.add_argument("--grow", nargs=2, metavar=("PHOTOS", "MODEL"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.grow:
        return grow(*arguments.grow)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = arguments.images or photographs.generate(folder / "made")
        photos = photographs.link(folder / "photos", source, arguments.count)
        result = {"throughput": throughput(photos, arguments) if arguments.rounds else None, "growth": []}
        small = photographs.generate(folder / "small", (64, 48))
        model = make_model(folder / "show_tell", SMALL_NETWORK, "show_tell", 64)
        for size in arguments.sizes:
            result["growth"].append(growth(photographs.link(folder / str(size), small, size), model))
            print(json.dumps(result["growth"][-1]), flush=True)
    if arguments.out:
        sizes = {"vocabulary": VOCAB, "size": SIZE, "words": WORDS, "beam": BEAM, "small_network": SMALL_NETWORK}
        print(save(arguments.out, __doc__, arguments, result, shapes=sizes))


def make_model(folder: Path, backbone: str, system: str, size: int) -> str:
    """A captioner with random weights, which says ``WORDS`` words of every picture."""
    from feature_store import fingerprint
    from pipelines import backbones
    from rnncond import checkpoint, systems
    from rnncond.text import Vocabulary

    recipe = backbones.load(backbone, "random").recipe
    output = "grid" if system == "show_attend_tell" else "pooled"
    vocabulary = Vocabulary.train([" ".join(f"w{number}" for number in range(VOCAB - 4))])
    torch.manual_seed(0)
    sizes = {"embedding": size, "hidden": size} | ({"attention": size} if system == "show_attend_tell" else {})
    sizes |= {"vocab_size": len(vocabulary), "feature_size": recipe["outputs"][output][-1]}
    features = {"fingerprint": fingerprint(recipe), "recipe": recipe, "output": output}
    info = {"recipe": {"search": {"min_length": WORDS, "max_length": WORDS}}}
    model = systems.build(system, sizes).eval()
    checkpoint.save(checkpoint.Trained(system, model, vocabulary, None, features, info), folder)
    return str(folder)


# Throughput


def throughput(photos: Path, arguments: argparse.Namespace) -> list[dict]:
    from pipelines import cluster

    found = []
    with cluster.connect("local", cpus=CORES):
        for network in arguments.networks:
            model = make_model(photos.parent / network.replace("/", "-"), network, "show_attend_tell", SIZE)
            rounds = [one_round(photos, model) for _ in range(arguments.rounds)]
            median = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
            print(network, json.dumps(median), flush=True)
            found.append({"network": network, "median": median, "rounds": rounds})
    return found


def one_round(photos: Path, model: str) -> dict[str, float]:
    bare, product = measure_bare(photos, model), measure_caption(photos, model)
    found = {
        "bare_images_per_s": bare["rate"], "caption_images_per_s": product["rate"],
        "ratio": product["rate"] / bare["rate"], "cpu_ratio": bare["cpu"] / product["cpu"],
        "start_up_s": product["start_up"],
    }  # fmt: skip
    print(json.dumps(found), flush=True)
    return found


def measure_caption(photos: Path, model: str) -> dict[str, float]:
    from pipelines import caption
    from pipelines.units import Options

    with tempfile.TemporaryDirectory() as out:
        started = time.perf_counter()
        outcome = caption.run(model, out, str(photos), weights="random", beam=BEAM, options=Options(address="local"))
        wall = time.perf_counter() - started
    done = outcome.summary
    assert not outcome.failed
    return {
        "rate": done["computed"] / done["seconds"],
        "cpu": done["cpu_seconds"] / done["computed"],
        "start_up": wall - done["seconds"],
    }


def measure_bare(photos: Path, model: str) -> dict[str, float]:
    """A process a core, each with its share of the photographs; they begin together."""
    paths = sorted(str(path) for path in photos.iterdir())
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(CORES), context.Queue()
    processes = [
        context.Process(target=bare, args=(paths[core::CORES], model, barrier, results)) for core in range(CORES)
    ]
    for process in processes:
        process.start()
    spent = [results.get() for _ in processes]
    for process in processes:
        process.join()
    begun, ended = min(begun for begun, _, _ in spent), max(ended for _, ended, _ in spent)
    cpu = sum(cpu for _, _, cpu in spent) / len(paths)
    return {"rate": len(paths) / (ended - begun), "cpu": cpu, "begun": begun, "ended": ended}


def bare(paths: list[str], model: str, barrier, results) -> None:
    from pipelines import images, sources
    from pipelines.caption import Describer
    from pipelines.decode import search_options
    from rnncond import checkpoint

    torch.set_num_threads(1)
    trained = checkpoint.load(model)
    network = sources.rebuild(trained.features, "random")
    find = Describer(trained, search_options(trained, beam=BEAM)).search
    held = [network(network.example(network.batch))[trained.features["output"]]]
    find(held[0])
    barrier.wait()
    begun, cpu, held = time.time(), time.process_time(), []
    for start in range(0, len(paths), network.batch):
        some = [
            images.decode(Path(path).read_bytes(), network.preprocess.needed) for path in paths[start:][: network.batch]
        ]
        held.append(network([network.preprocess(picture.image) for picture in some])[trained.features["output"]])
        if sum(map(len, held)) >= sources.BATCH or start + network.batch >= len(paths):
            find(np.concatenate(held))
            held = []
    results.put((begun, time.time(), time.process_time() - cpu))


# Growth


def growth(photos: Path, model: str) -> dict[str, float]:
    """In a process of its own, whose peak is the driver's."""
    words = [sys.executable, __file__, "--grow", str(photos), model]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    answer = json.loads(process.stdout.read().splitlines()[-1])
    assert process.wait() == 0
    return answer


def grow(photos: str, model: str) -> None:
    from pipelines import caption
    from pipelines.units import Options

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
