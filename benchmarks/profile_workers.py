"""Where the processors' time goes in `rnncond caption` and `rnncond features`, beside the same work without Ray.

    python benchmarks/profile_workers.py [--images FOLDER] [--count 480] [--network NAME] [--verb caption] [--out ...]

The bound and the verb of `benchmarks/caption.py` or `benchmarks/features.py` run once each. Every process of both is
watched: its processor time by the kernel, and what it did by `py-spy`, which looks at its threads' stacks 50 times a
second. From the first unit's beginning to the last one's end, in milliseconds of processor an image:

- `decode`, `network`, `search`: the work itself, of both;
- `store`, `text`, `engine`: what else a worker does;
- `driver`, `ray`: the driver, and Ray's own processes (raylet, GCS, dashboard, agents, what hands out the work);
- `spy`: what watching costs;
- `idle`: cores times the clock, less all of these: what waits for a disc or another process, and what other programs
  on the machine took.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from unittest import mock

import caption as of_caption
import features as of_features
import photographs
import psutil
from record import measure_cores, save

from pipelines.engine.summary import RunSummary

CORES = os.cpu_count()
RATE = 50
WATCH = 0
"""In place of a process: the thread of this one that watches."""
PY_SPY = str(Path(sys.executable).with_name("py-spy"))  # Ray's dashboard brings it
PLACES = {
    "decode": (
        *(f"pipelines/features/{name}.py" for name in ("decode", "fetch", "file_signs", "jpeg_scans", "pixels")),
        *("pipelines/features/png_chunks.py", "pipelines/features/preprocess.py", "pathlib.py", "PIL/"),
    ),
    "network": ("pipelines/features/backbones.py", "timm/", "torchvision/"),
    "search": ("rnncond/",),
    "store": ("feature_store/",),
    "text": ("pipelines/inference/", "pipelines/verbs/caption.py"),
}
"""Files of a stack's frames; the first kind that has a frame in the stack takes the sample."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, help="a folder of photographs; generated ones of 500 x 375 if not given")
    parser.add_argument("--count", type=int, default=480, help="photographs")
    parser.add_argument("--network", default="torchvision/squeezenet1_0")
    parser.add_argument("--verb", choices=["caption", "features"], default="caption")
    parser.add_argument("--out", type=Path, help="folder for the result as JSON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photos = photographs.link_or_generate(folder, arguments.images, arguments.count)
        result = {}
        for label, run in runs(arguments, photos).items():
            with Watch(folder / label) as watch:
                measured = spanned(run)
            result[label] = watch.per_image(arguments.count, measured)
            print(label, json.dumps(result[label]), flush=True)
    if arguments.out:
        print(save(arguments.out, __doc__, arguments, result))


def runs(arguments: argparse.Namespace, photos: Path) -> dict:
    if arguments.verb == "features":
        of_features.NETWORK = arguments.network
        bare, verb, given = of_features.bare, of_features.measure_features, [photos]
    else:
        model = of_caption.make_model(photos.parent / "model", arguments.network, "show_attend_tell", of_caption.SIZE)
        bare, verb, given = of_caption.bare, of_caption.measure_caption, [photos, model]
    return {"bare": lambda: measure_cores(bare, *given), "verb": lambda: verb(*given)}


def spanned(run: Callable[[], dict[str, float]]) -> dict[str, float]:
    """What ``run`` measures, with the first unit's beginning and the last one's end where it has units."""
    span, add = {}, RunSummary.add

    def noted(totals: RunSummary, summary: dict) -> None:
        add(totals, summary)
        span.update(begun=totals.begun, ended=totals.ended)

    with mock.patch.object(RunSummary, "add", noted):
        return {**run(), **span}


class Watch:
    """Processor time of this process and all below it, and the stacks of those that do the work, while a block runs."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder, self.ended = folder, threading.Event()
        self.times: list[tuple[float, dict[int, float]]] = []
        self.kinds: dict[int, str] = {os.getpid(): "driver"}
        self.spies: list[subprocess.Popen] = []
        self.thread = threading.Thread(target=self.look, daemon=True)

    def __enter__(self) -> Watch:
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.ended.set()
        self.thread.join()
        for spy in self.spies:
            spy.send_signal(signal.SIGINT)
        for spy in self.spies:
            spy.wait()

    def look(self) -> None:
        own = psutil.Process()
        self.kinds[WATCH] = "spy"
        while not self.ended.wait(0.1):
            now = {WATCH: time.thread_time()}
            for process in [own, *own.children(recursive=True)]:
                with suppress(psutil.Error):
                    used = process.cpu_times()
                    now[process.pid] = used.user + used.system
                    self.meet(process)
            now[own.pid] -= now[WATCH]
            self.times.append((time.time(), now))

    def meet(self, process: psutil.Process) -> None:
        """Ray gives a worker its name when it becomes an actor."""
        if self.kinds.get(process.pid, "ray") != "ray":
            return
        words = " ".join(process.cmdline())
        if "py-spy" in words:
            self.kinds[process.pid] = "spy"
        elif "spawn_main" in words or ("MapBatches(Actor)" in words and "MapWorker" in words):
            self.kinds[process.pid] = "worker"
            out = self.folder / f"{process.pid}.raw"
            spy = [PY_SPY, "record", "--pid", str(process.pid), "--rate", str(RATE), "--format", "raw", "--nonblocking"]
            spy += ["--duration", "100000", "--output", str(out)]
            self.spies.append(subprocess.Popen(spy, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        else:
            self.kinds[process.pid] = "ray"

    def per_image(self, images: int, measured: dict[str, float]) -> dict[str, float]:
        """Milliseconds of processor an image by kind, between ``begun`` and ``ended`` of ``measured``."""
        begun, ended = measured["begun"], measured["ended"]
        first, before = min(self.times, key=lambda one: abs(one[0] - begun))
        last, after = min(self.times, key=lambda one: abs(one[0] - ended))
        spent = Counter()
        for process, kind in self.kinds.items():
            used = after.get(process, before.get(process, 0)) - before.get(process, 0)
            if kind == "worker":
                for part, share in self.shares(process).items():
                    spent[part] += used * share
            else:
                spent[kind] += used
        spent["idle"] = CORES * (last - first) - sum(spent.values())
        found = {kind: 1e3 * spent[kind] / images for kind in (*PLACES, "engine", "driver", "ray", "spy", "idle")}
        return {"images_per_s": images / (ended - begun), **found}

    def shares(self, process: int) -> dict[str, float]:
        """Of a worker's samples, by kind."""
        samples = Counter()
        for line in (self.folder / f"{process}.raw").read_text().splitlines():
            stack, _, count = line.rpartition(" ")
            if kind := kind_of(stack):
                samples[kind] += int(count)
        return {kind: count / samples.total() for kind, count in samples.items()}


def kind_of(stack: str) -> str | None:
    """Of one sample; None where the worker is still being made, or the stack could not be read."""
    if not stack or "importlib" in stack or ("__init__ (" in stack and "driver.py" in stack) or "rebuild" in stack:
        return None
    return next((kind for kind, files in PLACES.items() if any(file in stack for file in files)), "engine")


if __name__ == "__main__":
    main()
