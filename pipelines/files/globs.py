"""Globs over any file system: ``photos/*/big*``, ``s3://bucket/**/*.jpg``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from fsspec.utils import glob_translate
from pyarrow import fs

from pipelines.files.filesystems import File, type_of, walk

WILD = re.compile(r"[*?\[]")


def is_glob(filesystem: fs.FileSystem, path: str) -> bool:
    """Whether ``path`` has a wildcard, and nothing has just that name."""
    return bool(WILD.search(path)) and type_of(filesystem, path) == fs.FileType.NotFound


def root_of(pattern: str) -> str:
    """The folder above the first part of ``pattern`` with a wildcard."""
    return re.split(f"/[^/]*{WILD.pattern}", pattern, maxsplit=1)[0] or "/"


def matching(filesystem: fs.FileSystem, pattern: str) -> Iterator[File]:
    """The files that match ``pattern``, in the order of ``walk``, and with a problem the folders that cannot be listed
    in which some might lie.

    Raises:
        ValueError: ``**`` is a part of a name.
        UserError: as of ``walk``.
    """
    root, literal = root_of(pattern), WILD.split(pattern, maxsplit=1)[0]
    matches, may_hold = re.compile(glob_translate(pattern)).fullmatch, folders_of(pattern)
    return (
        file
        for file in walk(filesystem, root, literal.removeprefix(root).removeprefix("/"), may_hold)
        if (may_hold(path_of(file).rstrip("/")) if file.is_folder else matches(path_of(file)))
    )


def path_of(file: File) -> str:
    """The path of a file, without the empty names in it that make it a problem."""
    return file.path.replace("//", "/") if file.problem else file.path


def folders_of(pattern: str) -> Callable[[str], bool]:
    """Whether what matches a glob may lie in a folder, or below it."""
    parts = pattern.split("/")
    deep = "**" in parts
    known = parts.index("**") if deep else len(parts) - 1
    matches = [re.compile(glob_translate("/".join(parts[:count]))).fullmatch for count in range(known + 1)]

    def may_hold(folder: str) -> bool:
        names = folder.split("/")
        return (deep or len(names) <= known) and bool(matches[min(len(names), known)]("/".join(names[:known])))

    return may_hold
