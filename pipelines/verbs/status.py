"""``rnncond status``: what is done in a store, a run, a search or a pipeline, by whom, and whether somebody is at work.

All of it is read from the store's ledger or the run's folder, so it is the same from any machine that sees them, while
the work goes on and after it.
"""

from __future__ import annotations

import os
import shlex
import time
from collections import Counter
from contextlib import suppress
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from feature_store import Dataset, Store
from feature_store.current import Current
from feature_store.ledger import Heartbeat
from feature_store.parts import Part
from pipelines.config.metrics import best_of, rank_of
from pipelines.config.tuning_sections import Tune
from pipelines.config.yaml_core import load_yaml, scalars
from pipelines.console import Outcome, in_time, show, terminal
from pipelines.errors import UserError
from pipelines.files.atomic import is_locked
from pipelines.files.jsonl import read_lines
from pipelines.files.remote_folder import is_remote
from pipelines.tracking.address import tracking_uri
from pipelines.training.run.info import PREPARING, RunInfo, RunPlace, preparing, read_run
from pipelines.workflow.pipeline_file import PipelineSection
from pipelines.workflow.state import read_state

GONE = "interrupted: its process is gone"
RECENT_SECONDS = 600
"""Of the commits that a rate is taken from, if the writer began longer ago."""


def run(out: str, fingerprint: str | None = None, total: int | None = None, watch: float | None = None) -> Outcome:
    """Show the state of ``out``; with ``watch`` again every so many seconds, until nobody is at work.

    Args:
        total: how many inputs there are, for what is left, where they are more than the last run was to do.

    Raises:
        UserError: there is neither a store nor a run.
    """
    while True:
        outcome, at_work = state_of(out, fingerprint, total)
        if watch is None or not at_work:
            return outcome
        console = terminal()
        if console.is_terminal:
            console.clear()
        show(outcome)
        time.sleep(watch)


def state_of(out: str, fingerprint: str | None, total: int | None) -> tuple[Outcome, bool]:
    """What is known of ``out``, and whether somebody is at work in it."""
    refuse_file(out)
    store = Store(out)
    if store.exists():
        sets = [store.open(fingerprint)] if fingerprint else store.datasets()
        if not sets:
            return Outcome({"store": out, "sets": 0}), False
        states = [state_of_set(dataset, total if len(sets) == 1 else None) for dataset in sets]
        current = {kind: store.current(kind) for kind in {dataset.kind for dataset in sets}}
        for dataset, state in zip(sets, states, strict=True):
            alone = [other.kind for other in sets].count(dataset.kind) == 1
            state["current"] = current_in_words(current[dataset.kind], dataset, alone)
        at_work = any(state["at_work"] for state in states)
        if len(states) == 1:
            return Outcome({"store": out, **states[0]}), at_work
        lines = {state["set"]: line_of(state) for state in states}
        return Outcome({"store": out, "sets": len(sets), **lines}), at_work
    place = place_of(out)
    place.copy_texts()
    place.copy_runs("trials")
    folder = place.folder
    if (folder / "pipeline.json").is_file():
        return state_of_pipeline(place)
    if any((folder / name).is_file() for name in ("search.yaml", "run.json", PREPARING)):
        return state_of_run(place)
    raise UserError(
        f"There is no work in {out}: expected a store, or the folder of a run, a search or a pipeline "
        f"(`rnncond train`, `tune`, `run`).{work_within(out)}"
    )


def work_within(out: str) -> str:
    """Which folders of ``out`` have work, for a message."""
    marks = ("store.json", "run.json", "search.yaml", "pipeline.json")
    folders = {str(path.parent) for mark in marks for path in Path(out).glob(f"*/{mark}")}
    return f" There is work in {' and '.join(sorted(folders))}." if folders and not is_remote(out) else ""


def current_in_words(current: Current | None, dataset: Dataset, alone: bool) -> str:
    """Whether readers who name no set get this one, and whether that was chosen, or it is ``alone`` of its kind."""
    if current is None and alone:
        return "yes, the only one"
    if current is None or current.fingerprint != dataset.fingerprint:
        return "no"
    return "yes, pinned by `rnncond store use`" if current.pinned else "yes"


def refuse_file(out: str) -> None:
    """Raises UserError where ``out`` is a file of this machine: of a pipeline, above all."""
    if is_remote(out) or not Path(out).is_file():
        return
    folder = PipelineSection.model_fields["out"].default
    raise UserError(
        f"{out} is a file; expected a store, or the folder of a run, a search or a pipeline. A pipeline's folder is "
        f"`out` of its file, or {folder}: rnncond status {folder}"
    )


