"""What the driver of ``rnncond train`` and of ``rnncond tune`` does alike, from the recipe to the summary.

The driver checks everything first. Then it starts Ray, a ``RunWriter`` on its own machine, and the work, wherever there
is room; it alone talks to MLflow. Whatever dies, the same command resumes from the last checkpoint.
"""

from __future__ import annotations

import dataclasses
import platform
import shlex
import threading
import traceback
import uuid
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Generic, TypeVar

from ray.actor import ActorHandle

from pipelines.cluster.connection import connect
from pipelines.cluster.resources import Cluster, Room, Share
from pipelines.cluster.waiting import share_out_when_there
from pipelines.config.recipe import FILLED, PATHS, Recipe
from pipelines.config.sections import PairData
from pipelines.console import Outcome, tell
from pipelines.errors import OtherRun, UserError
from pipelines.files.digests import FileDigest, changes, digest_of
from pipelines.tracking import registry
from pipelines.tracking.address import from_root, tracking_uri
from pipelines.tracking.client import check_reachable, import_mlflow
from pipelines.tracking.mlflow_run import Tracking, end_thrown_away
from pipelines.training.data.task import Task, prepare
from pipelines.training.optimizer import check_precision
from pipelines.training.run.folder import last_epoch
from pipelines.training.run.info import Preparation, RunInfo, RunPlace, now, read_run, written_by
from pipelines.training.run.writer import LOCK_SECONDS, RunClient, RunWriter, run_writer
from rnncond import systems

MOVABLE = tuple(f"data.{key}" for key in PATHS)
"""Files may lie elsewhere, as in a job's own copy of its working folder: ``data_id`` tells what is in them."""
MAY_CHANGE = ("cluster.", "tracking.", *MOVABLE, "out")
"""Beginnings of keys in which a run that is resumed may differ from how it began."""

Parts = TypeVar("Parts", Share, Room)


class Job(ABC, Generic[Parts]):
    """What sets a training apart from a search.

    Attributes:
        recipe: of the training; of a search the one that is varied.
        place: where the run is.
        tags: of a new run in MLflow.
        searched: keys that have no value in that run.
    """

    recipe: Recipe
    place: RunPlace
    tags: Mapping[str, str] = {}
    searched: Collection[str] = ()

    @property
    def folder(self) -> Path:
        """Where the run's files can be read here."""
        return self.place.folder

    @abstractmethod
    def changed(self, info: RunInfo) -> list[str]:
        """The keys in which the run of a run.json differs from this job, and may; none where there is no run.

        Raises:
            OtherRun: it differs in others as well.
            UserError: it is of the other verb.
        """

    @abstractmethod
    def is_done(self, info: RunInfo, changed: list[str]) -> bool:
        """Whether nothing is left to do."""

    def unfinished(self) -> int:
        """What is left where the job is to end before it is done."""
        return 0

    @abstractmethod
    def share_out(self, cluster: Cluster) -> Parts:
        """What of the cluster is used.

        Raises:
            UserError: the cluster will never hold what is asked for.
        """

    @abstractmethod
    def run(self, task: Task, writer: ActorHandle[RunWriter], tracking: Tracking, parts: Parts) -> None:
        """Do all that is left."""

    @abstractmethod
    def summary(self) -> Outcome: ...

    def about(self) -> dict[str, Any]:
        """What run.json says of a new run, beside what it says of all."""
        return {}

    def check(self, task: Task) -> None:
        """Raises UserError where the task cannot be worked on, before Ray starts."""

    def hint_done(self, changed: list[str]) -> None:
        """Tell what can still be done about a run that is finished."""


def launch(job: Job[Any], address: str | None, restart: bool, wait_seconds: float = 0) -> Outcome:
    """Do what is left of a job; all of it where its folder has no run, or with ``restart``.

    Args:
        wait_seconds: for which workers are waited for, on a cluster that has none yet.

    Raises:
        UserError: the folder has another run, or what the job needs is not there.
        Fault: workers, storage or MLflow were lost; the same command resumes.
    """
    with Preparation(job.place) as preparation:
        return prepare_and_do(job, preparation, address, restart, wait_seconds)


