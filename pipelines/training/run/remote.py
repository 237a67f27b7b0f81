"""A run folder in object storage.

``RemoteRun`` is a ``RunFolder`` whose small files lie in a working copy on this machine, and whose models and
checkpoints are named only: the process that trains, which has their bytes, sends them to storage itself, through a
``RunUploader``. So nothing large passes through the machine of the driver, and nothing is lost with it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

from feature_store.errors import AnotherWriter
from pipelines.errors import UserError
from pipelines.files.remote_contents import StoredFiles, read_texts
from pipelines.files.remote_folder import Damaged, FolderWriter, RemoteFolder
from pipelines.training.run.folder import RunFolder, writes
from pipelines.training.run.state import CHECKPOINTS, SUMS, Folder, newest_whole, step_name, with_sums

logger = logging.getLogger(__name__)


class RemoteRun(RunFolder):
    """Begin with ``open``, as with a ``RunFolder``.

    Args:
        out: the working copy; what it holds is replaced by what storage has.
        folder: where the run is.
    """

    def __init__(self, out: str | Path, folder: RemoteFolder) -> None:
        super().__init__(out)
        self.shown, self.folder = folder.uri, folder
        self.writer: FolderWriter | None = None

    @property
    def held(self) -> FolderWriter:
        if self.writer is None:
            raise RuntimeError(f"{self.shown} is not open")
        return self.writer

    @property
    def folders(self) -> dict[str, StoredFiles]:
        """Of models and checkpoints, by their paths, where each file is."""
        return self.held.contents.folders

    @writes
    def take_lock(self, patience: float) -> None:
        try:
            self.writer = self.folder.begin(patience)
        except AnotherWriter as error:
            raise UserError(
                f"Another run is writing to {self.shown} ({error.writer}). Wait for it, or choose another --out."
            ) from None
        self.held.contents.write_texts(self.out)

    def close(self) -> None:
        if self.writer is not None:
            writer, self.writer = self.writer, None
            writer.close()

    def clear(self) -> None:
        super().clear()
        self.folder.remove("trials")
        self.folders.clear()
        self.commit()

    def commit(self) -> None:
        """Make the run in storage what it is here."""
        self.held.contents.texts = read_texts(self.out)
        self.held.commit()

    def write(self, name: str, text: str) -> None:
        super().write(name, text)
        self.commit()

    def check_resumable(self) -> None:
        """Whether a checkpoint is whole is seen where it is read, and would take a while here."""

    def kept(self, kind: str) -> dict[str, StoredFiles]:
        """The ``checkpoints``, or the models of the ``history``, by their names and in the order of steps."""
        below = f"{kind}/"
        return {name.removeprefix(below): self.folders[name] for name in sorted(self.folders) if name.startswith(below)}

    def keep_checkpoint(
        self, step: int, state: StoredFiles, models: Mapping[str, StoredFiles], history: int | None
    ) -> None:
        """``save_checkpoint`` of files that are in storage already."""
        self.folders.update(models)
        if history and "last" in models:
            self.keep("history", step, models["last"], history)
        self.keep("checkpoints", step, state, CHECKPOINTS)
        self.commit()

    def keep(self, kind: str, step: int, files: StoredFiles, count: int) -> None:
        """As ``folder.put``: ``count`` - 1 of the earlier ones stay, and of later ones, left behind, none."""
        fresh = step_name(step)
        earlier = [name for name in self.kept(kind) if name < fresh]
        for name in set(self.kept(kind)) - set(earlier[max(0, len(earlier) - count + 1) :]):
            del self.folders[f"{kind}/{name}"]
        self.folders[f"{kind}/{fresh}"] = files

    def keep_model(self, name: str, model: StoredFiles) -> None:
        """``save_model`` of files that are in storage already."""
        self.folders[name] = model
        self.commit()

    def keep_average(self, model: StoredFiles, line: dict[str, Any]) -> None:
        """``save_average`` of files that are in storage already."""
        self.folders["averaged"] = model
        self.update(averaged=line)


class RunUploader:
    """What rank 0 hands its work to; a ``RunSink``.

    A state goes to storage while the next steps are trained. There is never more than one under way: the next waits.

    Args:
        call: a method of the ``RemoteRun``, by its name, with its arguments.
    """

    def __init__(self, call: Callable[..., Any], folder: RemoteFolder) -> None:
        self.call, self.folder = call, folder
        self.pool = ThreadPoolExecutor(1, "run-upload")
        self.pending: Future[None] | None = None

    def checkpoint(self) -> Folder | None:
        def read(stored: StoredFiles) -> tuple[Folder, str]:
            try:
                return self.folder.get({name: file for name, file in stored.items() if name != SUMS}), ""
            except Damaged as error:
                return {}, str(error)

        self.flush()
        kept = cast("dict[str, StoredFiles]", self.call("kept", "checkpoints"))
        return newest_whole(self.folder.uri, kept, read, lambda *note: self.call("note_damage", *note))

    def save_checkpoint(
        self, step: int, state: Folder, models: dict[str, Folder] | None = None, history: int | None = None
    ) -> None:
        self.flush()
        self.pending = self.pool.submit(self.upload, step, state, models or {}, history)

    def upload(self, step: int, state: Folder, models: dict[str, Folder], history: int | None) -> None:
        sent: dict[int, StoredFiles] = {}
        began = time.monotonic()
        for name, files in models.items():
            if id(files) not in sent:  # the best model is the last one, too
                sent[id(files)] = self.folder.send(f"{name}-{step_name(step)}", files)
        stored = {name: sent[id(files)] for name, files in models.items()}
        kept = self.folder.send(f"checkpoint-{step_name(step)}", with_sums(state))
        self.call("keep_checkpoint", step, kept, stored, history)
        size = sum(map(len, state.values())) / 1e6
        logger.info("the state of step %d, %.1f MB, was sent in %.1f s", step, size, time.monotonic() - began)

    def flush(self) -> None:
        """Wait until what was handed in counts.

        Raises:
            UserError: storage refuses it, or another run has taken over.
            Fault: storage does not answer.
        """
        if self.pending is not None:
            pending, self.pending = self.pending, None
            pending.result()

    def history(self) -> list[Folder]:
        self.flush()
        try:
            return [self.folder.get(stored) for stored in self.call("kept", "history").values()]
        except Damaged as error:
            raise UserError(
                f"A model of {self.folder.uri} that the average is made of is damaged: {error}. Put back a copy of it, "
                "or leave out training.average_last."
            ) from None

    def save_average(self, model: Folder, line: dict[str, Any]) -> None:
        self.flush()
        self.call("keep_average", self.folder.send("averaged", model), line)

    def save_model(self, name: str, model: Folder) -> None:
        self.call("keep_model", name, self.folder.send(name, model))

    def epoch(self, line: dict[str, Any], samples: list[dict[str, Any]]) -> None:
        self.call("epoch", line, samples)

    def progress(self, **values: Any) -> None:
        self.call("progress", **values)
