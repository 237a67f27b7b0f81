"""Folders that are there whole or not at all, also after a power cut.

A rename is atomic for whoever looks, but a file system may write the new name to the disk before the content that it
stands for: after a power cut the file would be there, and empty. Hence content is flushed to the disk (fsync) before
the rename, and the folder that holds the name after it.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path

NOT_FOR_FOLDERS = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)
"""What file systems answer that know no fsync of a folder, as some network file systems do."""


def write_synced(path: Path, content: bytes) -> None:
    """Write a file of a name that nobody reads yet; it is on the disk when this returns."""
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flush to the disk which names a folder holds: what was created, renamed or removed in it stays so."""
    if os.name == "nt":  # a folder cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NOT_FOR_FOLDERS:
            raise
    finally:
        os.close(descriptor)


def replace_folder(folder: str | Path, files: dict[str, bytes]) -> None:
    """Write ``files`` beside ``folder``, flush them to the disk, then give them its name.

    Raises:
        OSError: the disk is full, or cannot be written; the old folder stays.
    """
    folder = Path(folder).absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        fresh.chmod(0o755)
        for name, content in files.items():
            write_synced(fresh / name, content)
        sync_folder(fresh)
        if folder.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old.", dir=folder.parent))
            folder.rename(old / folder.name)
            fresh.rename(folder)
            sync_folder(folder.parent)
            shutil.rmtree(old)
        else:
            fresh.rename(folder)
            sync_folder(folder.parent)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def sweep(folder: str | Path) -> None:
    """Remove what a ``replace_folder`` that was killed left beside ``folder``, whose name may be a pattern.

    A folder that it had moved out of the way without putting the new one in its place is moved back.
    """
    parent, name = Path(folder).parent, Path(folder).name
    for old in parent.glob(f".{name}.old.*/{name}"):
        if not (parent / old.name).exists():
            old.rename(parent / old.name)
    for rest in parent.glob(f".{name}.*"):
        shutil.rmtree(rest)