def prepare_and_do(
    job: Job[Any], preparation: Preparation, address: str | None, restart: bool, wait_seconds: float
) -> Outcome:
    """``launch``, which has the arguments; ``preparation`` is told what goes on until the run is open."""
    place, folder, uri = job.place, job.folder, tracking_uri(job.recipe.tracking.uri)
    info = RunInfo() if restart else read_run(folder)
    changed = job.changed(info)
    done = bool(info) and job.is_done(info, changed)
    if not done:
        check_before_data(job.recipe)
        if place.remote:
            place.remote.check_writable()
        preparation.phase("preparing the data")
    files = data_files(job.recipe)
    refuse_changed_text(place.shown, info, job.recipe, files)
    task, about = prepare(job.recipe, address)
    data_id = task.data_id

    def check(info: RunInfo) -> None:
        job.changed(info)
        refuse_other_data(place.shown, info, data_id, files)

    check(info)
    if done:
        tell(f"The run in {place.shown} is finished; --restart would begin it again.")
        job.hint_done(changed)
        return job.summary()
    if info:
        epoch = last_epoch(folder / "metrics.jsonl")
        after = f" after epoch {epoch}" if epoch else ""
        tell(f"The run in {place.shown} goes on{after}{', with another ' if changed else ''}{', '.join(changed)}.")
    job.check(task)
    if "unmatched" in about:
        tell(f"Left out: {about['unmatched']}.")
    threading.Thread(target=import_mlflow, daemon=True).start()  # while Ray starts
    preparation.phase("starting Ray" if address is None else "joining the cluster")
    with connect(address) as cluster:
        preparation.phase("waiting for workers")
        parts = share_out_when_there(job.share_out, cluster, job.recipe.cluster, wait_seconds)
        check_precision(job.recipe.training, parts.device)
        about |= job.about() | {
            "data_id": data_id,
            "data_files": files,
            "versions": versions(),
            "mlflow_key": uuid.uuid4().hex,
        }
        if restart:
            check_reachable(uri)  # still, before the old run is thrown away
        old = thrown_away(folder) if restart else RunInfo()
        with run_writer(folder, place.remote) as writer:
            run = RunClient(writer)
            tell_of_waiting(place)
            run.take(LOCK_SECONDS)
            if not restart:
                check(read_run(folder))  # which another may have written since, and nobody can any more
            info = run.take_over(job.recipe.to_yaml(), about, restart)
            preparation.end()
            status = "failed"
            try:
                run_id, key = info.get("mlflow_run_id"), info.get("mlflow_key")
                with Tracking(
                    job.recipe, folder.name, run_id, key=key, tags=job.tags, searched=job.searched
                ) as tracking:
                    run.update(mlflow_run_id=tracking.run_id, mlflow_uri=tracking.uri)
                    end_thrown_away(old)
                    tracking.describe(task)
                    job.run(task, writer, tracking, parts)
                status = "interrupted" if job.unfinished() else "finished"
            except (KeyboardInterrupt, SystemExit):  # Ray makes the latter of SIGTERM
                status = "interrupted"
                raise
            finally:
                run.update(status=status, ended=now())
    return job.summary()


def tell_of_waiting(place: RunPlace) -> None:
    """Say that a writer of the run on another machine is watched for a while, which only its signs of life tell of."""
    beat = place.remote.writer() if place.remote else None
    if beat is not None and beat.process() == "unknown" and beat.watched:
        tell(
            f"Waiting up to {beat.watched:.0f} s to see whether the run's last writer still lives ({beat.describe()})."
        )


def check_before_data(recipe: Recipe) -> None:
    """What would end a run when its data have been prepared, which may take long.

    Raises:
        UserError, Fault: the system cannot be made, or MLflow cannot be used.
    """
    check_system(recipe)
    check_reachable(tracking_uri(recipe.tracking.uri))


def check_system(recipe: Recipe) -> None:
    """Make the recipe's system once, before Ray starts: what is wrong in its code would show in a worker only.

    Raises:
        UserError: it cannot be made; the message has the place and the error.
    """
    filled = FILLED & {field.name for field in dataclasses.fields(systems.find(recipe.system).Config)}
    try:
        systems.build(recipe.system, dict(recipe.model) | dict.fromkeys(filled, 8))
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        raise UserError(
            f"The system {recipe.system} cannot be made with the recipe's section model: {type(error).__name__}: "
            f"{error} ({last.filename}, line {last.lineno})."
        ) from error


def registration(info: RunInfo) -> dict[str, Any]:
    """What a summary says of the registered model, as ``rnncond promote`` does; nothing where there is none."""
    return {key: info["registered"][key] for key in ("name", "version", "verdict")} if "registered" in info else {}


