"""What it costs that a process gives freed memory back, and takes it anew: networks and a step of training, each with
glibc as it is and with ``pipelines.allocator.keep_freed_memory``.

    python benchmarks/freed_memory.py [--rounds 5] [--out benchmarks/results]

Each measurement is a process of its own with one thread; both kinds go by turns. ``kernel`` is the share of the
processor's time that the kernel takes, nearly all of it clearing pages. Networks see batches of 32 of their own size;
the training is encdec_attention at 256 units and V = 8,000, 1,800 target words a batch, of 6 to 30 words a sentence.
The ratio is processor time, kept / given back.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from record import save

from pipelines.allocator import keep_freed_memory

NETWORKS = ("timm/tf_efficientnet_lite0", "torchvision/squeezenet1_0", "torchvision/resnet50")
TRAINING = "encdec_attention"
BATCHES = 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="folder for the results as JSON")
    parser.add_argument("--one", metavar="WORK", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one)))
        return
    results = {}
    for work in (*NETWORKS, TRAINING):
        rounds = [{how: child(work, how) for how in ("given back", "kept")} for _ in range(arguments.rounds)]
        ratios = sorted(one["kept"]["seconds"] / one["given back"]["seconds"] for one in rounds)
        results[work] = {
            "ratio": statistics.median(ratios),
            "lowest": ratios[0],
            "highest": ratios[-1],
            **{
                f"{name}, {how}": statistics.median(one[how][name] for one in rounds)
                for how in ("given back", "kept")
                for name in ("seconds", "kernel", "peak_mb")
            },
        }
        print(work, json.dumps({key: round(value, 3) for key, value in results[work].items()}), flush=True)
    if arguments.out:
        print(save(arguments.out, __doc__, arguments, results))


def child(work: str, how: str) -> dict[str, float]:
    environment = {name: value for name, value in os.environ.items() if "MALLOC" not in name}
    if how == "kept":
        keep_freed_memory(environment)
    words = [sys.executable, __file__, "--one", work]
    output = subprocess.run(words, env=environment, check=True, capture_output=True, text=True).stdout
    result: dict[str, float] = json.loads(output)
    return result


def measure(work: str) -> dict[str, float]:
    """Processor seconds a batch, the kernel's share of them, and the peak of the process in MB."""
    import torch

    torch.set_num_threads(1)
    run = training() if work == TRAINING else network(work)
    run()
    before = resource.getrusage(resource.RUSAGE_SELF)
    for _ in range(BATCHES):
        run()
    after = resource.getrusage(resource.RUSAGE_SELF)
    kernel = after.ru_stime - before.ru_stime
    seconds = kernel + after.ru_utime - before.ru_utime
    return {"seconds": seconds / BATCHES, "kernel": kernel / seconds, "peak_mb": after.ru_maxrss / 1024}


def network(name: str) -> Callable[[], object]:
    from pipelines.features import backbones

    loaded = backbones.load(name, "random")
    return lambda: loaded(loaded.example(32))


def training() -> Callable[[], object]:
    import torch

    from rnncond import systems
    from rnncond.contract import Source
    from rnncond.losses import TeacherForcing

    sizes = {"embedding": 256, "hidden": 256, "attention": 256}
    config = {"source_vocab_size": 8000, "vocab_size": 8000, **sizes}
    model = TeacherForcing(systems.build("encdec_attention", config)).train()
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    lengths = random.Random(0)

    def update() -> None:
        words = lengths.choice((6, 9, 12, 15, 18, 22, 30))
        rows, longest = 1800 // words, words + lengths.randint(-2, 4)
        source = Source(torch.randint(4, 8000, (rows, longest)), torch.ones(rows, longest, dtype=torch.bool))
        sums = model(source, torch.randint(4, 8000, (rows, words + 1)))
        (sums.objective / sums.words).backward()
        optimizer.step()
        optimizer.zero_grad()

    return update


if __name__ == "__main__":
    main()
