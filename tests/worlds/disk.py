"""What is asked of the disk, in its order: a power cut loses what was not flushed before it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest


class Rename(NamedTuple):
    """A file or folder that took the name ``to``, and what of it was not on the disk by then."""

    to: Path
    unsynced: set[Path]


class Disk:
    """Renames, and which of them are on the disk themselves.

    Attributes:
        renames: all, in their order.
        pending: those whose folder was not flushed since.
    """

    def __init__(self) -> None:
        self.renames: list[Rename] = []
        self.pending: list[Path] = []
        self.synced: set[int] = set()

    def sync(self, descriptor: int) -> None:
        self.synced.add(os.fstat(descriptor).st_ino)
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        self.pending = [to for to in self.pending if to.parent != path]

    def rename(self, source: Path, to: Path) -> None:
        parts = [source, *source.rglob("*")] if source.is_dir() else [source]
        self.renames.append(Rename(to, {part for part in parts if part.stat().st_ino not in self.synced}))
        self.pending.append(to)

    def check(self) -> None:
        """Each name that was given stands for something that had reached the disk, and did so itself."""
        assert self.renames
        assert [rename for rename in self.renames if rename.unsynced] == []
        assert [to for to in self.pending if to.exists()] == []


@contextmanager
def watched_disk() -> Iterator[Disk]:
    """The ``Disk`` that this process writes to while the block runs. Linux only."""
    disk, fsync = Disk(), os.fsync

    def synced(descriptor: int) -> None:
        fsync(descriptor)
        disk.sync(descriptor)

    def noting(rename):
        def noted(source, to, **options) -> None:
            disk.rename(Path(source).absolute(), Path(to).absolute())
            rename(source, to, **options)

        return noted

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", synced)
        for name in ("rename", "replace"):
            patch.setattr(os, name, noting(getattr(os, name)))
        yield disk