def next_steps(folder: Path | str, info: RunInfo, recipe: Recipe) -> str:
    """What to do with a model next: commands that work as they are printed."""
    shown = shlex.quote(str(folder))
    steps = f"Next: rnncond evaluate --model {shown}\n      rnncond report {shown}"
    if "registered" in info:
        uri, translates = info["registered"]["uri"], isinstance(recipe.data, PairData)
        has_weights, address = recipe.tracking.backbone_weights is not None, tracking_uri(recipe.tracking.uri)
        steps += f"\n      {registry.decoding(uri, translates, has_weights, address)}"
    return steps


def tracked_at(uri: str | None, overrides: list[str] | tuple[str, ...]) -> list[str]:
    """The overrides, with that of MLflow's address, which the recipe that is kept can be read with from any folder."""
    return [*overrides, *([f"tracking.uri={from_root(uri)}"] if uri else [])]


def changed_keys(
    folder: Path | str, before: Mapping[str, Any], after: Mapping[str, Any], may_change: Iterable[str], kind: str
) -> list[str]:
    """The keys in which a recipe differs from that of the run in ``folder``, and may.

    Args:
        before, after: all keys and their values.
        may_change: beginnings of the keys that may differ.
        kind: of what ``folder`` holds, for the message: "run of another recipe".

    Raises:
        OtherRun: others differ as well.
    """
    changed = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    wrong = [key for key in changed if not key.startswith(tuple(may_change))]
    if wrong:
        lines = "\n".join(f"  {key}: was {before.get(key)!r}, is {after.get(key)!r}" for key in wrong)
        raise OtherRun(f"{folder} holds a {kind}:\n{lines}\nChoose another --out, or give --restart to begin again.")
    return changed


def data_files(recipe: Recipe) -> dict[str, FileDigest]:
    """The files that a recipe's section data names, by their keys; a store, and what is not there, is none."""
    paths = {key: getattr(recipe.data, key, None) for key in PATHS if key != "store"}
    files = {f"data.{key}": digest_of(path) for key, path in paths.items() if path}
    return {key: file for key, file in files.items() if file}


def refuse_changed_text(folder: Path | str, info: RunInfo, recipe: Recipe, files: dict[str, FileDigest]) -> None:
    """Raises OtherRun where text has changed since the run of a run.json was begun: before Ray starts to tokenise it.

    Of captions only ``refuse_other_data`` knows whether a change matters; they are read without Ray.
    """
    if isinstance(recipe.data, PairData):
        refuse_changed_files(folder, info, files)


def refuse_changed_files(folder: Path | str, info: RunInfo, files: dict[str, FileDigest]) -> None:
    """Raises OtherRun with each file that has changed since the run was begun. Older runs do not know theirs."""
    if changed := changes(info.get("data_files", {}), files):
        lines = "".join(f"\n  {line}" for line in changed)
        raise OtherRun(
            f"{folder} was begun with other data:{lines}\nPut back what was there, choose another --out, or give "
            "--restart to begin again."
        )


def refuse_other_data(folder: Path | str, info: RunInfo, data_id: str, files: dict[str, FileDigest]) -> None:
    """Raises OtherRun where the run of a run.json was begun with other data.

    Args:
        files: those of the recipe, as they are now.
    """
    if not info or info["data_id"] == data_id:
        return
    refuse_changed_files(folder, info, files)
    if "schema" not in info:
        raise OtherRun(
            f"{folder} was begun by rnncond 0.1.0, which wrote vocabularies in another format: its model can be used "
            "everywhere, but the run is resumed by 0.1.0 only. Finish it with that version, choose another --out, or "
            "give --restart to begin again."
        )
    present = metadata.version("rnncond")
    if info.get("versions", {}).get("rnncond", present) != present:
        raise OtherRun(
            f"{folder} was begun by {written_by(info)}, and its data are others to rnncond {present}: the files have "
            "changed, the recipe names others, or the versions read them differently. Finish the run with the version "
            "that began it, choose another --out, or give --restart to begin again."
        )
    raise OtherRun(
        f"{folder} was begun with other data: they have changed since {info.get('started')}, or the recipe names "
        "others. Choose another --out, or give --restart to begin again."
    )


def thrown_away(folder: Path) -> RunInfo:
    """run.json of the run that --restart throws away; empty where it is damaged or of a newer version."""
    try:
        return read_run(folder)
    except UserError:
        return RunInfo()


def versions() -> dict[str, str]:
    names = ("rnncond", "torch", "ray", "pyarrow", "mlflow", "tokenizers")
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in names}
