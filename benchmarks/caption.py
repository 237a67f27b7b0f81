"""What `rnncond caption` costs beside decoding, CNN and search.

    python benchmarks/caption.py [--images FOLDER] [--count 400] [--rounds 3] [--out FOLDER]

Show, Attend and Tell (E = H = A = 512, V = 9487), with a beam of 3 that is not let end before 16 words.
The bound is the same decoding, network and search in bare processes, one thread a core: no Ray, no store, no text made
of the words, results thrown away. Bound and `caption` take turns. ``ratio`` compares images/s from the first unit's
beginning to the last one's end; ``cpu_ratio`` compares processor seconds per image, which other work on the machine
disturbs less. ``start_up_s`` is everything before and after, with Ray running already.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import photographs
import torch
from record import measure_cores, save

from pipelines.allocator import keep_freed_memory

NETWORKS = ("torchvision/squeezenet1_0", "torchvision/resnet50")
VOCAB, SIZE, WORDS, BEAM = 9487, 512, 16, 3
CORES = os.cpu_count()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, help="a folder of photographs; generated ones of 500 x 375 if not given")
    parser.add_argument("--count", type=int, default=400, help="photographs a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--networks", nargs="*", default=NETWORKS)
    parser.add_argument("--out", type=Path, help="folder for the result as JSON")
    arguments = parser.parse_args()
    keep_freed_memory(os.environ)  # of the bare loop as of rnncond
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photos = photographs.link_or_generate(folder, arguments.images, arguments.count)
        result = throughput(photos, arguments)
    if arguments.out:
        sizes = {"vocabulary": VOCAB, "size": SIZE, "words": WORDS, "beam": BEAM}
        print(save(arguments.out, __doc__, arguments, result, shapes=sizes))


def make_model(folder: Path, backbone: str, system: str, size: int) -> str:
    """A captioner with random weights, which says ``WORDS`` words of every picture."""
    from feature_store import fingerprint
    from pipelines.features import backbones
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


def throughput(photos: Path, arguments: argparse.Namespace) -> list[dict]:
    from pipelines.cluster import connection

    found = []
    with connection.connect("local", cpus=CORES):
        for network in arguments.networks:
            model = make_model(photos.parent / network.replace("/", "-"), network, "show_attend_tell", SIZE)
            rounds = [one_round(photos, model) for _ in range(arguments.rounds)]
            median = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
            print(network, json.dumps(median), flush=True)
            found.append({"network": network, "median": median, "rounds": rounds})
    return found


def one_round(photos: Path, model: str) -> dict[str, float]:
    bound, product = measure_cores(bare, photos, model), measure_caption(photos, model)
    found = {
        "bare_images_per_s": bound["rate"], "caption_images_per_s": product["rate"],
        "ratio": product["rate"] / bound["rate"], "cpu_ratio": bound["cpu"] / product["cpu"],
        "start_up_s": product["start_up"],
    }  # fmt: skip
    print(json.dumps(found), flush=True)
    return found


def measure_caption(photos: Path, model: str) -> dict[str, float]:
    from pipelines.engine.driver import Options
    from pipelines.verbs import caption

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


def bare(paths: list[str], model: str, barrier, results) -> None:
    from pipelines.features import decode, sources
    from pipelines.inference.captioner import Captioner
    from pipelines.inference.decoder import search_options
    from rnncond import checkpoint

    torch.set_num_threads(1)
    trained = checkpoint.load(model)
    network = sources.rebuild(trained.features, "random")
    find = Captioner([trained], search_options(trained, beam=BEAM)).search
    held = [network(network.example(network.batch))[trained.features["output"]]]
    find(held[0])
    barrier.wait()
    begun, cpu, held = time.time(), time.process_time(), []
    for start in range(0, len(paths), network.batch):
        some = [
            decode.decode(Path(path).read_bytes(), network.preprocess.needed) for path in paths[start:][: network.batch]
        ]
        held.append(network([network.preprocess(picture.image) for picture in some])[trained.features["output"]])
        if sum(map(len, held)) >= sources.BATCH or start + network.batch >= len(paths):
            find(np.concatenate(held))
            held = []
    results.put((begun, time.time(), time.process_time() - cpu))


if __name__ == "__main__":
    main()
