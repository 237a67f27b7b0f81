"""The ``RunFolder`` of a training as an actor on the driver's machine, to which the workers of any node send."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import ActorDiedError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipelines.config.search_space import Params
from pipelines.errors import Fault, UserError
from pipelines.files.jsonl import read_lines
from pipelines.training.run_folder import RunFolder, now


class Shared(RunFolder):
    """A ``RunFolder`` that listens to the newest writer alone: one that was given up may come back to life."""

    turns = 0

    def begin(self) -> int:
        """A new writer: the turn to give with its calls."""
        self.turns += 1
        return self.turns

    def call(self, turn: int, method: str, *args: Any, **kwargs: Any) -> Any:
        """A method, for the writer of that turn."""
        if turn != self.turns:
            raise RuntimeError("Another process trains this run by now.")
        return getattr(self, method)(*args, **kwargs)


class Remote:
    """A ``Shared`` journal that lives in an actor, with the journal's own methods."""

    def __init__(self, actor: ActorHandle) -> None:
        self.actor = actor

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *args, **kwargs: answer(getattr(self.actor, name).remote(*args, **kwargs))

    def writer(self) -> Writer:
        """For the process that trains from now on: whoever did before is no longer listened to."""
        return Writer(self.actor, self.begin())


class Writer:
    """The journal's methods, until the next writer begins."""

    def __init__(self, actor: ActorHandle, turn: int) -> None:
        self.actor, self.turn = actor, turn

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *args, **kwargs: answer(self.actor.call.remote(self.turn, name, *args, **kwargs))


def answer(promise: ray.ObjectRef) -> Any:
    """What an actor that writes folders returns.

    Raises:
        UserError: the one that it raised.
        Fault: it has died.
    """
    try:
        return ray.get(promise)
    except RayTaskError as error:
        raise error.cause if isinstance(error.cause, UserError) else error from None
    except ActorDiedError:
        raise Fault("The process that writes the run's folder has died. Run the same command again to go on.") from None


@contextmanager
def journal_of(folder: Path) -> Iterator[Remote]:
    """On this machine, where the folder is, wherever the workers are. It has the folder until the block ends."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor = ray.remote(Shared).options(num_cpus=0, scheduling_strategy=here).remote(folder)
    try:
        yield Remote(actor)
    finally:
        ray.kill(actor)


LOCK_SECONDS = 30
"""For which the last processes of a killed search may still hold a trial's folder."""


class Trials:
    """The journals of all trials under way; an actor. A trial that is opened again, after its process was lost, listens
    to the new process alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "trials"
        self.journals: dict[str, RunFolder] = {}
        self.turns: Counter[str] = Counter()
        self.notes: list[str] = []

    def open(self, name: str, recipe: str, params: Params) -> int:
        """Take a trial's folder; the turn to give with every call."""
        if name in self.journals:
            self.journals.pop(name).close()
        journal = RunFolder(self.folder / name)
        journal.open(recipe, {"params": params}, patience=LOCK_SECONDS)
        # What it came to when no driver was left to hear of it; now it may come to something else.
        journal.say(ending=None, reason=None)
        self.journals[name] = journal
        self.turns[name] += 1
        return self.turns[name]

    def call(self, name: str, turn: int, method: str, *args: Any, **kwargs: Any) -> Any:
        """A method of the trial's journal."""
        if name not in self.journals or turn != self.turns[name]:
            raise RuntimeError(f"Trial {name} is over, or goes on in another process.")
        journal = self.journals[name]
        result = getattr(journal, method)(*args, **kwargs)
        self.notes += [f"Trial {name}: {entry['message']}" for entry in journal.take() if entry["kind"] == "note"]
        return result

    def lines(self, name: str) -> list[dict[str, Any]]:
        return read_lines(self.folder / name / "metrics.jsonl")

    def settle(self, name: str, **changes: Any) -> None:
        """The driver's word on how a trial ended, also one that never opened its folder."""
        journal = self.journals.pop(name, None)
        if journal:
            journal.close()
        else:
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        RunFolder(self.folder / name).say(**changes, ended=now())

    def take_notes(self) -> list[str]:
        notes, self.notes = self.notes, []
        return notes


class Desk:
    """A trial's journal, for the process that trains it, with the journal's own methods."""

    def __init__(self, trials: ActorHandle, name: str, recipe: str, params: Params) -> None:
        self.trials, self.name = trials, name
        self.turn = answer(trials.open.remote(name, recipe, params))

    def __getattr__(self, method: str) -> Callable[..., Any]:
        return lambda *args, **kwargs: answer(self.trials.call.remote(self.name, self.turn, method, *args, **kwargs))

    def lines(self) -> list[dict[str, Any]]:
        """The epochs so far."""
        return answer(self.trials.lines.remote(self.name))
