"""Pictures inside of larger files: members of tar shards (WebDataset), cells of Parquet tables.

What is listed of one is an address of its bytes, so that a worker reads those alone:

==========================================  =============================================
``bytes://OFFSET+SIZE::URI``                a stretch of the file URI
``cell://GROUP/ROW/COLUMN::URI``            row ROW of a row group of the Parquet file URI
==========================================  =============================================
"""

from __future__ import annotations

import re
from typing import NamedTuple, TypeGuard

from pyarrow import fs

from pipelines.files.filesystems import version_of

CHANGED = "the file has changed since it was listed; list it anew"


class Member(NamedTuple):
    """A file in a shard. ``address`` stands for ``URI::``; ``problem`` says why it, or what comes after, is lost."""

    name: str
    address: str
    version: str | None
    problem: str | None = None


def is_hidden(path: str) -> bool:
    """Whether a file, named from the folder or archive that is listed, is hidden or lies in a hidden folder. Macs put
    one beside each file (``._NAME``, AppleDouble, RFC 1740), in archives below ``__MACOSX``, too."""
    return any((part.startswith(".") and part not in (".", "..")) or part == "__MACOSX" for part in path.split("/"))


def parse_address(uri: str) -> tuple[str, str] | None:
    """An address and the uri of the file that it lies in; None for the uri of a whole file."""
    match = re.match(r"((?:bytes://\d+\+\d+)|(?:cell://\d+/\d+/[\w.]+))::(.+)", uri, re.DOTALL)
    return (match[1], match[2]) if match else None


def size_of(address: str) -> int | None:
    """Bytes of what is at an address, where it tells."""
    return int(address.rpartition("+")[2]) if address.startswith("bytes://") else None


def is_ours(version: str | None) -> TypeGuard[str]:
    """Whether it looks like ``version_of`` a file, rather than a version that a user's listing gave."""
    return re.fullmatch(r"\d+-(0|-?\d{9,})", version or "") is not None


def refuse_changed(filesystem: fs.FileSystem, path: str, version: str) -> None:
    if version_of(filesystem, filesystem.get_file_info(path)) != version:
        raise OSError(CHANGED)
