"""A run folder, and its only writer.

```
OUT/
  recipe.yaml                  resolved: `rnncond train OUT/recipe.yaml --out ELSEWHERE` repeats the run
  run.json                     status, best epoch and scores, scores of averaged/, MLflow run, versions, what was left
                               out of the data: see ``RunInfo``
  metrics.jsonl                an object an epoch
  samples.jsonl                captions of some validation images at every validation
  best/, last/, averaged/      models, as `rnncond caption --model` takes them; averaged/ with training.average_last
  history/step-00001200/       the models that averaged/ is the mean of
  checkpoints/step-00001200/   the state to resume from, the two newest
```

Whatever counts is flushed to the disk before its name does: a kill costs the steps since the newest checkpoint, and so
does a power cut. An epoch that is trained again after a failure is not written twice.
"""

from __future__ import annotations

import errno
import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from pipelines.errors import UserError
from pipelines.files.atomic import FolderLock, sweep_unfinished, write_whole
from pipelines.files.jsonl import append, read_lines
from pipelines.training.run.info import SCHEMA, RunInfo, now, read_run
from pipelines.training.run.state import CHECKPOINTS, Folder, newest_whole, read_checkpoint, step_name, with_sums
from rnncond.atomic import replace_folder, sweep

News = dict[str, Any]
"""Something for the driver to show: ``kind`` is phase, progress, epoch or note, the rest is what it says."""


class RunSink(Protocol):
    """Where a rank hands in its work: a ``RunFolder``, or the ``RunClient`` of one on another machine."""

    def checkpoint(self) -> Folder | None: ...
    def save_checkpoint(
        self, step: int, state: Folder, models: dict[str, Folder] | None = None, history: int | None = None
    ) -> None: ...
    def history(self) -> list[Folder]: ...
    def save_average(self, model: Folder, line: dict[str, Any]) -> None: ...
    def epoch(self, line: dict[str, Any], samples: list[dict[str, Any]]) -> None: ...
    def progress(self, **values: Any) -> None: ...
    def flush(self) -> None: ...


