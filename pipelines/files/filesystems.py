"""Where files are: file systems of paths and uris, folders walked file by file, and what tells that a file changed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import islice
from typing import NamedTuple

from pyarrow import fs

from feature_store import uris
from feature_store.errors import ErrorClass, StoreError
from feature_store.retry import retried
from feature_store.uris import split
from pipelines.errors import UserError
from pipelines.files.buckets import objects
from pipelines.files.storage import as_user_error, class_of

SORTED_AT_ONCE = 65_536
"""Entries of a folder that are put in order; a larger one comes in so many stretches, and is never held whole."""

EMPTY_PART = "keys with an empty part (//) cannot be read; give them other names"


def locate(uri: str) -> tuple[fs.FileSystem, str]:
    """The file system of a path or uri, and the path in it; of uris see ``feature_store.uris.locate``."""
    if "\0" in uri or not_utf8(uri):
        raise UserError(f"{os.fsencode(uri)!r} is no name that can be read: expected UTF-8 without NUL. Rename it.")
    if "://" not in uri:
        return fs.LocalFileSystem(), os.path.abspath(os.path.expanduser(uri))
    try:
        return uris.locate(uri, _file_system)
    except (StoreError, OSError) as error:
        raise as_user_error(str(error), error, uri) from error


@cache
def _file_system(uri: str) -> tuple[fs.FileSystem, str]:
    # Kept, because finding a bucket's region takes a request.
    return uris.open_uri(uri)


def as_uri(filesystem: fs.FileSystem, path: str, like: str) -> str:
    """Where a worker on any node finds ``path``: itself if local, else with the rights and options of ``like``."""
    if isinstance(filesystem, fs.LocalFileSystem):
        return path
    address, _, options = split(like)
    _, root = _file_system(address + options)
    return address + "/" + path.lstrip("/").removeprefix(root.strip("/")).removeprefix("/") + options


def version_of(filesystem: fs.FileSystem, info: fs.FileInfo) -> str:
    """Size and modification time, so that another content under the same name is noticed.

    Object storage tells the time to the millisecond in a listing and to the second of one object: seconds are common.
    """
    time = info.mtime_ns or 0
    return f"{info.size}-{time if isinstance(filesystem, fs.LocalFileSystem) else time // 10**9}"


def type_of(filesystem: fs.FileSystem, path: str) -> fs.FileType:
    try:
        return retried(lambda: filesystem.get_file_info(path).type)
    except OSError as error:
        raise as_user_error(f"Cannot look at {path}: {error}", error, path) from error
    except ValueError as error:
        raise UserError(f"Cannot look at {path}: {error}; expected names between the slashes") from error


def name_of(path: str) -> str:
    """A path, or a uri without the options of its file system, which are no part of a file's name."""
    return uris.OPTIONS.sub("", path) if "://" in path else path


def suffix_of(path: str) -> str:
    return os.path.splitext(name_of(path))[1].lower()


def folder_and_name(path: str) -> tuple[str, str]:
    """The folder of a file, as a path or as a uri with the options of ``path``, and the file's name in it."""
    named = name_of(path)
    folder, slash, name = named.rpartition("/")
    return (folder or slash or ".") + path[len(named) :], name


class File(NamedTuple):
    """``version`` is None where only reading can tell; ``problem`` says why it cannot be listed."""

    path: str
    version: str | None
    problem: str | None = None

    @property
    def is_folder(self) -> bool:
        """One that could not be listed."""
        return self.path.endswith("/")


class Folder(NamedTuple):
    path: str
    is_link: bool = False


def walk(
    filesystem: fs.FileSystem, root: str, begin: str = "", enter: Callable[[str], bool] = lambda folder: True
) -> Iterator[File]:
    """Everything below ``root`` that is no folder, in the order of paths (but see ``SORTED_AT_ONCE``).

    Follows links, but not in circles. Pipes, devices and links that lead nowhere come too: reading them is what fails.
    A folder below that cannot be listed is a File with a problem. Buckets come page by page, and hold no folders.

    Args:
        begin: how what is wanted below ``root`` begins. Of a bucket nothing else is asked for.
        enter: whether something in a folder is wanted. Elsewhere than in a bucket, others are not opened.

    Raises:
        UserError: ``root`` itself cannot be listed, or a page of a bucket.
    """
    bucket = isinstance(filesystem, fs.S3FileSystem | fs.GcsFileSystem)
    try:
        yield from _in_bucket(filesystem, root, begin) if bucket else _walk(filesystem, root, enter)
    except OSError as error:
        raise as_user_error(f"Cannot list {root}: {error}", error, root) from error


