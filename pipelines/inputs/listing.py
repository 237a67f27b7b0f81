"""IMAGES, as every verb takes them: which pictures there are, one after the other, without opening one.

==========================  ===============================================================================
photos/ or s3://bucket/p/   the files below with a picture's suffix; others are counted as ignored
'photos/*/big*'             the files that match, whatever their suffix; of tar and Parquet files the contents
shard.tar, 'shards/*.tar'   members with a picture's suffix (WebDataset); the others are counted as ignored
table.parquet               bytes in a column ``image`` or ``bytes`` or in ``image.bytes`` (Hugging Face), or uris
list.txt                    a path or uri a line
list.csv, list.jsonl        a column or key ``file``, ``uri`` or ``path``; optionally ``image_id`` and ``version``
photo.jpg                   one picture
==========================  ===============================================================================

Paths in a listing are relative to its folder. An image's id is its ``image_id``, else its path below the folder (below
the part of a glob without wildcards), or as the listing has it; a member's is ``shard.tar/member``, a row's
``table.parquet/00000017``. Ids are unique. Nothing is held but a chunk, and 16 bytes for each row of a listing, whose
ids have to be compared.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from feature_store.errors import ErrorClass
from feature_store.index import hash_texts
from pipelines.errors import UserError
from pipelines.files.filesystems import File, as_uri, locate, suffix_of, type_of, version_of, walk
from pipelines.files.globs import is_glob, matching, root_of
from pipelines.files.storage import as_user_error, class_of, open_file
from pipelines.inputs import table_shards, tar_shards
from pipelines.inputs.listing_formats import LISTINGS, READERS, SAVED, SCHEMA, Row, saving
from pipelines.inputs.members import Member, is_hidden
from pipelines.inputs.unique_ids import SeenIds
from pipelines.threads import ahead

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib"),
    *(".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".heic", ".heif", ".jp2", ".j2k", ".jpf", ".jpx"),
    *(".ico", ".tga"),
)
SHOWN = ".jpg .png .webp .gif .tif ..."
COMPRESSED = (
    *(".tar.gz", ".tgz", ".tar.bz2", ".tbz", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst", ".tar.lz4"),
    *(".zip", ".7z", ".rar"),
)
CHUNK_ROWS = 16_384
SHARDS_AHEAD, MEMBERS_AHEAD = 8, 16_384
"""Tars in object storage whose headers are read at the same time, and what is held of each: one alone waits for its
requests most of the time."""


@dataclass
class Listing:
    """What IMAGES names. ``ignored`` counts files of a folder or members that are no pictures; complete after
    ``chunks``. ``total`` is the number of images where a saved listing says it, from the first chunk on."""

    images: str
    ignored: int = 0
    total: int | None = None
    _named: bool = field(default=False, repr=False)  # ids come from listings, which may give one twice

    def chunks(self) -> Iterator[pa.Table]:
        """Tables of ``SCHEMA`` with at most ``CHUNK_ROWS`` rows.

        Raises:
            UserError: nothing is there, there is no picture, or a listing is wrong.
        """
        entries, seen = filter(self._is_picture, self._entries()), SeenIds()
        any_picture = False
        while some := list(islice(entries, CHUNK_ROWS)):
            any_picture = True
            chunk = pa.table([pa.array(column, pa.string()) for column in zip(*some, strict=True)], schema=SCHEMA)
            if self._named:
                fresh, twice = seen.compare(chunk["image_id"], hash_texts(chunk["uri"])[:, 0])
                if twice is not None:
                    raise self._doubled(chunk["image_id"][twice].as_py(), chunk["uri"][twice].as_py())
                chunk = chunk.filter(pa.array(fresh))
            if chunk.num_rows:
                yield chunk
        if not any_picture:
            ignored = f"; {self.ignored:,} other files are there" if self.ignored else ""
            raise UserError(
                f"images: no picture in {self.images}{ignored}. Of a folder, files with a picture's suffix are taken "
                f"({SHOWN}); a glob such as '{self.images.rstrip('/')}/*' takes any file, tar and Parquet included."
            )

    def _doubled(self, image_id: str, file: str) -> UserError:
        """``file`` has the id of another, which is not held any more: it is listed again up to there."""
        first = next((row.file for row in self._entries() if row and row.image_id == image_id), "another")
        return UserError(
            f"images: {self.images} gives image_id {image_id!r} to several files, {first} and {file}; ids are expected "
            "to be unique. Make them so, or leave out image_id: the place of a file is its id then."
        )

    def begin(self, save: str | None = None) -> Iterator[pa.Table]:
        """``chunks``, with the first one listed already, and all of them saved in the file ``save``."""
        chunks = self.chunks() if save is None else saving(self.chunks(), save)
        return chain([next(chunks)], chunks)

    def _is_picture(self, row: Row | None) -> bool:
        self.ignored += row is None
        return row is not None

    def _entries(self) -> Iterator[Row | None]:
        """A row of each picture, None of what is none."""
        filesystem, path = locate(self.images)
        if is_glob(filesystem, path):
            return self._glob(filesystem, path)
        match type_of(filesystem, path):
            case fs.FileType.Directory:
                return self._folder(filesystem, path)
            case fs.FileType.NotFound:
                raise UserError(f"images: there is no file or folder {self.images}")
        name = path.rpartition("/")[2]
        refuse_compressed(path)
        if suffix_of(path) in (".tar", *LISTINGS):
            return self._contents(filesystem, path, name)
        if suffix_of(path) in SUFFIXES:
            return iter([Row(name, as_uri(filesystem, path, self.images))])
        raise UserError(
            f"images: {self.images} is neither a folder, nor a picture ({SHOWN}), nor a listing or shard "
            f"(.tar {' '.join(LISTINGS)})"
        )

    def _folder(self, filesystem: fs.FileSystem, root: str) -> Iterator[Row | None]:
        for file in walk(filesystem, root):
            row = self._row(filesystem, file, root)
            wanted = (suffix_of(file.path) in SUFFIXES or file.is_folder) and not is_hidden(row.image_id)
            yield row if wanted else None

    def _glob(self, filesystem: fs.FileSystem, pattern: str) -> Iterator[Row | None]:
        begun: deque[Iterable[Row | None]] = deque()
        for some in self._matching(filesystem, pattern):
            begun.append(some)
            if len(begun) > SHARDS_AHEAD:
                yield from begun.popleft()
        while begun:
            yield from begun.popleft()

    def _matching(self, filesystem: fs.FileSystem, pattern: str) -> Iterator[Iterable[Row | None]]:
        """Of each file that matches its row, or the rows of its contents, which a tar in object storage has begun to
        read."""
        root = root_of(pattern)
        if type_of(filesystem, root) != fs.FileType.Directory:
            raise UserError(f"images: {self.images} matches nothing, there is no folder {root}")
        try:
            files = matching(filesystem, pattern)
        except ValueError as error:
            raise UserError(
                f"images: {self.images}: '**' stands for folders and takes a part of the path alone; write "
                f"'photos/**/*.jpg' for the pictures in all folders below photos"
            ) from error
        hidden = "/." in pattern.removeprefix(root)  # as in a shell, * stands for no dot at first
        for file in files:
            row = self._row(filesystem, file, root)
            if is_hidden(row.image_id) and not hidden:
                continue
            refuse_compressed(file.path)
            if suffix_of(file.path) not in (".tar", ".parquet") or file.problem:
                yield [row]
                continue
            contents = self._contents(filesystem, file.path, row.image_id, row)
            far = suffix_of(file.path) == ".tar" and not isinstance(filesystem, fs.LocalFileSystem)
            yield ahead(contents, MEMBERS_AHEAD) if far else contents

    def _row(self, filesystem: fs.FileSystem, file: File, root: str) -> Row:
        below = file.path.removeprefix(root).removeprefix("/")
        return Row(below, as_uri(filesystem, file.path, self.images), file.version, file.problem)

    def _contents(
        self, filesystem: fs.FileSystem, path: str, name: str, of_glob: Row | None = None
    ) -> Generator[Row | None, None, None]:
        """Of a listing or a shard, whose own id is ``name``. A shard that cannot be read is the row ``of_glob`` with a
        problem, and an error where there is none."""
        try:
            if suffix_of(path) == ".tar":
                version = version_of(filesystem, filesystem.get_file_info(path))
                yield from self._members(tar_shards.tar_members(filesystem, path, version), filesystem, path, name)
                return
            with open_file(filesystem, path) as file:
                parquet = pq.ParquetFile(file) if suffix_of(path) == ".parquet" else None
                if parquet and (column := table_shards.bytes_column(parquet.schema_arrow)):
                    version = version_of(filesystem, filesystem.get_file_info(path))
                    yield from self._cells(parquet, column, version, as_uri(filesystem, path, self.images), name)
                    return
                of_glob = None  # a listing is mended, not passed over
                if (
                    parquet
                    and SAVED.items() <= (parquet.schema_arrow.metadata or {}).items()
                    and path == locate(self.images)[1]
                ):
                    self.total = parquet.metadata.num_rows
                else:  # those of a glob have each id once, but two of them may have the same
                    self._named = True
                file.seek(0)
                folder = path.rpartition("/")[0]
                for row in READERS[suffix_of(path)](file):
                    whole = "://" in row.file or row.file.startswith("/")
                    uri = row.file if whole else as_uri(filesystem, f"{folder}/{row.file}", self.images)
                    yield row._replace(file=uri)
        except (ValueError, OSError, pa.ArrowException) as error:
            uri = as_uri(filesystem, path, self.images)
            if of_glob and class_of(error, uri) is not ErrorClass.STORAGE:
                yield of_glob._replace(problem=f"cannot be read, its pictures from here on are lost: {error}")
                return
            raise as_user_error(f"images: {uri}: {error}", error, uri) from error

    def _members(
        self, members: Iterator[Member], filesystem: fs.FileSystem, path: str, shard: str
    ) -> Iterator[Row | None]:
        uri = as_uri(filesystem, path, self.images)
        for member in members:
            if not member.name:
                yield Row(shard, uri, member.version, member.problem)
            elif suffix_of(re.sub(r"( \(\d+\))+$", "", member.name)) in SUFFIXES and not is_hidden(member.name):
                yield Row(f"{shard}/{member.name}", f"{member.address}::{uri}", member.version, member.problem)
            else:
                yield None

    def _cells(self, parquet: pq.ParquetFile, column: str, version: str, uri: str, shard: str) -> Iterator[Row | None]:
        self._named = self._named or "image_id" in parquet.schema_arrow.names
        for cell in table_shards.table_cells(parquet, column, version, shard):
            yield Row(cell.name, f"{cell.address}::{uri}", version) if cell else None


def refuse_compressed(path: str) -> None:
    if path.lower().endswith(COMPRESSED):
        raise UserError(
            f"images: {path} is a compressed archive (as are .tgz, .tar.gz, .zip ...), of which no member can be read "
            "without all before it. Unpack it, or make a plain .tar of it; pictures are compressed already."
        )
