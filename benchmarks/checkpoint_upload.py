"""What it costs a training to keep its states: in a folder, and in object storage, beside a training that keeps none.

    python benchmarks/checkpoint_upload.py [--images 400] [--epochs 3] [--rounds 5] [--system show_attend_tell]
                                           [--threads 1] [--out benchmarks/results]

Turns of some epochs, of which each ends with a validation of ten pictures and a state with its models, by one learner
that hands them to each kind of keeper in turn. A turn in object storage ends when all that it sent counts. The storage
is moto's S3 server in a process of its own on the same machine, of whose processors it takes a part: ``cpu_ratio``,
processor seconds of the training process without keeping over those with it, is what an upload costs where the
storage is elsewhere; ``ratio`` compares the clock. ``state_cpu_seconds`` is the processor time of one state with its
models, however long an epoch is. ``driver_bytes`` is what a state sends through the process on the driver's machine,
``state_bytes`` what lies in storage in the end: two states and the models.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import torch
from record import save
from train_feed import generate

from pipelines.config.recipe import read_recipe
from pipelines.files.remote_folder import RemoteFolder
from pipelines.training.data.task import prepare
from pipelines.training.learner import Learner
from pipelines.training.run.folder import RunFolder
from pipelines.training.run.remote import RemoteRun, RunUploader


class NoKeeper(RunFolder):
    """Lets a training go on that keeps nothing."""

    def save_checkpoint(self, *args: Any, **more: Any) -> None:
        pass

    def epoch(self, *args: Any, **more: Any) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--system", default="show_attend_tell")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="folder for the result as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder, s3_server() as uri:
        data = generate(Path(folder), arguments.images)
        out = Path(folder, "run")
        recipe = read_recipe(f"{arguments.system}.small", [*data, "data.memory_gb=2"], str(out))
        nothing, local = NoKeeper(out / "none"), RunFolder(out / "folder")
        remote = RemoteRun(out / "working", RemoteFolder.at(f"{uri}/run"))
        for run in (nothing, local, remote):
            run.open(recipe.to_yaml(), {})
        sent: list[int] = []

        def call(method: str, *args: Any, **more: Any) -> Any:
            sent.append(len(pickle.dumps((method, args, more))) if method == "keep_checkpoint" else 0)
            return getattr(remote, method)(*args, **more)

        sinks = {"nothing": nothing, "folder": local, "storage": RunUploader(call, remote.folder)}
        learner = Learner(prepare(recipe)[0], nothing)
        turns: dict[str, list[tuple[float, float]]] = {name: [] for name in sinks}
        for _ in range(arguments.rounds + 1):  # the first is for warming up
            for name, sink in sinks.items():
                learner.sink = sink
                turns[name].append(timed(learner, arguments.epochs))
        results = [summary(name, taken[1:], turns["nothing"][1:], arguments.epochs) for name, taken in turns.items()]
        contents = remote.held.contents
        files = {file.path: file.bytes for stored in contents.folders.values() for file in stored.values()}
        results.append({"driver_bytes": max(sent), "state_bytes": sum(files.values())})
        remote.close()
    for result in results:
        print(json.dumps(result), flush=True)
    if arguments.out:
        print(save(arguments.out, __doc__, arguments, results))


def summary(
    name: str, taken: list[tuple[float, float]], bare: list[tuple[float, float]], epochs: int
) -> dict[str, Any]:
    """Of one keeper, beside none: medians over the rounds."""
    wall, cpu = ([one[part] / other[part] for one, other in zip(bare, taken, strict=True)] for part in (0, 1))
    extra = [(other[1] - one[1]) / epochs for one, other in zip(bare, taken, strict=True)]
    return {
        "keeper": name,
        "epoch_seconds": statistics.median(one[0] for one in taken) / epochs,
        "epoch_cpu_seconds": statistics.median(one[1] for one in taken) / epochs,
        "state_cpu_seconds": statistics.median(extra),
        "state_cpu_range": [min(extra), max(extra)],
        "ratio": statistics.median(wall),
        "cpu_ratio": statistics.median(cpu),
    }


def timed(learner: Learner, epochs: int) -> tuple[float, float]:
    """Seconds on the clock and of this process's processors, of so many epochs and what is kept of them."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(epochs):
        learner.train_epoch()
        learner.end_epoch()
    learner.sink.flush()
    return time.perf_counter() - wall, time.process_time() - cpu


@contextmanager
def s3_server() -> Iterator[str]:
    """The uri of a bucket in a server on this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    os.environ |= {"AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    os.environ |= {"AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}
    process = subprocess.Popen([sys.executable, "-m", "moto.server", "-p", str(port)], stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                boto3.client("s3").create_bucket(Bucket="runs")
                break
            except boto3.exceptions.botocore.exceptions.EndpointConnectionError:
                time.sleep(0.2)
        yield "s3://runs"
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
