"""A folder in object storage that changes as a whole, and that one writer changes at a time.

```
FOLDER/
  ledger/000002-WRITER/    the time of one writer, by the rules of feature_store/FORMAT.md
    alive.json, closed.json
    folder.json            what the folder holds: texts as they are, and of larger files where each is
  data/NAME-TOKEN/FILE     larger files, under names that are never used twice
```

A change puts the larger files first and folder.json last, one object. Who reads therefore sees the folder before a
change or after it, and a writer that is killed leaves nothing but rubbish, which the next one removes. Storage needs no
conditional writes for it: each writer writes into its own term, and only the newest term counts.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from feature_store import term
from feature_store.errors import AnotherWriter, StorageFault, StoreError
from feature_store.files import Files
from feature_store.ledger import Heartbeat, Ledger, TermHandle, TermName
from feature_store.retry import is_passing, retried
from feature_store.uris import split
from pipelines.errors import Fault, UserError
from pipelines.files.remote_contents import Contents, StoredFile, StoredFiles
from pipelines.files.storage import open_file

FOLDER = "folder.json"
BLOCK = 16 << 20
"""Bytes that are read at once."""
TRANSFER_SECONDS = 600
"""For which a large file is sent again from its beginning; ``retry.SECONDS`` may be over before it was sent once."""
READS = 5
"""Times that a file is looked for which its folder named a moment ago; each time the folder is read anew."""


class Damaged(Exception):
    """A stored file is not what was written; the message says which, and how."""


@dataclass(frozen=True)
class FolderHandle(TermHandle):
    """What the writer of a folder needs."""

    @property
    def ledger(self) -> Ledger:
        return ledger_of(self.files)


def ledger_of(files: Files) -> Ledger:
    return Ledger(files, "ledger", FOLDER)


@dataclass(frozen=True)
class RemoteFolder:
    """A folder at a uri, for whoever reads it or sends files to it. Picklable."""

    uri: str
    files: Files

    @classmethod
    def at(cls, uri: str) -> RemoteFolder:
        """
        Raises:
            UserError: there is no such file system.
        """
        with storage_errors():
            return cls(uri, Files.at(uri))

    @property
    def name(self) -> str:
        return split(self.uri)[1].rstrip("/").rpartition("/")[2]

    def below(self, path: str) -> RemoteFolder:
        """A folder of its own within this one."""
        return RemoteFolder.at(below(self.uri, path))

    def names(self, path: str) -> list[str]:
        """What lies in a folder below this one, as the names of other remote folders."""
        with storage_errors():
            return self.files.names(path)

    def writer(self) -> Heartbeat | None:
        """The last sign of life of the newest writer, who may be dead; None if it ended in order, or nobody wrote."""
        ledger = ledger_of(self.files)
        with storage_errors():
            terms = ledger.terms()
            return term.heartbeat_of(ledger, terms[-1]) if terms else None

    def put(self, name: str, content: bytes) -> None:
        """Write an object of this name for people, beside what the folder holds."""
        with storage_errors():
            self.files.write(name, content)

    def remove(self, path: str) -> None:
        """Remove all remote folders below ``path``, of which nobody writes one."""
        with storage_errors():
            self.files.delete_folder(path)

    def read(self) -> Contents | None:
        """What the folder holds now; None where nobody has written it.

        Raises:
            UserError: what counts is damaged.
            Fault: storage does not answer.
        """
        ledger = ledger_of(self.files)
        damaged: bytes | None = None
        with storage_errors():
            for _ in range(READS):
                current = ledger.current()
                if current is None:
                    return None
                # It may be gone by now, but only where a newer term counts.
                if (content := self.files.read(ledger.path(current, FOLDER))) is None:
                    continue
                try:
                    return Contents.from_json(content, self.files.show(ledger.path(current, FOLDER)))
                except UserError:
                    # A client asks for the size and then for so many bytes, between which the object may be replaced.
                    if content == damaged:
                        raise
                    damaged = content
        raise Fault(f"{self.uri} changes faster than it can be read. Run the same command again.")

    def check_writable(self) -> None:
        """Write an object and remove it.

        Raises:
            UserError: there is no such bucket, or the credentials do not allow it.
            Fault: storage does not answer.
        """
        path = f"ledger/writable-{secrets.token_hex(4)}"
        try:
            with storage_errors():
                self.files.write(path, b"")
                self.files.delete(path)
        except Fault:
            raise
        except UserError as error:
            raise UserError(
                f"Nothing can be written to {self.uri}: {error} Expected is a bucket that exists, and credentials that "
                "may list, read, write and delete there."
            ) from None

    def send(self, name: str, files: Mapping[str, bytes]) -> StoredFiles:
        """Store larger files, which count once the writer has named them in the folder.

        Args:
            name: for people who look into the bucket.
        """
        place = f"data/{name.replace('/', '-')}-{secrets.token_hex(6)}"
        sent: StoredFiles = {}
        with storage_errors():
            for file, content in files.items():
                path = f"{place}/{file}"
                retried(partial(self.files.write, path, content), TRANSFER_SECONDS)
                sent[file] = StoredFile(path, len(content), hashlib.sha256(content).hexdigest())
        return sent

    def get(self, files: StoredFiles) -> dict[str, bytes]:
        """The content of stored files.

        Raises:
            Damaged: one is not what was written, or gone.
        """
        return {name: b"".join(self.blocks(name, stored)) for name, stored in files.items()}

    def blocks(self, name: str, stored: StoredFile) -> Iterator[bytes]:
        """A stored file, piece by piece.

        Raises:
            Damaged: behind the last piece, where it is not what was written.
        """
        digest = hashlib.sha256()
        with storage_errors():
            try:
                reader = open_file(self.files.filesystem, self.files.full(stored.path))
            except FileNotFoundError:
                raise Damaged(f"{name} is gone: there is no {self.files.show(stored.path)}") from None
            with reader:
                size = reader.size()
                while size == stored.bytes and (block := reader.read(BLOCK)):
                    digest.update(block)
                    yield block
        if size != stored.bytes or digest.hexdigest() != stored.sha256:
            raise Damaged(f"{name}, {size:,} bytes, is not what was written")

    def fetch(self, name: str, target: Path) -> None:
        """Copy one of the folder's folders of larger files to the disk, where it replaces what ``target`` has.

        Raises:
            UserError: there is no such folder, or a file of it is damaged.
        """
        damage = ""
        for _ in range(READS):
            contents = self.read() or Contents()
            if name not in contents.folders:
                raise UserError(f"{self.uri} has no {name}; it has {', '.join(sorted(contents.folders)) or 'nothing'}.")
            try:
                self.copy(contents.folders[name], target)
                return
            except Damaged as error:  # or replaced since by the writer
                damage = str(error)
                if (self.read() or Contents()).folders.get(name) == contents.folders[name]:
                    break
        raise UserError(f"{below(self.uri, name)} is damaged: {damage}. Put back a copy of it.")

    def copy(self, files: StoredFiles, target: Path) -> None:
        target.mkdir(parents=True, exist_ok=True)
        for path in target.iterdir():
            path.unlink()
        for name, stored in files.items():
            with open(target / name, "wb") as file:
                for block in self.blocks(name, stored):
                    file.write(block)

    def begin(self, patience: float = 0, interval: float = term.HEARTBEAT_SECONDS) -> FolderWriter:
        """Become the folder's only writer. One that was killed on another machine is waited for, for three missed
        heartbeats.

        Args:
            patience: seconds to wait for a writer that lives.

        Raises:
            AnotherWriter: it still does.
            UserError: nothing can be written.
            Fault: storage does not answer.
        """
        deadline = time.monotonic() + patience
        while True:
            try:
                with storage_errors():
                    return FolderWriter(self, interval)
            except AnotherWriter:
                if time.monotonic() >= deadline:
                    raise
            time.sleep(min(1.0, patience))


class FolderWriter:
    """The only writer of a folder, from ``RemoteFolder.begin`` to ``close``.

    Attributes:
        contents: change it, and ``commit``.
    """

    def __init__(self, folder: RemoteFolder, interval: float) -> None:
        self.folder = folder
        self.contents = Contents()
        self.data: set[str] = set()
        draft = FolderHandle(folder.files, "", TermName(0, ""))
        self.term = term.begin(draft, False, interval, self.carry_over)

    def carry_over(self, handle: FolderHandle) -> dict[str, int]:
        """Go on from what counts, and remove what does not."""
        files, ledger = handle.files, handle.ledger
        self.contents = self.folder.read() or Contents()
        self.data = self.contents.data()
        files.write(ledger.path(handle.term, FOLDER), self.contents.to_json())
        handle.refuse_if_taken_over()
        for older in ledger.terms():
            if older.number < handle.term.number:
                files.delete_folder(f"{ledger.folder}/{older}")
        for name in files.names("data"):
            if f"data/{name}" not in self.data:
                files.delete_folder(f"data/{name}")
        return {}

    def commit(self) -> None:
        """Make ``contents`` what the folder holds, and remove the files that it held and holds no longer.

        Raises:
            UserError: another writer has taken over; what it began with has nothing of this.
        """
        handle = self.term.handle
        with storage_errors():
            # A newer writer shows itself before it reads what counts (FORMAT.md), hence a look before and after.
            handle.refuse_if_taken_over()
            handle.files.write(handle.ledger.path(handle.term, FOLDER), self.contents.to_json())
            handle.refuse_if_taken_over()
            data = self.contents.data()
            for name in self.data - data:
                handle.files.delete_folder(name)
            self.data = data

    def close(self) -> None:
        """Let another write. May be called again."""
        with storage_errors():
            self.term.close()


def below(uri: str, path: str) -> str:
    """The address of ``path`` in the folder at ``uri``, whose options stay at the end."""
    address, prefix, options = split(uri)
    return "/".join(part for part in (address.removesuffix("/"), prefix.strip("/"), path) if part) + options


def folder_for_copy() -> str:
    """A folder for the copy of what lies elsewhere; it is removed at exit."""
    folder = tempfile.mkdtemp(prefix="rnncond-model-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def is_remote(out: str | os.PathLike[str]) -> bool:
    """Whether a place that a user named is in object storage, and not a folder of this machine."""
    return "://" in os.fspath(out)


@contextmanager
def storage_errors() -> Iterator[None]:
    """Raise errors of storage as the user's; a Fault where they pass."""
    try:
        yield
    except AnotherWriter:
        raise
    except StorageFault as error:
        raise Fault(str(error)) from error
    except StoreError as error:
        raise UserError(str(error)) from error
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise (Fault if is_passing(error) else UserError)(str(error)) from error