def _walk(filesystem: fs.FileSystem, root: str, enter: Callable[[str], bool]) -> Iterator[File]:
    local = isinstance(filesystem, fs.LocalFileSystem)
    # A stack of our own, as there may be more folders in one another than Python has calls.
    above = {os.path.realpath(root) if local else root: (root, _in_order(filesystem, root))}
    while above:
        real = next(reversed(above))
        folder, children = above[real]
        try:
            child = next(children, None)
        except OSError as error:
            if folder == root or class_of(error, folder) is ErrorClass.STORAGE:
                raise
            yield File(folder + "/", None, f"cannot list the folder: {error}")
            child = None
        if child is None:
            above.popitem()
        elif isinstance(child, File):
            yield child
        elif enter(child.path):
            # Asking for the real path looks at every part of it, which takes long in a deep tree.
            name = os.path.basename(child.path)
            real = os.path.realpath(child.path) if child.is_link else os.path.join(real, name)
            if real not in above:
                above[real] = child.path, _in_order(filesystem, child.path)


def _in_order(filesystem: fs.FileSystem, folder: str) -> Iterator[File | Folder]:
    local = isinstance(filesystem, fs.LocalFileSystem)
    children = iter(_local_children(folder) if local else _children(filesystem, folder))
    while some := list(islice(children, SORTED_AT_ONCE)):
        # A folder sorts as its files' paths do: with the slash behind its name.
        yield from sorted(some, key=lambda child: child.path + "/" * isinstance(child, Folder))


def _in_bucket(filesystem: fs.FileSystem, root: str, begin: str) -> Iterator[File]:
    reported = ""
    bucket = root.partition("/")[0]
    for entry in objects(filesystem, root, begin):
        path = f"{bucket}/{entry.key}"
        empty = path.find("//", len(root))
        if empty >= 0:
            folder = path[: empty + 2]
            if folder != reported:  # the keys of a folder come one after the other
                yield File(folder, None, EMPTY_PART)
            reported = folder
        elif not path.endswith("/"):  # a mark that some clients put where a folder is
            yield File(path, f"{entry.size}-{int(entry.time.timestamp())}")


def names_in(filesystem: fs.FileSystem, folder: str) -> list[str]:
    """The names of what lies in a folder, in order, without those that are not UTF-8.

    Raises:
        UserError: it cannot be listed.
    """
    try:
        if isinstance(filesystem, fs.LocalFileSystem):
            return sorted(name for name in os.listdir(folder or ".") if not not_utf8(name))
        return sorted(info.base_name for info in retried(lambda: filesystem.get_file_info(fs.FileSelector(folder))))
    except OSError as error:
        raise as_user_error(f"Cannot list {folder}: {error}", error, folder) from error


def _children(filesystem: fs.FileSystem, root: str) -> Iterable[File | Folder]:
    for info in filesystem.get_file_info(fs.FileSelector(root)):
        if info.path.rstrip("/") == root:  # what pyarrow makes of keys like ``root//x``
            yield File(f"{root}//", None, EMPTY_PART)
        elif info.type == fs.FileType.Directory:
            yield Folder(info.path)
        elif info.type == fs.FileType.File:
            yield File(info.path, version_of(filesystem, info))


def _local_children(root: str) -> Iterable[File | Folder]:
    # pyarrow passes over links that lead nowhere, and stops at names that are not UTF-8.
    with os.scandir(root) as entries:
        for entry in entries:
            try:
                problem = not_utf8(entry.name)
                if problem:
                    # An empty part, and twice a backslash that is one: no other name looks like this.
                    name = os.fsencode(entry.name.replace("\\", "\\\\")).decode(errors="backslashreplace")
                    yield File(f"{root.rstrip('/')}//{name}" + "/" * entry.is_dir(), None, problem)
                elif entry.is_dir():
                    yield Folder(entry.path, entry.is_symlink())
                else:
                    yield File(entry.path, _local_version(entry))
            except OSError:  # a link to itself
                yield File(entry.path, None)


def not_utf8(name: str) -> str | None:
    """What is wrong with a name that the operating system gave, if it is not text."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return "the name is not UTF-8; rename it"
    return None


def _local_version(entry: os.DirEntry) -> str | None:
    if not entry.is_file():
        return None
    stat = entry.stat()
    return f"{stat.st_size}-{stat.st_mtime_ns}"