@cache
def place_of(out: str) -> RunPlace:
    """The same at each look, so that a run in object storage has one working copy."""
    return RunPlace.at(out) if is_remote(out) else RunPlace(out, Path(out))


def state_of_set(dataset: Dataset, total: int | None) -> dict[str, Any]:
    """Done, failed, rate, time left, by whom, and the last sign of life; from the ledger alone."""
    snapshot, beat = dataset.snapshot(), dataset.writer()
    now = time.time()
    alive = beat is not None and beat.seems_alive()
    parts = snapshot.parts
    state: dict[str, Any] = {"set": dataset.fingerprint, "kind": dataset.kind, "done": snapshot.rows}
    state |= {"failed_inputs": snapshot.failed, "at_work": alive}
    rate = 0.0
    if beat is not None:
        state["writer"] = in_words_of(beat)
        work = dataset.work()
        rate = rate_of(parts, beat.begun, now if alive else beat.time, work.since if work else None)
        if rate:
            state["per_second"] = round(rate, 2)
    left = dataset.left(snapshot) if total is None else max(total - snapshot.rows - snapshot.failed, 0)
    if left is not None:
        state["left"] = left
        if alive and rate:
            state["time_left"] = in_time(left / rate)
    last = max([part.time for part in parts] + ([beat.time] if beat else []), default=None)
    if last is not None:
        state["last_sign_of_life"] = f"{in_time(max(now - last, 0))} ago"
    return state


def in_words_of(beat: Heartbeat) -> str:
    """Who wrote, and whether it seems to live."""
    return f"{beat.describe()}{'' if beat.seems_alive() else ' (no longer alive; run its command again)'}"


def rate_of(parts: list[Part], begun: float, until: float, working_since: float | None = None) -> float:
    """Inputs a second: those committed since the writer began, or of late if that is long ago.

    Args:
        working_since: when the first input was begun, if that is known. Then what is under way, which is in no part
            yet, does not count as time in which nothing was done.
    """
    since = max(working_since or begun, until - RECENT_SECONDS)
    recent = [part for part in parts if part.time >= since and not part.replaces]
    if working_since and recent:
        until = max(part.time for part in recent)
    return sum(part.rows + part.failures for part in recent) / max(until - since, 1e-9)


def line_of(state: dict[str, Any]) -> str:
    rate = f", {state['per_second']:,} a second" if "per_second" in state else ""
    current = "" if state["current"] == "no" else f", current{state['current'].removeprefix('yes')}"
    last = f", last sign of life {state['last_sign_of_life']}" if "last_sign_of_life" in state else ""
    left = f", {state['left']:,} left" if state.get("left") else ""
    time_left = f", {state['time_left']} to go" if left and "time_left" in state else ""
    who = f", {state['writer']}" if "writer" in state else ""
    counts = f"{state['done']:,} done, {state['failed_inputs']:,} failed{left}"
    return f"{state['kind']}: {counts}{current}{rate}{time_left}{who}{last}"


def state_of_run(place: RunPlace) -> tuple[Outcome, bool]:
    """A training's or a search's folder: epochs, scores, by whom, and when something was last written."""
    folder = place.folder
    info, prepared = read_run(folder), preparing(folder)
    beat = place.remote.writer() if place.remote is not None else prepared[1] if prepared else None
    running = info.get("status") == "running"
    locked = running and place.remote is None and is_locked(folder)
    alive = beat.seems_alive() if beat is not None else locked
    state: dict[str, Any] = {"run": place.shown, "status": info.get("status", "unknown")}
    if prepared:
        since = in_time(max(time.time() - prepared[1].begun, 0))
        state["status"] = f"being prepared for {since}: {prepared[0]}" if alive else f"{GONE}; it was {prepared[0]}"
    elif running and not alive:
        state["status"] = GONE
    state |= {name: info[name] for name in ("started", "ended", "search") if name in info}
    if alive:
        state.pop("ended", None)  # that of a run which was resumed
    lines = read_lines(folder / "metrics.jsonl")
    if lines:
        state["epochs"] = lines[-1]["epoch"]
        state |= {name: lines[-1][name] for name in ("train_loss", "val_loss", "CIDEr", "BLEU") if name in lines[-1]}
        seconds = sum(line.get("seconds", 0) for line in lines) / len(lines)
        state["seconds_an_epoch"] = round(seconds, 1)
        if (folder / "recipe.yaml").is_file():
            training = sections_of(folder / "recipe.yaml")["training"]
            state |= best_epoch(lines, training["early_stopping"]["metric"])
            left = training["epochs"] - lines[-1]["epoch"]
            if left > 0 and info.get("status") != "finished":
                state |= {"epochs_left": left} | ({"time_left": in_time(left * seconds)} if alive else {})
    elif running and alive and "search" not in info:
        state["epochs"] = 0
    if "search" in info:
        trials = {path.parent: read_run(path.parent) for path in sorted(folder.glob("trials/*/run.json"))}
        found = [trial.get("status", "unknown") for trial in trials.values()]
        found = ["interrupted" if status == "running" and not alive else status for status in found]
        state |= {f"trials_{status}": count for status, count in sorted(Counter(found).items())}
        if (folder / "search.yaml").is_file():
            state |= search_so_far(sections_of(folder / "search.yaml"), trials)
    if beat is not None:
        state["writer"] = in_words_of(beat)
    newest = newest_write(folder) if place.remote is None else beat.time if beat else None
    if newest is not None and not running and "ended" in state:
        newest = min(newest, datetime.fromisoformat(state["ended"]).timestamp())  # pages are made later
    if newest is not None:
        state["last_sign_of_life"] = f"{in_time(max(time.time() - newest, 0))} ago"
    again = None if alive or info.get("status") == "finished" else resuming(place, info)
    return Outcome(state, hint=again), alive


