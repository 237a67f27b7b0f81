"""A term is the time of one writer: how it begins, shows that it lives, and ends."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Generic, NamedTuple, TypeVar

from feature_store.errors import AnotherWriter, StoreError
from feature_store.ledger import Heartbeat, Ledger, TermHandle, TermName
from feature_store.writer import Handle

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 10.0
WORK = "work"
"""The file that tells what a writer has to do. No .json, so that versions that do not know it see no entry."""

Held = TypeVar("Held", bound=TermHandle)


class Term(Generic[Held]):
    """The time of one writer, from ``Dataset.begin``. A context manager; ``close`` ends it.

    Attributes:
        handle: goes to the tasks that commit.
        to_do: inputs of this term, done and still to be done, as far as the writer knows; without those whose new rows
            stand in parts that replace others, once these are committed. Readers see it with the next sign of life.
        working_since: when work on the first of them began, seconds since 1970.
        swept: files of dead writers that were removed at the beginning, below the set's folder, and their bytes.
    """

    def __init__(self, handle: Held, heartbeat: Heartbeat) -> None:
        self.handle = handle
        self.swept: dict[str, int] = {}
        self.to_do: int | None = None
        self.working_since: float | None = None
        self._written: bytes | None = None
        self._heartbeat = heartbeat
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="feature-store-heartbeat", daemon=True)
        handle.files.write(self._path("alive.json"), heartbeat.to_json())
        self._thread.start()

    def _path(self, file: str) -> str:
        return self.handle.ledger.path(self.handle.term, file)

    def _beat(self) -> None:
        while not self._ended.wait(self._heartbeat.interval):
            self._heartbeat = self._heartbeat.renewed()
            # A missed beat is the message: after three, others may take this writer for dead.
            with suppress(StoreError, OSError):
                self.handle.files.write(self._path("alive.json"), self._heartbeat.to_json())
            self._write_work()

    def _write_work(self) -> None:
        if self.to_do is None:
            return
        told = json.dumps({"to_do": self.to_do, "since": self.working_since}).encode()
        if told != self._written:
            with suppress(StoreError, OSError):  # nothing depends on it
                self.handle.files.write(self._path(WORK), told)
                self._written = told

    def _stop_beating(self) -> None:
        self._ended.set()
        self._thread.join()

    def close(self) -> None:
        """End in order, so that the next writer need not ask whether this one lives. A second call does nothing."""
        if not self._ended.is_set():
            self._stop_beating()
            self._write_work()
            self.handle.files.write(self._path("closed.json"), b"{}")

    def _withdraw(self) -> None:
        self._stop_beating()
        with suppress(StoreError):
            self.handle.files.delete_folder(self._path("").rstrip("/"))

    def __enter__(self) -> Term[Held]:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            self.close()
        else:
            with suppress(StoreError):  # the first error is the one to tell
                self.close()


def begin(draft: Held, takeover: bool, interval: float, carry_over: Callable[[Held], dict[str, int]]) -> Term[Held]:
    """Open the next term.

    Args:
        draft: a handle that is complete but for its term.
        carry_over: writes the term's base, which makes it the one that counts, and removes what belongs to no term;
            returns these files and their bytes.

    Raises:
        AnotherWriter: another writer lives, or began at the same moment.
        StoreError: nothing can be written.
    """
    if not takeover:
        refuse_if_another_lives(draft.ledger)
    handle = replace(draft, term=TermName.after(draft.ledger.terms()))
    term = Term(handle, Heartbeat.first(interval))
    try:
        # Only now that its folder is there to be seen, so that earlier writers commit nothing that this one overlooks.
        refuse_rivals(handle)
        term.swept = carry_over(handle)
        handle.refuse_if_taken_over()
    except BaseException:
        term._withdraw()
        raise
    return term


def refuse_rivals(handle: TermHandle) -> None:
    """Of writers that begin at the same moment each looks after it can be seen, so at most one sees no other."""
    own = handle.term
    rivals = [other for other in handle.ledger.terms() if other.number >= own.number and other != own]
    if rivals:
        raise AnotherWriter(
            f"{handle.files.show(handle.folder)}: another writer (term {rivals[-1]}) began at the same moment. "
            "Only one may write a set; try again if that one has given way too.",
            f"term {rivals[-1]}, which began at the same moment",
        )


def carry_over_parts(handle: Handle) -> dict[str, int]:
    """Write the term's base, which makes it the one that counts, and remove files without an entry. Returns these."""
    _, parts = handle.ledger.read()
    existing = existing_files(handle)
    handle.ledger.write_base(handle.term, [part for part in parts if not part.replaced or existing.keys() & part.paths])
    orphans = existing.keys() - {path for part in parts for path in part.paths}
    for path in orphans:
        handle.files.delete(f"{handle.folder}/{path}")
    return {path: existing[path] for path in orphans}


def existing_files(handle: Handle) -> dict[str, int]:
    """Every file in ``parts/`` and ``failures/``, half-written ones included, and its bytes: all of this term and of
    those before it.

    Raises:
        StoreError: another writer has taken over, whose files may be among them.
    """
    kinds = ("parts", "failures")
    found = {
        f"{kind}/{info.base_name}": info.size
        for kind in kinds
        for info in handle.files.infos(f"{handle.folder}/{kind}")
    }
    handle.refuse_if_taken_over()
    return found


def refuse_if_another_lives(ledger: Ledger) -> None:
    """Only the newest terms matter: all earlier writers have been taken over from already."""
    terms = ledger.terms()
    for term in terms:
        if term.number < terms[-1].number:
            continue
        found = heartbeat_of(ledger, term)
        if found and lives(ledger, term, found):
            raise AnotherWriter(
                f"{ledger.files.show(ledger.folder)}: another writer is at work ({found.describe()}). Wait until it "
                f"ends; or, if you know that it is gone, take over (--takeover): its later commits are then refused.",
                found.describe(),
            )


def heartbeat_of(ledger: Ledger, term: TermName) -> Heartbeat | None:
    """The last sign of life of a term's writer, who may be dead; None if the term was closed in order."""
    if ledger.files.exists(ledger.path(term, "closed.json")):
        return None
    content = ledger.files.read(ledger.path(term, "alive.json"))
    return Heartbeat.from_json(content) if content else None


class Work(NamedTuple):
    """What a writer told of its work: see ``Term``. ``term`` is its number."""

    term: int
    to_do: int
    since: float | None


def work_of(ledger: Ledger, term: TermName) -> Work | None:
    """What a term's writer told at its last sign of life, or at its end; None if it told nothing."""
    try:
        told = json.loads(ledger.files.read(ledger.path(term, WORK)) or "")
        return Work(term.number, int(told["to_do"]), told["since"])
    except (ValueError, TypeError, KeyError):
        return None


def lives(ledger: Ledger, term: TermName, seen: Heartbeat) -> bool:
    """Whether a writer lives. Of one on another machine only time can tell: waits for its next heartbeat."""
    process = seen.process()
    if process != "unknown":
        return process == "alive"
    if seen.watched:
        logger.warning("waiting up to %.0f s to see whether a writer still lives (%s)", seen.watched, seen.describe())
    deadline = time.monotonic() + seen.watched
    while time.monotonic() < deadline:
        time.sleep(min(0.5, seen.interval / 2))
        now = heartbeat_of(ledger, term)
        if now is None:
            return False
        if now.time != seen.time:
            return True
    return False
