"""The chunks of a PNG that decide its pixels, for files that fail because of the others.

A decoder can ignore text, profiles, times and the frames of an animation (PNG specification, "ancillary chunks"). So
browsers show a picture in which one of them is broken, or unpacks to more than anybody would hold; Pillow refuses it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"
OF_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
ORIENTATION = b"eXIf"


def essential(data: bytes) -> bytes | None:
    """The PNG ``data`` without its ancillary chunks; None if it is no PNG, or has none of them.

    Transparency stays, and so does an intact ``eXIf``, which says how the picture is turned. Nothing that decides a
    pixel is mended: a wrong checksum there still makes the picture a broken one.
    """
    if not data.startswith(SIGNATURE):
        return None
    kept = [SIGNATURE, *(chunk for chunk in chunks(data) if is_essential(chunk))]
    return None if sum(map(len, kept)) == len(data) else b"".join(kept)


def chunks(data: bytes) -> Iterator[bytes]:
    """Every chunk with its length, type and checksum, up to the end mark; the last one may be cut off."""
    at = len(SIGNATURE)
    while at < len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4])
        yield data[at:end]
        if data[at + 4 : at + 8] == b"IEND":
            return
        at = end


def is_essential(chunk: bytes) -> bool:
    kind = chunk[4:8]
    if kind == ORIENTATION:
        return zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:])
    return kind in OF_PIXELS
