"""Text that others wrote: the first bytes show the encoding, lines and whole files have a bound.

UTF-8 with or without a byte-order mark, and UTF-16 and UTF-32 as Windows writes them. Other encodings cannot be
distinguished from one another, so they are refused.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator

import pyarrow as pa
from pyarrow import fs

from feature_store.retry import retried
from pipelines.errors import UserError
from pipelines.files.filesystems import locate, name_of
from pipelines.files.storage import as_user_error, open_stream

MAX_LINE = 16 << 20
"""Characters of a line. A compressed file of some kilobytes can hold a line that fills the memory."""
MAX_EXPANSION, ALWAYS_ALLOWED = 100, 256 << 20
"""A compressed file that is read whole may be so many times its size once unpacked, or so many bytes. Text becomes four
to ten times smaller, JSON with many repetitions thirty."""
BLOCK = 1 << 20
PACKED = (".gz", ".bz2", ".zst", ".lz4")

MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
NULS: dict[tuple[int, ...], str] = {
    (1, 0, 1, 0): "utf-16-le",
    (0, 1, 0, 1): "utf-16-be",
    (1, 0, 0, 0): "utf-32-le",
    (0, 0, 0, 1): "utf-32-be",
}
"""Which of the first four bytes are not NUL, in text that begins with two ASCII characters and has no mark."""


class TextError(ValueError):
    """The bytes are no text that can be read; the message says which line is wrong and what to do."""


def encoding_of(start: bytes) -> str:
    """Python's name for the encoding of a text whose first four bytes are ``start``."""
    for mark, encoding in MARKS:
        if start.startswith(mark):
            return encoding
    return NULS.get(tuple(int(byte != 0) for byte in start[:4]), "utf-8")


def decode(content: bytes) -> str:
    """A whole text.

    Raises:
        TextError: its encoding cannot be recognised.
    """
    encoding = encoding_of(content[:4])
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise undecodable(error, encoding, 1) from None


def lines_in(stream: io.RawIOBase, newline: str = "\n") -> Iterator[str]:
    """Lines of an open file with their ends, which are ``newline``; "" for any of those that systems have.

    Raises:
        TextError: the encoding of the text cannot be recognised, or a line has more than ``MAX_LINE`` characters.
    """
    buffered = io.BufferedReader(stream)
    encoding = encoding_of(buffered.peek(4)[:4])
    text = io.TextIOWrapper(buffered, encoding, newline=newline)
    number = 1
    try:
        while line := text.readline(MAX_LINE + 1):
            if len(line) > MAX_LINE:
                raise TextError(
                    f"line {number:,} has more than {MAX_LINE:,} characters, which is no line of text. Is it another "
                    "kind of file?"
                )
            yield line
            number += 1
    except UnicodeDecodeError as error:  # of a block, before which all lines have been given
        raise undecodable(error, encoding, number) from None


def undecodable(error: UnicodeDecodeError, encoding: str, first: int) -> TextError:
    """What to tell where the text from line ``first`` on is not in ``encoding``."""
    line = first + error.object[: error.start].decode(encoding, "ignore").count("\n")
    return TextError(
        f"line {line:,} is not text in {encoding.removesuffix('-sig').upper()} ({error.reason}, 0x"
        f"{error.object[error.start]:02x}). Convert the file to UTF-8; if it is in Latin-1: iconv -f latin1 -t utf-8"
    )


def read_text(path: str) -> str:
    """The text of a file, a local path or a uri; .gz, .bz2, .zst and .lz4 are unpacked on the way.

    Raises:
        UserError: the file cannot be read, is no text, or unpacks to more than a text ever has.
    """
    filesystem, inside = locate(path)
    try:
        return decode(read_bounded(filesystem, inside))
    except TextError as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    except OSError as error:
        raise as_user_error(f"{path} cannot be read: {error}", error, path) from None


def packing_of(path: str) -> str | None:
    """How a file of that name is packed, as pyarrow calls it; None for not at all."""
    name = name_of(path).lower()
    return pa.Codec.detect(name).name if name.endswith(PACKED) else None


def unpacked(path: str) -> str:
    """The name of a file without the suffix of packing, in lower case."""
    name = name_of(path).lower()
    for packing in PACKED:
        name = name.removesuffix(packing)
    return name


def read_bounded(filesystem: fs.FileSystem, path: str) -> bytes:
    """The content of a file, unpacked.

    Raises:
        TextError: it is more than ``MAX_EXPANSION`` times as much as the file, and more than ``ALWAYS_ALLOWED`` bytes.
    """
    bound = max(ALWAYS_ALLOWED, MAX_EXPANSION * (retried(lambda: filesystem.get_file_info(path)).size or 0))
    blocks, size = [], 0
    with open_stream(filesystem, path, packing_of(path)) as stream:
        while block := stream.read(BLOCK):
            blocks.append(block)
            size += len(block)
            if size > bound:
                raise TextError(f"it unpacks to more than {bound:,} bytes, which no text does")
    return b"".join(blocks)
