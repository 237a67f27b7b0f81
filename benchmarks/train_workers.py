"""What Ray Train costs beside the bare PyTorch loop, and what a second worker brings.

    python benchmarks/train_workers.py [--images 400] [--epochs 5] [--rounds 3] [--out benchmarks/results]

**bare**: a process of its own with the batches of an epoch in memory: forward, backward, clipping, AdamW; no Ray, no
store, no notes of progress. **one** and **two**: `rnncond train` with so many workers, each with a CPU and a thread,
features kept in memory. They take turns. Each is the target words/s and the steps/s of its epochs but the first, by its
own clock, which stands still for validation and checkpoints. ``overhead`` is 1 - one / bare and ``scaling`` two / one,
both of the words: 0 and 2 are best, the latter where nothing else needs the cores. Each worker has the recipe's batch,
so a step of two takes twice the rows of a step of one, and their steps/s stay equal at best. ``checkpoint`` is the
seconds for which training stands still for one within an epoch: in bare's process, to a local disk, without Ray.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import record
from train_feed import generate, make

SYSTEMS = ("show_tell", "show_attend_tell")
CHECKPOINTS = 5
"""That are timed."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=5, help="of each turn; the first is not counted")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="folder for the result as JSON")
    parser.add_argument("--bare", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.bare:
        print(json.dumps(bare(*arguments.bare[:2], arguments.bare[2:], arguments.epochs)))
        return
    with tempfile.TemporaryDirectory() as folder:
        data = [*generate(Path(folder), arguments.images), "data.memory_gb=2"]
        results = [measure(system, data, Path(folder), arguments) for system in SYSTEMS]
    if arguments.out:
        print(record.save(arguments.out, __doc__, arguments, results))


def measure(system: str, data: list[str], folder: Path, arguments: argparse.Namespace) -> dict:
    rounds = []
    for number in range(arguments.rounds):
        out = folder / system / str(number)
        words = [
            sys.executable,
            __file__,
            "--epochs",
            str(arguments.epochs),
            "--bare",
            system,
            str(out / "bare"),
            *data,
        ]
        found = json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout)
        for name, workers in (("one", 1), ("two", 2)):
            found |= train(system, data, out / name, workers, arguments.epochs)
        rounds.append(found | {"overhead": 1 - found["one"] / found["bare"], "scaling": found["two"] / found["one"]})
        print(system, json.dumps(rounds[-1]), flush=True)
    return {
        "system": system,
        "median": {name: statistics.median(one[name] for one in rounds) for name in rounds[0]},
        "rounds": rounds,
    }


def bare(system: str, out: str, data: list[str], epochs: int) -> dict[str, float]:
    """Words/s and steps/s of a loop that does what there is to do, and nothing else; and seconds of a checkpoint."""
    import torch

    from pipelines.training.run.state import NO_SUMS
    from rnncond.losses import TeacherForcing

    torch.set_num_threads(1)
    learner = make(system, data, Path(out))
    model, settings = learner.model.train(), learner.settings
    loss = TeacherForcing(model, settings.label_smoothing)
    adam = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=0.0, fused=True)
    rates = []
    for epoch in range(1, epochs + 1):
        batches = list(learner.train.epoch(epoch))
        words, began = sum(batch.words for batch in batches), time.perf_counter()
        for batch in batches:
            found = loss(batch.source, batch.tokens)
            (found.objective / batch.words).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
            adam.step()
            adam.zero_grad()
        seconds = time.perf_counter() - began
        rates.append((words / seconds, len(batches) / seconds))
    learner.optimizer.adam = adam  # whose moments are part of a checkpoint
    sums = learner.tensor(NO_SUMS)
    kept = [record.seconds(lambda: learner.checkpoint(sums)) for _ in range(CHECKPOINTS)]
    return {**usual("bare", rates), "checkpoint": statistics.median(kept)}


def usual(name: str, rates: list[tuple[float, float]]) -> dict[str, float]:
    """The median words/s and steps/s of all epochs but the first, as the results have them."""
    words, steps = map(statistics.median, zip(*rates[1:], strict=True))
    return {name: words, f"{name}_steps_per_s": steps}


def train(system: str, data: list[str], out: Path, workers: int, epochs: int) -> dict[str, float]:
    """Words/s and steps/s of `rnncond train`, as its own lines of epochs have them."""
    settings = [
        f"training.epochs={epochs}", f"training.validate_every={epochs}", f"cluster.workers={workers}", "seed=1",
        "cluster.cpus_per_worker=1", "cluster.threads=1", f"tracking.uri=sqlite:///{out.parent.parent / 'mlflow.db'}",
    ]  # fmt: skip
    words = [
        sys.executable,
        "-m",
        "pipelines.cli.main",
        "train",
        f"{system}.small",
        *data,
        *settings,
        "--out",
        str(out),
    ]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=out.parent)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    steps = lines[0]["step"]
    return usual(out.name, [(line["words_per_second"], steps / line["seconds"]) for line in lines])


if __name__ == "__main__":
    main()
