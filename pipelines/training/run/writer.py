"""The one writer of run folders: an actor on the driver's machine, to which the workers of any node send.

The cluster needs no shared file system for it. A worker that Ray has given up may come back to life while another does
its work; each process that trains is therefore a writer with a term of its own (a fencing token, as in Raft), and the
actor listens to the newest term of a run alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import ray
from ray.actor import ActorHandle
from ray.exceptions import OutOfMemoryError, RayActorError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipelines.errors import Fault, UserError
from pipelines.files.remote_folder import RemoteFolder
from pipelines.training.run.folder import News, RunFolder
from pipelines.training.run.info import RunInfo
from pipelines.training.run.ray_errors import NO_MEMORY
from pipelines.training.run.remote import RemoteRun

LOCK_SECONDS = 10
"""For which the last processes of a killed run may still hold its folder."""
CLOSE_SECONDS = 20
"""For the folders to be given back at the end."""


class RunWriter:
    """Run folders under ``root`` by their names: "" is ``root`` itself, the others are the trials of a search.

    Args:
        remote: where the folders are, if not in ``root``, which has their working copies then.
    """

    def __init__(self, root: Path, remote: RemoteFolder | None = None) -> None:
        self.root, self.remote = root, remote
        self.runs: dict[str, RunFolder] = {}
        self.terms: Counter[str] = Counter()

    def take(self, name: str, patience: float = 0) -> None:
        """Nobody else changes the folder from now on, also no process of this search that has it."""
        self.close(name)
        run = self.folder(name)
        run.take_lock(patience)
        self.runs[name] = run

    def take_over(self, name: str, recipe: str, about: dict[str, Any], restart: bool = False) -> RunInfo:
        """Begin or resume the run in a folder that was taken: see ``RunFolder.open``."""
        try:
            return self.runs[name].take_over(recipe, about, restart)
        except BaseException:
            self.close(name)
            raise

    def folder(self, name: str) -> RunFolder:
        if self.remote is None:
            return RunFolder(self.root / name)
        return RemoteRun(self.root / name, self.remote.below(name) if name else self.remote)

    def begin(self, name: str) -> int:
        """A new writer of a run: the term to give with its calls."""
        self.terms[name] += 1
        return self.terms[name]

    def call(self, name: str, term: int | None, method: str, *args: Any, **kwargs: Any) -> Any:
        """A method of an open run folder, for the writer of that term; None is the driver, which has none."""
        if name not in self.runs or term not in (None, self.terms[name]):
            raise RuntimeError(f"The run {self.folder(name).shown} is over, or another process trains it by now.")
        return getattr(self.runs[name], method)(*args, **kwargs)

    def amend(self, name: str, **changes: Any) -> None:
        """Change entries of the run.json of a run that is over, also of one that never opened its folder; nobody else
        changes it from then on."""
        if name not in self.runs:
            run = self.folder(name)
            run.take_lock(LOCK_SECONDS)
            self.runs[name] = run
        self.runs[name].update(**changes)
        self.close(name)

    def close(self, name: str) -> None:
        if name in self.runs:
            self.runs.pop(name).close()

    def close_all(self) -> None:
        """Let others have the folders, without their waiting for signs of life."""
        for name in list(self.runs):
            self.close(name)

    def take_news(self) -> dict[str, list[News]]:
        """What is new since the last call, by run."""
        return {name: run.take_news() for name, run in self.runs.items()}


if TYPE_CHECKING:
    Methods = RunFolder  # so that a misspelt one is found
else:
    Methods = object


class RunClient(Methods):
    """A run folder in a ``RunWriter``, for any process of the cluster.

    Args:
        name: of the run; see ``RunWriter``.
        term: of a process that trains; None for the driver.
    """

    def __init__(self, actor: ActorHandle[RunWriter], name: str = "", term: int | None = None) -> None:
        self.actor, self.name, self.term = actor, name, term

    if not TYPE_CHECKING:

        def __getattr__(self, method: str) -> Any:
            """A method of ``RunFolder``, done by the actor."""
            if method.startswith("__"):  # of Python, which asks for some while it pickles
                raise AttributeError(method)
            return partial(self.call, method)

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return answer(self.actor.call.remote(self.name, self.term, method, *args, **kwargs))

    def writer(self) -> RunClient:
        """For the process that trains from now on: whoever did before is no longer listened to."""
        return RunClient(self.actor, self.name, answer(self.actor.begin.remote(self.name)))

    def open(self, recipe: str, about: dict[str, Any], restart: bool = False, patience: float = 0) -> RunInfo:
        self.take(patience)
        return self.take_over(recipe, about, restart)

    def take(self, patience: float) -> None:
        """The first half of ``open``, between which and the second a driver can look at what is there."""
        answer(self.actor.take.remote(self.name, patience))

    def take_over(self, recipe: str, about: dict[str, Any], restart: bool = False) -> RunInfo:
        return cast(RunInfo, answer(self.actor.take_over.remote(self.name, recipe, about, restart)))

    def amend(self, **changes: Any) -> None:
        """As ``update``, of a run that is over: the folder may be taken by others from then on."""
        answer(self.actor.amend.remote(self.name, **changes))

    def flush(self) -> None:
        """Nothing to wait for: each call has written what it was given."""


def answer(promise: ray.ObjectRef[Any]) -> Any:
    """What an actor that writes folders returns.

    Raises:
        UserError: the one that it raised.
        Fault: it has died, or cannot be reached.
    """
    try:
        return ray.get(promise)
    except RayTaskError as error:
        raise error.cause if isinstance(error.cause, UserError) else error from None
    except OutOfMemoryError:
        raise Fault(NO_MEMORY) from None
    except RayActorError:
        raise Fault("The process that writes the run folder has died. Run the same command again to resume.") from None
    except RayError as error:
        raise Fault(
            f"The process that writes the run folder cannot be reached ({type(error).__name__}). Run the same command "
            "again to resume."
        ) from None


@contextmanager
def run_writer(root: Path, remote: RemoteFolder | None = None) -> Iterator[ActorHandle[RunWriter]]:
    """A ``RunWriter`` on this machine, where the folder is, wherever the workers are; until the block ends."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    make: Any = ray.remote(RunWriter)  # whose type is that of a function to Ray
    actor: ActorHandle[RunWriter] = make.options(num_cpus=0, scheduling_strategy=here).remote(root, remote)
    try:
        yield actor
    finally:
        with suppress(RayError, UserError):  # whoever comes next finds out by itself that nobody is here
            ray.get(actor.close_all.remote(), timeout=CLOSE_SECONDS)
        ray.kill(actor)
