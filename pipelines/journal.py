"""A run's folder, and its only writer.

```
OUT/
  recipe.yaml                  resolved: `rnncond train OUT/recipe.yaml --out ELSEWHERE` repeats the run
  run.json                     status, best epoch and scores, MLflow run, versions, what was left out of the data
  metrics.jsonl                an object an epoch
  samples.jsonl                captions of some validation images at every validation
  best/, last/                 models, as `rnncond caption --model` takes them
  checkpoints/step-00001200/   the state to go on from, the newest only
```

Training workers, wherever they run, send what they have to this one object on the machine of the driver, so the cluster
needs no shared file system. An epoch that is trained again after a failure is not written twice.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipelines.console import UserError
from rnncond.checkpoint import replace_folder

Folder = dict[str, bytes]
"""A folder's files by name."""


class Journal:
    """Begin with ``open``; every method may be called from another process when this is a Ray actor."""

    def __init__(self, out: str | Path) -> None:
        self.out = Path(out)
        self.news: list[dict[str, Any]] = []
        self.told: str | None = None

    def open(self, recipe: str, about: dict[str, Any], restart: bool = False) -> dict[str, Any]:
        """Take the folder for this run; returns its run.json.

        Args:
            recipe: resolved, as YAML.
            about: what run.json is to say of a new run.
            restart: throw away the run that the folder has.

        Raises:
            UserError: another run is writing here, or the folder cannot be written.
        """
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            self.lock = os.open(self.out / ".lock", os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise UserError(f"The run's folder {self.out} cannot be written: {error}") from None
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"Another run is writing to {self.out}. Wait for it, or choose another --out.") from None
        for name in REMAINS:
            for path in self.out.glob(name):
                shutil.rmtree(path)
        if restart:
            self.clear()
        if not (self.out / "run.json").exists():
            self.say(started=now(), **about)
        self.write("recipe.yaml", recipe)
        self.say(status="running")
        return self.run()

    def close(self) -> None:
        """Let another run have the folder."""
        os.close(self.lock)

    def clear(self) -> None:
        for name in ("best", "last", "checkpoints"):
            shutil.rmtree(self.out / name, ignore_errors=True)
        for path in (*self.out.glob("*.json"), *self.out.glob("*.jsonl"), *self.out.glob("recipe.yaml")):
            path.unlink()

    def run(self) -> dict[str, Any]:
        return read_run(self.out)

    def say(self, **changes: Any) -> None:
        """Change entries of run.json."""
        self.write("run.json", json.dumps({**self.run(), **changes}, indent=1, ensure_ascii=False))

    def checkpoint(self) -> Folder | None:
        """The newest state to go on from; None at the beginning."""
        folders = sorted((self.out / "checkpoints").glob("step-*"))
        return {path.name: path.read_bytes() for path in folders[-1].iterdir()} if folders else None

    def keep(self, step: int, state: Folder, models: dict[str, Folder] | None = None) -> None:
        """Store the state after ``step`` steps, and the models (``best``, ``last``) that are new with it.

        The models come first: when the state is there, so is all that led to it.
        """
        for name, files in (models or {}).items():
            replace_folder(self.out / name, files)
        folder = self.out / "checkpoints" / f"step-{step:08d}"
        replace_folder(folder, state)
        for old in folder.parent.glob("step-*"):
            if old != folder:
                shutil.rmtree(old)

    def epoch(self, line: dict[str, Any], samples: list[dict[str, Any]]) -> None:
        """Append an epoch's metrics and samples, unless the folder has them from before a failure."""
        if line["epoch"] > last_epoch(self.out / "samples.jsonl"):
            append(self.out / "samples.jsonl", [{"epoch": line["epoch"], **sample} for sample in samples])
        if line["epoch"] > last_epoch(self.out / "metrics.jsonl"):
            append(self.out / "metrics.jsonl", [line])
            self.news.append({"kind": "epoch", **line})

    def progress(self, **values: Any) -> None:
        """Something for the terminal only."""
        self.news.append({"kind": "progress", **values})

    def trouble(self, message: str) -> None:
        """What only the user can put right."""
        self.told = message

    def problem(self) -> str | None:
        return self.told

    def take(self) -> list[dict[str, Any]]:
        """What is new since the last call."""
        news, self.news = self.news, []
        return news

    def write(self, name: str, text: str) -> None:
        fresh = self.out / f".{name}.new"
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(self.out / name)


REMAINS = (".best.*", ".last.*", "checkpoints/.step-*", ".ray")
"""Left by a run that was killed while it wrote."""


def read_run(out: str | Path) -> dict[str, Any]:
    """run.json; empty where there is none."""
    path = Path(out) / "run.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def read_lines(path: str | Path) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file, without a last line that was cut short."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def last_epoch(path: Path) -> int:
    lines = read_lines(path)
    return lines[-1]["epoch"] if lines else 0


def append(path: Path, lines: list[dict[str, Any]]) -> None:
    """Add lines in one write, after cutting off what a killed writer left of its last."""
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    with open(path, "ab+") as file:
        file.seek(0)
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
