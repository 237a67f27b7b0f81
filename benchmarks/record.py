"""How every benchmark times two things against each other, and keeps what it found."""

from __future__ import annotations

import argparse
import datetime
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "ray", "pyarrow", "pillow")


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def updates(model: Any, dtype: Any = None) -> Callable[[Any, Any], None]:
    """A step of training with Adam, of a ``TeacherForcing`` in any version: called with a source and its tokens. With a
    ``dtype`` of torch's its products are in that, as ``training.precision`` has them."""
    import torch

    optimizer = torch.optim.Adam(model.parameters(), fused=True)

    def update(source: Any, tokens: Any) -> None:
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            sums = model(source, tokens)
        (sums.objective / sums.words).backward()
        optimizer.step()
        optimizer.zero_grad()

    return update


def compare(amount: int, own: Callable[[], None], bare: Callable[[], None], rounds: int) -> dict[str, float]:
    """``amount`` per second of both, by turns, after two turns for warming up; ``ratio`` is own rate / bare rate."""
    pairs = [(seconds(bare), seconds(own)) for _ in range(rounds + 2)][2:]
    ratios = [bare_time / own_time for bare_time, own_time in pairs]
    return {
        "own": amount / statistics.median(time for _, time in pairs),
        "bare": amount / statistics.median(time for time, _ in pairs),
        "ratio": statistics.median(ratios), "lowest": min(ratios), "highest": max(ratios),
    }  # fmt: skip


def measure_cores(work: Callable, photos: Path, *arguments: Any) -> dict[str, float]:
    """``work`` in a process a core, each with its share of the photographs; they begin together. Images/s, processor
    seconds an image, and when the first began and the last ended.

    Args:
        work: called with paths, ``arguments``, a barrier to wait at before the work, and a queue for when it began,
            when it ended and the processor seconds between.
    """
    paths, cores = sorted(str(path) for path in photos.iterdir()), os.cpu_count()
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(cores), context.Queue()
    shares = [paths[core::cores] for core in range(cores)]
    processes = [context.Process(target=work, args=(share, *arguments, barrier, results)) for share in shares]
    for process in processes:
        process.start()
    spent = [results.get() for _ in processes]
    for process in processes:
        process.join()
    begun, ended = min(begun for begun, _, _ in spent), max(ended for _, ended, _ in spent)
    cpu = sum(cpu for _, _, cpu in spent) / len(paths)
    return {"rate": len(paths) / (ended - begun), "cpu": cpu, "begun": begun, "ended": ended}


def save(folder: Path, question: str, arguments: argparse.Namespace, results: Any, **more: Any) -> Path:
    """Write ``results`` to ``folder`` with all that is needed to judge them; the name has machine and day.

    Args:
        question: the benchmark's docstring, whose first line is kept.
        more: further facts, such as shapes.
    """
    script = Path(sys.argv[0]).stem
    git = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    commit = subprocess.run(git, capture_output=True, text=True, cwd=Path(__file__).parent).stdout.strip()
    settings = {key: value.name if isinstance(value, Path) else value for key, value in vars(arguments).items()}
    record = {
        "question": question.splitlines()[0],
        "date": datetime.date.today().isoformat(),
        "commit": commit,
        "machine": {"cpu": cpu(), "cores": os.cpu_count(), "load_of_the_last_minutes": os.getloadavg()},
        "versions": {"python": platform.python_version()} | {name: metadata.version(name) for name in PACKAGES},
        "settings": {key: value for key, value in settings.items() if key != "out"},
        **more,
        "results": results,
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{script}_cpu{os.cpu_count()}_{record['date']}.json"
    path.write_text(json.dumps(record, indent=1) + "\n")
    return path


def peak_mb(pid: int | str = "self") -> float | None:
    """Peak resident memory of a process that runs; None once it has ended. ``ru_maxrss`` of a child is no less than its
    parent's memory at the fork."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return None


def cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
