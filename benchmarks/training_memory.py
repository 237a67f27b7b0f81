"""Whether the memory of a process that trains stays bounded: its peak by step, against that of the first hundred steps.

    python benchmarks/training_memory.py RECIPE [KEY=VALUE...] [--steps 2000] [--threads 1] [--out benchmarks/results]

The recipe is trained as `rnncond train` does, in this process and without Ray, but with the environment of its workers;
validations and checkpoints belong to it, and ``--steps`` stops it. Resident memory is read ten times a second.
``ratio`` is the highest of all steps against the highest of the first hundred; ``steps_ratio`` the same without
validations, which decode sentences.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import torch
from record import save

from pipelines.allocator import keep_freed_memory
from pipelines.config.recipe import read_recipe
from pipelines.training.data.task import prepare
from pipelines.training.learner import Learner
from pipelines.training.run.folder import RunFolder

FIRST = 100
MEGABYTE = 1 << 20


class Stopped(Exception):
    """All steps that were asked for are done."""


class Memory(threading.Thread):
    """The highest resident memory of each hundred steps, in MB; that of validations apart."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.step, self.validating = 0, False
        self.by_step: dict[int, float] = {}
        self.validations = 0.0
        self.ended = threading.Event()

    def run(self) -> None:
        process = psutil.Process()
        while not self.ended.wait(0.1):
            resident = process.memory_info().rss / MEGABYTE
            if self.validating:
                self.validations = max(self.validations, resident)
            else:
                hundred = self.step // FIRST * FIRST
                self.by_step[hundred] = max(self.by_step.get(hundred, 0.0), resident)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="folder for the result as JSON")
    arguments = parser.parse_args()
    if "MALLOC_ARENA_MAX" not in os.environ:
        keep_freed_memory(os.environ)
        os.execv(sys.executable, [sys.executable, *sys.argv])
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        result = train(arguments, str(Path(folder, "run")))
    print(result)
    if arguments.out:
        arguments.overrides = [word for word in arguments.overrides if os.sep not in word]
        print(save(arguments.out, __doc__, arguments, result))


def train(arguments: argparse.Namespace, folder: str) -> dict[str, Any]:
    recipe = read_recipe(arguments.recipe, arguments.overrides, folder)
    run_folder = RunFolder(recipe.out)
    run_folder.open(recipe.to_yaml(), {})
    learner = Learner(prepare(recipe)[0], run_folder)
    memory = Memory()
    update, validate = learner.update, learner.validate

    def counted(batches):
        if memory.step >= arguments.steps:
            raise Stopped
        sums = update(batches)
        memory.step += 1
        return sums

    def apart():
        memory.validating = True
        try:
            return validate()
        finally:
            memory.validating = False
            print(memory.step, max(memory.by_step.values()), memory.validations, flush=True)

    learner.update, learner.validate = counted, apart
    memory.start()
    with suppress(Stopped):
        learner.run()
    memory.ended.set()
    first, highest = memory.by_step[0], max(memory.by_step.values())
    return {
        "steps": memory.step, "first_mb": first, "highest_mb": highest, "validations_mb": memory.validations,
        "ratio": max(highest, memory.validations) / first, "steps_ratio": highest / first, "by_step": memory.by_step,
    }  # fmt: skip


if __name__ == "__main__":
    main()