def newest_write(folder: Path) -> float | None:
    """When a file below ``folder`` was last written; None where there is none. Files come and go meanwhile."""
    times = []
    for above, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                times.append(os.stat(os.path.join(above, name)).st_mtime)
    return max(times, default=None)


def resuming(place: RunPlace, info: RunInfo) -> str:
    """How to resume a run, or a search, with the recipe that its folder has, in the MLflow that has its run; a search
    has a recipe of training, too."""
    verb, name = ("tune", "search.yaml") if "search" in info else ("train", "recipe.yaml")
    file, address = place.folder / name, info.get("mlflow_uri")
    if file.is_file() and place.remote is None:
        words = ["rnncond", verb, place.within(name), "--out", place.shown]
        if address and address != tracking_uri(sections_of(file).get("tracking", {}).get("uri")):
            words += ["--tracking-uri", address]
        return f"To resume it: {shlex.join(words)}"
    return "To resume it, run its command again."


def sections_of(file: Path) -> dict[str, Any]:
    """The sections of a run's recipe or of a search."""
    sections: dict[str, Any] = scalars(load_yaml(file.read_text("utf-8"), str(file)))
    return sections


def best_epoch(lines: list[dict[str, Any]], metric: str) -> dict[str, Any]:
    """The best epoch so far by the recipe's metric; nothing before the first validation."""
    best = best_of(lines, metric) or {}
    return {f"best_{key}": best[key] for key in ("epoch", "val_loss" if metric == "loss" else metric) if best}


def search_so_far(search: dict[str, Any], trials: dict[Path, RunInfo]) -> dict[str, Any]:
    """How many trials are still to begin, the epochs of all, and the best trial up to now, of those that run, too."""
    lines = {folder: read_lines(folder / "metrics.jsonl") for folder in trials}
    shown: dict[str, Any] = {"trials_to_begin": max(Tune.model_validate(search["tune"]).count - len(trials), 0)}
    shown["epochs_of_all_trials"] = sum(each[-1]["epoch"] for each in lines.values() if each)
    metric = search["training"]["early_stopping"]["metric"]
    best_lines = {folder: line for folder, each in lines.items() if (line := best_of(each, metric))}
    if not best_lines:
        return shown
    best = max(best_lines, key=lambda folder: rank_of(best_lines[folder], metric))
    score = best_lines[best]["val_loss" if metric == "loss" else metric]
    return shown | {"best_trial": best.name, f"best_{metric}": score, **trials[best].get("params", {})}


def state_of_pipeline(place: RunPlace) -> tuple[Outcome, bool]:
    """The stages of pipeline.json."""
    beat = place.remote.writer() if place.remote is not None else None
    at_work = beat is not None and beat.seems_alive() if place.remote is not None else is_locked(place.folder)
    stages = read_state(place.folder / "pipeline.json")
    state: dict[str, Any] = {"pipeline": place.shown}
    failed_inputs = 0
    for name, entry in stages.items():
        when = entry.get("ended") if entry["status"] != "begun" else entry.get("began")
        since = f", {in_time(time.time() - datetime.fromisoformat(when).timestamp())} ago" if when else ""
        stopped = f"; {GONE}; run its command again" if entry["status"] == "begun" and not at_work else ""
        failed = f", {entry['failed']:,} of its inputs failed" if entry.get("failed") else ""
        failed_inputs += entry.get("failed", 0)
        state[name] = f"{entry['status']}{failed}{since}{stopped}"
    if failed_inputs:
        state["failed_inputs"] = failed_inputs
    return Outcome(state), at_work
