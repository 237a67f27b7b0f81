"""Which set of a kind readers get: ``current/KIND.json``, and how it is changed (FORMAT.md, "The current set")."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from feature_store.errors import StoreError
from feature_store.files import Files, read_json
from feature_store.ledger import Heartbeat

CURRENT = "current"
"""In place of a fingerprint: the set of a kind that readers get. Also the folder of the files that say which."""
CHANGE = ".change-"
"""In the name of the file by which a process says that it is about to change the current set of a kind."""
CHANGE_SECONDS = 10.0
"""As a writer's heartbeat: after three of these a change on another machine counts as given up."""


class Current(NamedTuple):
    """The set of a kind that readers get who name none. A ``pinned`` one stays when a run completes another set;
    ``completed`` is the one that a run completed last, "" where that is not known."""

    kind: str
    fingerprint: str
    pinned: bool
    completed: str = ""


class Conflict(StoreError):
    """Another process changes the current set at the same moment, or has changed it meanwhile."""


def current_path(kind: str) -> str:
    """The file that says which set of ``kind`` is current, relative to the store's root."""
    return f"{CURRENT}/{kind}.json"


def read_current(files: Files, kind: str) -> Current | None:
    """The current set of ``kind``; None where nobody has said.

    Raises:
        StoreError: the file that says it is damaged.
    """
    path = current_path(kind)
    content = files.read(path)
    if content is None:
        return None
    values = read_json(content, files.show(path))
    if not isinstance(values.get("set"), str):
        raise StoreError(
            f"{files.show(path)} is damaged: it names no set. `rnncond store use {files.shown} SET` writes it anew."
        )
    pinned = bool(values.get("pinned"))
    return Current(kind, values["set"], pinned, str(values.get("completed") or ("" if pinned else values["set"])))


def change_current(files: Files, new: Current, expected: bytes | None) -> None:
    """Make ``new`` the current set of its kind, at one moment for all readers, if nobody has changed it meanwhile.

    Args:
        expected: what the file that says it held when the change was decided; None where there was none.

    Raises:
        Conflict: somebody has changed it, or is about to.
    """
    path = current_path(new.kind)
    with announced(files, new.kind):
        if files.read(path) != expected:
            raise Conflict(
                f"another process has just changed the current set of {new.kind} in {files.shown}. Nothing was changed "
                "here; look with `rnncond store info`, and run the same command again if it still is what you want."
            )
        content = {"set": new.fingerprint, "pinned": new.pinned, "completed": new.completed}
        files.write(path, json.dumps(content).encode())


@contextmanager
def announced(files: Files, kind: str) -> Iterator[None]:
    """While the block runs, no other process changes the current set of ``kind``.

    Of processes that begin at one moment each looks only when it can be seen itself, so at most one sees no other. What
    was left by one that died is removed.

    Raises:
        Conflict: another process is changing it.
    """
    own = f"{kind}{CHANGE}{secrets.token_hex(5)}"
    files.write(f"{CURRENT}/{own}", Heartbeat.first(CHANGE_SECONDS).to_json())
    try:
        for name in files.names(CURRENT):
            if not name.startswith(f"{kind}{CHANGE}") or name == own:
                continue
            content = files.read(f"{CURRENT}/{name}")
            other = None if content is None else Heartbeat.from_json(content)
            if other is not None and other.seems_alive():
                raise Conflict(
                    f"another process is changing the current set of {kind} in {files.shown} ({other.describe()}). "
                    "Nothing was changed here; run the same command again."
                )
            files.delete(f"{CURRENT}/{name}")
        yield
    finally:
        files.delete(f"{CURRENT}/{own}")
