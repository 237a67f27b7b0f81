"""What a file holds, by its SHA-256, so that another day can tell whether it is the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TypedDict

from pyarrow import fs

from pipelines.errors import UserError
from pipelines.files import filesystems
from pipelines.files.storage import open_stream


class FileDigest(TypedDict):
    """Where a file is, its size, and the SHA-256 of its content."""

    path: str
    bytes: int
    sha256: str


def digest_of(path: str) -> FileDigest | None:
    """A file as it is now; None where there is none that can be read, which whoever reads it says."""
    try:
        filesystem, inside = filesystems.locate(path)
        if filesystems.type_of(filesystem, inside) != fs.FileType.File:
            return None
        with open_stream(filesystem, inside, None) as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return {"path": path, "bytes": filesystem.get_file_info(inside).size, "sha256": sha256}
    except (OSError, UserError):
        return None


def changes(before: Mapping[str, FileDigest], now: Mapping[str, FileDigest]) -> list[str]:
    """A line for each file whose content is another than before, wherever it lies; by the keys of both."""
    return [
        f"{key}: was {described(before[key])}, is {described(now[key])}"
        for key in before
        if key in now and before[key]["sha256"] != now[key]["sha256"]
    ]


def described(file: FileDigest) -> str:
    return f"{file['path']} of {file['bytes']:,} bytes (SHA-256 {file['sha256'][:12]}...)"
