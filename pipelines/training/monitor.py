"""What ``rnncond train`` shows while the workers train: the run's news, to the terminal, Prometheus and MLflow."""

from __future__ import annotations

import math
import threading
import time

from ray.exceptions import RayError

from pipelines.cluster.connection import running
from pipelines.cluster.prometheus import TrainingMeter
from pipelines.cluster.resources import Cluster, Share, places
from pipelines.console import Progress, tell
from pipelines.errors import UserError
from pipelines.files.jsonl import read_lines
from pipelines.tracking.mlflow_run import Tracking
from pipelines.training.data.task import Task
from pipelines.training.run.folder import News
from pipelines.training.run.info import RunPlace
from pipelines.training.run.writer import RunClient

POLL_SECONDS, QUIET_SECONDS = 0.5, 60


class TrainMonitor(threading.Thread):
    """Reads the run's news while the block runs: progress and epochs to the terminal, epochs to MLflow."""

    def __init__(self, task: Task, run: RunClient, tracking: Tracking, share: Share, place: RunPlace) -> None:
        super().__init__(daemon=True)
        self.share = share
        self.training, self.client, self.tracking = task.recipe.training, run, tracking
        self.metrics = place.folder / "metrics.jsonl"
        self.meter = TrainingMeter(task.recipe.system, place.address)
        self.ended = threading.Event()

    def __enter__(self) -> TrainMonitor:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.join()

    def run(self) -> None:
        with Progress("train", "steps", None) as progress:
            progress.phase("starting the workers")
            last, heard = False, time.monotonic()
            while not last:
                last = self.ended.wait(POLL_SECONDS)
                try:
                    news = self.client.take_news()
                except (RayError, UserError):  # the driver's own call raises it
                    return
                if not news and time.monotonic() - heard > QUIET_SECONDS:
                    news, heard = want_of_room(running(), self.share), math.inf  # reported once
                elif news:
                    heard = time.monotonic()
                for entry in news:
                    self.show(entry, progress)

    def show(self, entry: News, progress: Progress) -> None:
        say = progress.bar.console.print if progress.bar else tell
        kind = entry.pop("kind")
        if kind == "note":
            say(entry["message"])
            return
        if kind == "phase":
            progress.phase(entry["now"])
            return
        if kind == "progress":
            progress.total = entry["of"] * self.training.epochs
            now = (entry["epoch"] - 1) * entry["of"] + entry["step"]
            key, name = ("train_loss", "loss") if "train_loss" in entry else ("reward", "reward")
            progress.advance(now - progress.done, note=f"epoch {entry['epoch']}, {name} {entry[key]:.3f}")
            self.meter.progress(entry)
            self.tracking.log_step(entry)
            return
        shown = "  ".join(f"{name} {entry[key]:.{digits}f}" for key, name, digits in COLUMNS if key in entry)
        say(f"epoch {entry['epoch']:>3}  {shown}")
        self.meter.epoch(entry)
        self.tracking.log(read_lines(self.metrics))


def want_of_room(cluster: Cluster, share: Share) -> list[News]:
    """A note for the user where so many nodes are lost that Ray waits for others."""
    if places(cluster, share.cpus, share.gpus) >= share.at_least:
        return []
    message = (
        f"Waiting for nodes: there is no longer room for {share.describe()}; the cluster has {cluster.describe()}. "
        "Training is resumed when there is; or stop it, and run the same command with other cluster. settings."
    )
    return [{"kind": "note", "message": message}]


COLUMNS = (
    ("train_loss", "loss", 3), ("reward", "reward", 3), ("baseline", "baseline", 3),
    ("val_loss", "validation", 3), ("CIDEr", "CIDEr", 1), ("BLEU-4", "BLEU-4", 1),
    ("BLEU", "BLEU", 1), ("chrF", "chrF", 1), ("seconds", "seconds", 1),
)  # fmt: skip
