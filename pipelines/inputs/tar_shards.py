"""Tar shards: their members, listed header by header, and the bytes of one."""

from __future__ import annotations

import io
import posixpath
import re
import tarfile
import time
from collections import Counter
from collections.abc import Iterator
from typing import Self

from pyarrow import fs

from feature_store.errors import ErrorClass
from pipelines.files.storage import class_of, open_file
from pipelines.inputs.members import CHANGED, Member, refuse_changed

BLOCK = 8 << 20
"""Bytes fetched at once from object storage while the headers of a tar are read. A request takes as long as 2 MB do, so
members up to some MB are read through rather than skipped, and in blocks that make the requests cheap."""

LOOK_AGAIN = 60
"""Seconds after which it is asked again whether an object has changed: members of one archive share the request."""

NAME_TYPES = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)

NAME_BYTES = 1 << 20
"""More of a long name or of a pax header is no name."""

NO_FILE = {
    tarfile.LNKTYPE: "a hard link to {}, of which no file comes before it in the archive",
    tarfile.SYMTYPE: "a symbolic link to {}, of which no file comes before it in the archive",
}


def tar_members(filesystem: fs.FileSystem, path: str, version: str) -> Iterator[Member]:
    """Files of a tar in its order, read header by header. Names are only names, whatever they hold.

    A link is the member that it leads to. A name that is there again gets a number: ``name (2)``. Where the file is cut
    off or broken the last member has the name "" and a problem; those before it are good.

    Args:
        version: of the shard; a member's own is its size and time, and this where the archive keeps no times.
    """
    files: dict[str, Member] = {}  # by the name that links use
    names: set[str] = set()
    times: Counter[str] = Counter()
    try:
        with open_file(filesystem, path) as file:
            size = file.size()
            local = isinstance(filesystem, fs.LocalFileSystem)
            buffered = io.BufferedReader(file, 4096 if local else BLOCK)
            for info in _headers(buffered):
                if info.isdir():
                    continue
                if info.isreg() and info.offset_data + info.size > size and not info.issparse():
                    raise tarfile.ReadError(f"the file has {size:,} bytes and ends inside of {info.name!r}")
                name, times[info.name] = info.name, max(times[info.name], 1)
                while name in names:
                    times[info.name] += 1
                    name = f"{info.name} ({times[info.name]})"
                names.add(name)
                member = _member(info, files, version)._replace(name=name)
                if not member.problem:
                    files[posixpath.normpath(info.name)] = member
                yield member
    except (tarfile.TarError, ValueError, OverflowError, RecursionError, OSError) as error:
        if isinstance(error, OSError) and class_of(error, path) is ErrorClass.STORAGE:
            raise
        yield Member("", "", version, f"not a whole tar archive, its members from here on are lost: {error}")


def _member(info: tarfile.TarInfo, files: dict[str, Member], version: str) -> Member:
    """The member of a header, after ``files``. Links that lead nowhere, devices and the like have a problem."""
    known = f"{info.size}-{int(info.mtime)}" if info.mtime else f"{info.size}@{version}"
    if info.isreg():
        problem = "a sparse file, whose bytes do not lie together" if info.issparse() else None
        return Member(info.name, f"bytes://{info.offset_data}+{info.size}", known, problem)
    # A hard link's target is a name in the archive; that of a symbolic link starts from the link's own folder.
    folder = posixpath.dirname(info.name) if info.issym() else ""
    target = files.get(posixpath.normpath(posixpath.join(folder, info.linkname)))
    if target and (info.islnk() or info.issym()):
        return target
    problem = NO_FILE.get(info.type, "a device or a pipe").format(info.linkname)
    return Member(info.name, "bytes://0+0", known, problem)


class TarHeader(tarfile.TarInfo):
    """A header that is refused where ``tarfile`` would read its size at once, or go backwards by it, for ever."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        header = super().frombuf(buf, encoding, errors)
        if header.size < 0 or (header.type in NAME_TYPES and header.size > NAME_BYTES):
            raise tarfile.ReadError(f"a header that says {header.size:,} bytes")
        return header


def _headers(file: io.BufferedReader) -> Iterator[tarfile.TarInfo]:
    """Every header up to the mark of the end. ``tarfile`` itself takes a broken header for the end."""
    if not file.peek(1):
        raise tarfile.ReadError("the file is empty")
    with tarfile.TarFile(fileobj=file, encoding="utf-8", errors="backslashreplace") as tar:
        tar.offset = 0
        while True:
            file.seek(tar.offset)
            try:
                info = TarHeader.fromtarfile(tar)
            except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # not in typeshed
                return
            except tarfile.EmptyHeaderError:  # type: ignore[attr-defined]  # not in typeshed
                raise tarfile.ReadError("it ends without the mark of its end") from None
            if info.size < 0:  # says a header before it
                raise tarfile.ReadError(f"a header that says {info.size:,} bytes")
            yield info


def read_stretch(filesystem: fs.FileSystem, path: str, address: str, version: str | None) -> bytes:
    """The bytes at an address ``bytes://`` in the file ``path``. They are read with the header before them, so that it
    takes no request more to see whether they are the member of ``version`` that was listed.

    Raises:
        OSError: the file cannot be read, is shorter, or is not the one that was listed.
    """
    offset, size = map(int, address.removeprefix("bytes://").split("+"))
    known = re.fullmatch(rf"{size}(?:-(\d+)|@(.+))", version or "") if offset >= tarfile.BLOCKSIZE else None
    start = offset - tarfile.BLOCKSIZE if known else offset
    with filesystem.open_input_file(path) as file:
        data = file.read_at(offset + size - start, start)
    missing = offset + size - start - len(data)
    if missing:
        raise OSError(f"the file ends {missing:,} bytes before the end of this member")
    if known is None:
        return data
    _refuse_other_member(data[: tarfile.BLOCKSIZE], size, int(known[1] or 0))
    if shard := known[2]:
        local, now = isinstance(filesystem, fs.LocalFileSystem), time.monotonic()
        if local or now - LOOKED.get((path, shard), -LOOK_AGAIN) >= LOOK_AGAIN:
            refuse_changed(filesystem, path, shard)
            LOOKED[path, shard] = now
    return data[tarfile.BLOCKSIZE :]


LOOKED: dict[tuple[str, str], float] = {}
"""When a file was last seen to be of the version that was listed."""


def _refuse_other_member(header: bytes, size: int, mtime: int) -> None:
    try:
        info = tarfile.TarInfo.frombuf(header, "utf-8", "backslashreplace")
    except tarfile.HeaderError:
        raise OSError(CHANGED) from None
    # A later time is in a header before this one; and the fraction of a second that is there may have been rounded up.
    if info.size != size or (mtime < 8**11 and not 0 <= mtime - info.mtime <= 1):
        raise OSError(CHANGED)
