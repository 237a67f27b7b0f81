"""Training steps fed from the store against the same steps on batches that lie in memory.

    python benchmarks/train_feed.py [--images 600] [--rounds 5] [--threads 2] [--out benchmarks/results]

One epoch from the store (reading, joining, padding, the thread that makes batches ahead: all that training does) and
the same epoch from a list of finished batches take turns, in one process, by the step that the workers run.
``streaming`` reads the store at every epoch; ``resident`` keeps the features after the first, which is not counted.
``ratio`` is steps/s from the store over steps/s from memory, the median of the rounds; ``cpu_ratio`` compares processor
seconds, which other work on the machine disturbs less.
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
import pyarrow as pa
import torch
from record import save

from feature_store import Store, feature_schema, from_numpy
from pipelines.config.recipe import read_recipe
from pipelines.training.data.task import prepare
from pipelines.training.learner import Learner
from pipelines.training.run.folder import RunFolder

SIDE, SIZE = 13, 512
"""Of squeezenet1_0's last map, as on Flickr8k."""
PART = 200
WORDS = [f"word{number}" for number in range(1500)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, help="folder for the result as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        data = generate(Path(folder), arguments.images)
        for system in ("show_tell", "show_attend_tell"):
            for feed, memory in (("streaming", 0), ("resident", 2)):
                learner = make(system, [*data, f"data.memory_gb={memory}"], Path(folder, system, feed))
                results.append({"system": system, "feed": feed, **measure(learner, arguments.rounds)})
                print(json.dumps(results[-1]), flush=True)
    if arguments.out:
        print(save(arguments.out, __doc__, arguments, results))


def generate(folder: Path, images: int) -> list[str]:
    """A store of rectified noise and five captions of an image; overrides for a recipe."""
    generator = np.random.default_rng(0)
    schema = feature_schema(["pooled", "grid"], {"pooled": (SIZE,), "grid": (SIDE, SIDE, SIZE)})
    recipe = {"backbone": "noise", "outputs": ["pooled", "grid"]}
    ids = [f"image{index:06d}" for index in range(images)]
    with Store(folder / "store").dataset("features", recipe, schema).begin() as term:
        for start in range(0, images, PART):
            names = ids[start : start + PART]
            grid = generator.normal(0, 5, (len(names), SIDE, SIDE, SIZE)).clip(0).astype(np.float16)
            ones = [1] * len(names)
            rows = {"image_id": names, "uri": names, "version": names, "width": ones, "height": ones}
            pooled = grid.mean((1, 2), dtype=np.float32).astype(np.float16)
            rows |= {"pooled": from_numpy(pooled), "grid": from_numpy(grid)}
            term.handle.commit(term.handle.part_name(names), pa.table(rows, schema=schema))
    with open(folder / "captions.jsonl", "w") as file:
        for index, name in enumerate(ids):
            captions = [" ".join(generator.choice(WORDS, max(3, int(generator.normal(11, 3))))) for _ in range(5)]
            split = "train" if index >= 10 else "val"
            file.write(json.dumps({"image_id": name, "file": name, "split": split, "captions": captions}) + "\n")
    return [f"data.store={folder / 'store'}", f"data.captions={folder / 'captions.jsonl'}"]


def make(system: str, overrides: list[str], out: Path) -> Learner:
    recipe = read_recipe(f"{system}.small", overrides, str(out))
    journal = RunFolder(out)
    journal.open(recipe.to_yaml(), {})
    learner = Learner(prepare(recipe)[0], journal)
    learner.objective.train()
    return learner


def measure(learner: Learner, rounds: int) -> dict[str, float]:
    steps = learner.train.steps
    warm_up = list(learner.train.epoch(0))
    for batch in warm_up[:3]:
        learner.update([batch])
    turns = []
    for number in range(1, rounds + 1):
        ready = list(learner.train.epoch(number))
        turns.append((timed(learner, learner.train.epoch(number)), timed(learner, iter(ready))))
    wall = [memory[0] / store[0] for store, memory in turns]
    return {
        "steps": steps,
        "steps_per_s_store": statistics.median(steps / store[0] for store, _ in turns),
        "steps_per_s_memory": statistics.median(steps / memory[0] for _, memory in turns),
        "ratio": statistics.median(wall),
        "ratio_range": [min(wall), max(wall)],
        "cpu_ratio": statistics.median(memory[1] / store[1] for store, memory in turns),
    }


def timed(learner: Learner, batches) -> tuple[float, float]:
    """Seconds on the clock and of the processors."""
    wall, cpu = time.perf_counter(), time.process_time()
    for batch in batches:
        learner.update([batch])
    return time.perf_counter() - wall, time.process_time() - cpu


if __name__ == "__main__":
    main()
