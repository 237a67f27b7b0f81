"""IMAGES, as every verb takes them: which pictures there are, in order, without opening one.

==========================  ===============================================================================
photos/ or s3://bucket/p/   the files below with a picture's suffix; others are counted as ignored
'photos/*/big*'             the files that match, whatever their suffix
list.txt                    a path or uri a line
list.csv, list.jsonl        a column or key ``file``, ``uri`` or ``path``, and optionally ``image_id``
list.parquet                the same columns
photo.jpg                   one picture
==========================  ===============================================================================

Paths in a listing are relative to its folder. An image's id is its ``image_id``, else its path below the folder (below
the part of a glob without wildcards), or as the listing has it. Ids are unique; the order is theirs.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from fsspec.utils import glob_translate
from pyarrow import fs

from feature_store.errors import StoreError
from feature_store.files import open_uri
from pipelines.console import UserError

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".gif", ".bmp", ".dib"),
    *(".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2"),
)
SHOWN = ".jpg .png .webp .gif .tif ..."
LISTINGS = (".txt", ".csv", ".jsonl", ".parquet")
FILE_COLUMNS = ("uri", "file", "path", "filename", "image")
CHUNK_ROWS = 16_384

SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("version", pa.string()),
    ]
)
"""``version`` is size and modification time where the listing knows them, else null until the file is read."""


class Entry(NamedTuple):
    image_id: str
    uri: str
    version: str | None


@dataclass
class Listing:
    """What IMAGES names. ``ignored`` counts files of a folder that are no pictures; complete after ``chunks``."""

    images: str
    ignored: int = 0

    def chunks(self) -> Iterator[pa.Table]:
        """Tables of ``SCHEMA`` with at most ``CHUNK_ROWS`` rows; ids ascend.

        Raises:
            UserError: nothing is there, there is no picture, or a listing is wrong.
        """
        entries = self._entries()
        found = False
        while some := list(islice(entries, CHUNK_ROWS)):
            found = True
            yield pa.table([pa.array(column, pa.string()) for column in zip(*some, strict=True)], schema=SCHEMA)
        if not found:
            ignored = f"; {self.ignored:,} other files are there" if self.ignored else ""
            raise UserError(
                f"images: no picture in {self.images}{ignored}. Of a folder, files with a picture's suffix are taken "
                f"({SHOWN}); a glob such as '{self.images.rstrip('/')}/*' takes any file."
            )

    def _entries(self) -> Iterator[Entry]:
        filesystem, path = locate(self.images)
        if re.search(r"[*?\[]", path) and _type(filesystem, path) == fs.FileType.NotFound:
            return self._glob(filesystem, path)
        match _type(filesystem, path):
            case fs.FileType.Directory:
                return self._folder(filesystem, path)
            case fs.FileType.NotFound:
                raise UserError(f"images: there is no file or folder {self.images}")
        suffix = _suffix(path)
        if suffix in LISTINGS:
            return self._listing(filesystem, path, suffix)
        if suffix in SUFFIXES:
            name = path.rpartition("/")[2]
            return iter([Entry(name, as_uri(filesystem, path, self.images), None)])
        raise UserError(
            f"images: {self.images} is neither a folder, nor a picture ({SHOWN}), nor a listing ({' '.join(LISTINGS)})"
        )

    def _folder(self, filesystem: fs.FileSystem, root: str) -> Iterator[Entry]:
        for file in walk(filesystem, root):
            if _suffix(file.path) in SUFFIXES and not file.path.rpartition("/")[2].startswith("."):
                yield self._entry(filesystem, file, root)
            else:
                self.ignored += 1

    def _glob(self, filesystem: fs.FileSystem, pattern: str) -> Iterator[Entry]:
        root = re.split(r"/[^/]*[*?\[]", pattern, maxsplit=1)[0]
        if _type(filesystem, root) != fs.FileType.Directory:
            raise UserError(f"images: {self.images} matches nothing, there is no folder {root}")
        matches = re.compile(glob_translate(pattern)).fullmatch
        return (self._entry(filesystem, file, root) for file in walk(filesystem, root) if matches(file.path))

    def _entry(self, filesystem: fs.FileSystem, file: File, root: str) -> Entry:
        below = file.path[len(root) :].lstrip("/")
        return Entry(below, as_uri(filesystem, file.path, self.images), file.version)

    def _listing(self, filesystem: fs.FileSystem, path: str, suffix: str) -> Iterator[Entry]:
        with filesystem.open_input_file(path) as file:
            try:
                ids, files = READERS[suffix](file)
            except (ValueError, pa.ArrowException) as error:
                raise UserError(f"images: {self.images}: {error}") from error
        folder = as_uri(filesystem, path.rpartition("/")[0], self.images)
        uris = [file if "://" in file or file.startswith("/") else f"{folder}/{file}" for file in files]
        table = pa.table({"image_id": pa.array(ids, pa.string()), "uri": pa.array(uris, pa.string())})
        # One line per caption is a common listing: the same picture again is no contradiction.
        table = table.group_by(["image_id", "uri"]).aggregate([]).sort_by("image_id")
        column = table["image_id"].combine_chunks()
        if twice := column[1:].filter(pc.equal(column[1:], column[:-1])).to_pylist():
            raise UserError(f"images: {self.images} gives image_id {twice[0]!r} to several files; ids must be unique")
        for batch in table.to_batches(max_chunksize=CHUNK_ROWS):
            yield from map(Entry, batch["image_id"].to_pylist(), batch["uri"].to_pylist(), [None] * len(batch))


def locate(uri: str) -> tuple[fs.FileSystem, str]:
    """The file system of a path or uri, and the path in it. No character of a name has a meaning of its own."""
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return fs.LocalFileSystem(), os.path.abspath(os.path.expanduser(uri))
    host, slash, below = rest.partition("/")
    filesystem, root = _file_system(f"{scheme}://{host}{slash if scheme == 'file' else ''}")
    return filesystem, f"{root.rstrip('/')}/{below}".rstrip("/")


@cache
def _file_system(uri: str) -> tuple[fs.FileSystem, str]:
    # Kept, because finding a bucket's region takes a request.
    try:
        return open_uri(uri)
    except (StoreError, OSError) as error:
        raise UserError(f"images: {error}") from error


def as_uri(filesystem: fs.FileSystem, path: str, like: str) -> str:
    """Where a worker on any node finds ``path``: itself if local, else with the scheme of ``like``."""
    if isinstance(filesystem, fs.LocalFileSystem):
        return path
    return f"{like.partition('://')[0]}://{path}"


def version_of(info: fs.FileInfo) -> str:
    """Size and modification time, so that another content under the same name can be told."""
    return f"{info.size}-{info.mtime_ns or 0}"


class File(NamedTuple):
    path: str
    version: str | None


def walk(filesystem: fs.FileSystem, root: str, above: frozenset[str] = frozenset()) -> Iterator[File]:
    """Files below ``root`` in the order of their paths. Follows links but not in circles; skips pipes and devices."""
    local = isinstance(filesystem, fs.LocalFileSystem)
    real = os.path.realpath(root) if local else root
    if real in above:
        return
    try:
        children = list(_local_children(root) if local else _children(filesystem, root))
    except OSError as error:
        raise UserError(f"images: cannot list {root}: {error}") from error
    # A folder sorts as its files' paths do: with the slash behind its name.
    for child in sorted(children, key=lambda child: child.path + "/" * isinstance(child, Folder)):
        if isinstance(child, Folder):
            yield from walk(filesystem, child.path, above | {real})
        else:
            yield child


class Folder(NamedTuple):
    path: str


def _children(filesystem: fs.FileSystem, root: str) -> Iterator[File | Folder]:
    for info in filesystem.get_file_info(fs.FileSelector(root)):
        if info.type == fs.FileType.Directory:
            yield Folder(info.path)
        elif info.type == fs.FileType.File:
            yield File(info.path, version_of(info))


def _local_children(root: str) -> Iterator[File | Folder]:
    # pyarrow passes over links that lead nowhere, and stops at names that are not UTF-8.
    with os.scandir(root) as entries:
        for entry in entries:
            if _undecodable(entry.name):
                raise UserError(f"images: the name {os.fsencode(entry.name)!r} in {root} is not UTF-8; rename it")
            if entry.is_dir():
                yield Folder(entry.path)
            elif entry.is_file():
                found = entry.stat()
                yield File(entry.path, f"{found.st_size}-{found.st_mtime_ns}")
            elif entry.is_symlink() and not os.path.exists(entry.path):
                yield File(entry.path, None)  # becomes a failure, not silence


def _undecodable(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return True
    return False


def _type(filesystem: fs.FileSystem, path: str) -> fs.FileType:
    try:
        return filesystem.get_file_info(path).type
    except OSError as error:
        raise UserError(f"images: cannot look at {path}: {error}") from error


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


# Listings: an open file to (ids, files). ValueError says what is wrong.


def read_lines(file) -> tuple[list[str], list[str]]:
    files = [line.strip() for line in _text(file) if line.strip()]
    return files, files


def read_csv(file) -> tuple[list[str], list[str]]:
    reader = csv.DictReader(_text(file), skipinitialspace=True)
    column = _file_column(reader.fieldnames or ())
    rows = [(row.get("image_id") or row[column], row[column]) for row in reader if row[column]]
    return [id_ for id_, _ in rows], [name for _, name in rows]


def read_jsonl(file) -> tuple[list[str], list[str]]:
    ids, files = [], []
    for number, line in enumerate(_text(file), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError("not a mapping")
            name = row[_file_column(row)]
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from error
        files.append(str(name))
        ids.append(str(row.get("image_id", name)))
    return ids, files


def read_parquet(file) -> tuple[list[str], list[str]]:
    parquet = pq.ParquetFile(file)
    column = _file_column(parquet.schema_arrow.names)
    wanted = [name for name in ("image_id", column) if name in parquet.schema_arrow.names]
    table = parquet.read(columns=wanted)
    files = table[column].cast(pa.string()).to_pylist()
    ids = table["image_id"].cast(pa.string()).to_pylist() if "image_id" in wanted else files
    return ids, files


READERS = {".txt": read_lines, ".csv": read_csv, ".jsonl": read_jsonl, ".parquet": read_parquet}


def _text(file) -> io.TextIOWrapper:
    return io.TextIOWrapper(file, encoding="utf-8-sig", newline="")


def _file_column(columns) -> str:
    for name in FILE_COLUMNS:
        if name in columns:
            return name
    raise ValueError(f"has no {', '.join(FILE_COLUMNS[:3])}; it has {', '.join(map(str, columns)) or 'nothing'}")
