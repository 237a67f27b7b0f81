"""Local files that are there whole or not at all, also after a power cut, and a folder that one process may write.

Files that a store or a model consists of have their own writers (``feature_store.files``, ``rnncond.atomic``); all else
that a verb leaves behind is written here.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rnncond.atomic import sync_folder

UNFINISHED = ".unfinished-"
"""How the names of files begin that are not whole yet. They do not hold the name that the file is to have, which may be
as long as the file system allows."""
POLL_SECONDS = 0.1


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A name to write a file to, which becomes ``path`` when the block ends; if it raises, ``path`` stays as it was.

    A link stays, and what it leads to is replaced. A device or a pipe is written as it is.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file() and not path.is_dir():
        yield path
        return
    fresh = path.with_name(f"{UNFINISHED}{secrets.token_hex(8)}")
    try:
        yield fresh
        with open(fresh, "rb") as file:
            os.fsync(file.fileno())
        os.replace(fresh, path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_whole(path: str | Path, content: str | bytes) -> None:
    """Write a file in place of the one that may be there; text as UTF-8.

    Raises:
        OSError: as for ``replacing``.
    """
    with replacing(path) as fresh:
        fresh.write_bytes(content.encode() if isinstance(content, str) else content)


def sweep_unfinished(folder: Path) -> None:
    """Remove what killed writers left in ``folder``, which must be locked: those of a living one would go, too."""
    for fresh in folder.glob(f"{UNFINISHED}*"):
        fresh.unlink(missing_ok=True)


def is_locked(folder: Path) -> bool:
    """Whether a process has the ``FolderLock`` of ``folder``; also where that cannot be asked, for want of rights.

    It takes the lock itself for a moment, which is less than anybody waits for it.
    """
    try:
        descriptor = os.open(folder / ".lock", os.O_RDWR)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


class FolderLock:
    """An exclusive lock of a folder: ``FOLDER/.lock``. The system takes it back when the process ends, however it does.

    Args:
        folder: is created where it is missing.
        patience: seconds to wait for the process that has the lock.

    Raises:
        BlockingIOError: another process, or another ``FolderLock``, has the folder.
        OSError: the folder cannot be written.
    """

    def __init__(self, folder: Path, patience: float = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.descriptor: int | None = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT)
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except OSError as error:
                if not isinstance(error, BlockingIOError) or time.monotonic() >= deadline:
                    self.release()
                    raise
            time.sleep(POLL_SECONDS)

    def release(self) -> None:
        """Let another process have the folder. May be called again."""
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