def writes(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method that tells what hinders it from writing as the user's to put right."""

    @functools.wraps(method)
    def explained(self: RunFolder, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            raise UserError(
                f"The run folder {self.shown} cannot be written: {'the disk is full' if full else error}. What it has "
                "is kept. Put that right and run the same command again, to resume from the last checkpoint."
            ) from None

    return explained


class RunFolder:
    """Begin with ``open``; every method may be called from another process when this is a Ray actor."""

    def __init__(self, out: str | Path) -> None:
        self.out = Path(out)
        self.shown = str(out)
        """What messages call the folder."""
        self.news: list[News] = []
        self.error: str | None = None
        self.damaged: set[str] = set()
        self.lock: FolderLock | None = None

    def open(self, recipe: str, about: dict[str, Any], restart: bool = False, patience: float = 0) -> RunInfo:
        """Take the folder for this run; returns its run.json.

        Args:
            recipe: resolved, as YAML.
            about: what run.json is to say of a new run.
            restart: throw away the run that the folder has.
            patience: seconds to wait for another run to let go of the folder.

        Raises:
            UserError: another run is writing here, the folder cannot be written, or no checkpoint in it is whole.
        """
        self.take_lock(patience)
        try:
            return self.take_over(recipe, about, restart)
        except BaseException:
            self.close()
            raise

    @writes
    def take_over(self, recipe: str, about: dict[str, Any], restart: bool) -> RunInfo:
        """``open``, once the folder is locked."""
        for name in REPLACED:
            sweep(self.out / name)
        sweep_unfinished(self.out)
        if (self.out / ".ray").exists():
            shutil.rmtree(self.out / ".ray")
        if restart or ((self.out / "run.json").exists() and not self.info()):
            self.clear()
        begun = self.info()
        self.check_resumable()
        # A kill between the two leaves no run, or one that can be resumed by the recipe of either.
        if begun:
            self.update(status="running")
        self.write("recipe.yaml", recipe)
        if not begun:
            self.update(started=now(), schema=SCHEMA, **about, status="running")
        return self.info()

    @writes
    def take_lock(self, patience: float) -> None:
        """Nobody else changes the folder from now on; see ``open``."""
        try:
            self.lock = FolderLock(self.out, patience)
        except BlockingIOError:
            raise UserError(f"Another run is writing to {self.shown}. Wait for it, or choose another --out.") from None

    def close(self) -> None:
        """Let another run have the folder."""
        if self.lock is not None:
            self.lock.release()
            self.lock = None

    def clear(self) -> None:
        """Throw the run away. Its run.json is emptied first and goes last: a kill leaves what is cleared again."""
        run = self.out / "run.json"
        if run.exists():
            self.write(run.name, "{}")
        for name in ("best", "last", "averaged", "history", "checkpoints", "trials"):
            shutil.rmtree(self.out / name, ignore_errors=True)
        for path in (*self.out.glob("*.json"), *self.out.glob("*.jsonl"), *self.out.glob("*.yaml")):
            if path != run:
                path.unlink()
        run.unlink(missing_ok=True)

    def info(self) -> RunInfo:
        return read_run(self.out)

    @writes
    def update(self, **changes: Any) -> None:
        """Change entries of run.json; None takes one out."""
        self.out.mkdir(parents=True, exist_ok=True)
        entries = {key: value for key, value in {**self.info(), **changes}.items() if value is not None}
        self.write("run.json", json.dumps(entries, indent=1, ensure_ascii=False))

    def checkpoint(self) -> Folder | None:
        """The newest whole state to resume from; None at the beginning.

        Raises:
            UserError: there are checkpoints, and all are damaged.
        """
        folders = {path.name: path for path in (self.out / "checkpoints").glob("step-*")}
        return newest_whole(self.shown, folders, read_checkpoint, self.note_damage)

    def check_resumable(self) -> None:
        """Raises UserError where there are checkpoints, and all are damaged."""
        self.checkpoint()

    def note_damage(self, name: str, message: str) -> None:
        """Let the user know of a damaged checkpoint, once."""
        if name not in self.damaged:
            self.damaged.add(name)
            self.note(message)

    @writes
    def save_checkpoint(
        self, step: int, state: Folder, models: dict[str, Folder] | None = None, history: int | None = None
    ) -> None:
        """Store the state after ``step`` steps, and the models (``best``, ``last``) that are new with it.

        The models come first: when the state is there, so is all that led to it.

        Args:
            history: how many of the models that were ``last`` to keep.
        """
        models = models or {}
        for name, files in models.items():
            replace_folder(self.out / name, files)
        if history and "last" in models:
            put(self.out / "history", step, models["last"], history)
        put(self.out / "checkpoints", step, with_sums(state), CHECKPOINTS)

    def history(self) -> list[Folder]:
        """The models that ``save_checkpoint`` was to remember, the newest last."""
        folders = sorted((self.out / "history").glob("step-*"))
        return [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders]

    @writes
    def save_model(self, name: str, model: Folder) -> None:
        """A model of this name, in place of the one that may be there."""
        replace_folder(self.out / name, model)

    @writes
    def save_average(self, model: Folder, line: dict[str, Any]) -> None:
        """The mean of the models of ``history``, and its scores."""
        replace_folder(self.out / "averaged", model)
        self.update(averaged=line)

    @writes
    def epoch(self, line: dict[str, Any], samples: list[dict[str, Any]]) -> None:
        """Append an epoch's metrics and samples, unless the folder has them from before a failure."""
        if line["epoch"] > last_epoch(self.out / "samples.jsonl"):
            append(self.out / "samples.jsonl", [{"epoch": line["epoch"], **sample} for sample in samples])
        if line["epoch"] > last_epoch(self.out / "metrics.jsonl"):
            append(self.out / "metrics.jsonl", [line])
            self.news.append({"kind": "epoch", **line})

    def epochs(self) -> list[dict[str, Any]]:
        """The metrics of the epochs so far."""
        return read_lines(self.out / "metrics.jsonl")

    def progress(self, **values: Any) -> None:
        """Something for the terminal only."""
        self.news.append({"kind": "progress", **values})

    def phase(self, now: str) -> None:
        """What goes on before the first step, for the terminal only."""
        self.news.append({"kind": "phase", "now": now})

    def note(self, message: str) -> None:
        """Something that the user is to know."""
        self.news.append({"kind": "note", "message": message})

    def report_error(self, message: str) -> None:
        """A worker met what only the user can put right."""
        self.error = message

    def reported_error(self) -> str | None:
        return self.error

    def take_news(self) -> list[News]:
        """What is new since the last call."""
        news, self.news = self.news, []
        return news

    def flush(self) -> None:
        """Wait until all is kept that was handed in. Here each method has kept it when it returns."""

    def write(self, name: str, text: str) -> None:
        write_whole(self.out / name, text)


REPLACED = ("best", "last", "averaged", "history/step-*", "checkpoints/step-*")
"""Folders that a run may be killed while it replaces."""


def put(folder: Path, step: int, files: Folder, count: int) -> None:
    """Write ``files`` as of ``step``; of the earlier ones ``count`` - 1 stay, and of later ones, left behind, none."""
    fresh = folder / step_name(step)
    replace_folder(fresh, files)
    earlier = sorted((path for path in folder.glob("step-*") if path.name <= fresh.name), reverse=True)
    for old in set(folder.glob("step-*")) - set(earlier[:count]):
        shutil.rmtree(old)


def last_epoch(path: Path) -> int:
    lines = read_lines(path)
    return lines[-1]["epoch"] if lines else 0
