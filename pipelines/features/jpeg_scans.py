"""The scans of a JPEG: how many there are, and whether all its pixels are there although its end marker is not.

Cameras and interrupted downloads leave files without the last two bytes (the marker EOI). libjpeg waits for them, so
Pillow takes such a file for a truncated one, while browsers show it. ``completed`` tells it from a file that lacks
pixels: if none is lacking, nothing that follows the file's end can change the picture.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator
from typing import NamedTuple

from PIL import Image

MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
"""What begins a segment, or ends the picture."""
RESTART = re.compile(rb"\xff([\xd0-\xd7])")
END = b"\xff\xd9"

NOISE = bytes(range(254, 0, -1))
"""Codes that no picture ends with. They begin with ones, where libjpeg makes up zeros; none is a marker's 255."""
COEFFICIENTS = 64
STRIPE_ROWS = 64


class Scan(NamedTuple):
    """One pass over the pixels (ITU-T T.81, B.2.3).

    Attributes:
        components: identifiers of the channels that it holds.
        first, last: the coefficients of a block, in zigzag order, that it holds.
        missing_bits: how many low bits of these are left to later scans.
        start: where its entropy-coded data begins.
    """

    components: bytes
    first: int
    last: int
    missing_bits: int
    start: int


def scans(data: bytes) -> Iterator[Scan]:
    """The scans of the JPEG ``data``, up to its end marker or where it is cut off."""
    at = 2
    while (marker := MARKER.search(data, at)) and marker[0] != END:
        body = marker.end()
        at = body + int.from_bytes(data[body : body + 2])
        if marker[0] == b"\xff\xda" and at <= len(data) and at - body >= 6:
            first, last, approximation = data[at - 3 : at]
            yield Scan(data[body + 3 : at - 3 : 2], first, last, approximation & 15, at)


def count_scans(data: bytes, channels: int, progressive: bool) -> int:
    """Scans that decoding takes: one if the first holds all channels, else as many as there are."""
    count = 0
    for scan in scans(data):
        count += 1
        if not progressive and len(scan.components) == channels:
            return 1
    return count


def completed(data: bytes, size: tuple[int, int]) -> bytes | None:
    """The JPEG ``data`` with the end marker that it lacks; None if pixels are lacking, too.

    It is decoded twice, at most ``size`` (width, height) large where it may be decoded smaller: as it ends, where
    libjpeg makes up for what is missing, and with noise behind its end. Both agree only if nothing is missing.

    Raises:
        Exception: whatever Pillow meets in a broken file.
    """
    data = data.rstrip(b"\xff")  # half of the marker
    passes = list(scans(data))
    if not passes or lacks_a_scan(data, passes):
        return None
    noisy = data + noise(data, passes[-1].start) + END
    return data + END if digest(data + END, size) == digest(noisy, size) else None


def lacks_a_scan(data: bytes, passes: list[Scan]) -> bool:
    """Whether some coefficient of some channel has bits left to a scan that is not there."""
    left: dict[int, list[int]] = {channel: [1] * COEFFICIENTS for channel in channels_of(data)}
    for scan in passes:
        for channel in scan.components:
            if channel in left:
                held = scan.last + 1 - scan.first
                left[channel][scan.first : scan.last + 1] = [scan.missing_bits] * held
    return not left or any(any(bits) for bits in left.values())


def channels_of(data: bytes) -> bytes:
    """Identifiers of the channels, from the frame header (SOF)."""
    at = 2
    while marker := MARKER.search(data, at):
        body = marker.end()
        at = body + int.from_bytes(data[body : body + 2])
        if 0xC0 <= marker[0][1] <= 0xCF and marker[0][1] not in (0xC4, 0xC8, 0xCC):
            return data[body + 8 : at : 3]
    return b""


def noise(data: bytes, start: int) -> bytes:
    """What may follow ``data`` in its last scan, which begins at ``start``: codes, then those of a next interval."""
    restarts = RESTART.findall(data, start)
    number = (restarts[-1][0] + 1) % 8 if restarts else 0
    return NOISE + bytes([0xFF, 0xD0 + number]) + NOISE


def digest(data: bytes, size: tuple[int, int]) -> bytes:
    """A hash of the pixels."""
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
        image.draft(None, size)
        image.load()
        found = hashlib.sha256()
        for top in range(0, image.height, STRIPE_ROWS):
            found.update(image.crop((0, top, image.width, min(top + STRIPE_ROWS, image.height))).tobytes())
        return found.digest()
