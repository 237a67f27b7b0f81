"""Files to pixels: every picture a viewer shows, as RGB of 8 bits and upright, or a clear reason why not.

docs/pictures.md lists what is read, with what, and what is refused. Of an animation or a file of several pages the
first picture counts. ``pixels`` says how colors are read. A large JPEG of which a network needs little is decoded at a
half, a quarter or an eighth of its size: see ``DRAFT_MARGIN``. A file that Pillow refuses for parts that decide no
pixel is read without them (``png_chunks``, ``jpeg_scans``); one that lacks pixels is refused.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from PIL import IcoImagePlugin, Image
from PIL.ImageFile import ImageFile

from pipelines.features import jpeg_scans, png_chunks
from pipelines.features.file_signs import ICON, heic_opener, looks_like
from pipelines.features.pixels import DecodeError, only_within, to_rgb, unscaled_transparency, without_false_alpha
from pipelines.threads import Budget

VERSION = 1
"""Of the code that turns a file into pixels: part of every fingerprint, raised when a change alters the pixels of
pictures as people have them. A mend of rare files that were shown wrongly (a transparent shade of 16-bit grey) is no
such change: it would make every store and every captioner out of date."""

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000", "TGA")
"""What is tried on a file; of a JPEG of several pictures (MPO) the first. Pillow knows more, but some of it runs other
programs (EPS) or is no picture (HDF5). TGA is the last, because it has no sign at its beginning."""

MAX_PIXELS = 100_000_000
"""Larger pictures are refused before memory is taken for them. A pixel takes 4 bytes as RGB, and while it is decoded 4
to 8 in all; of a progressive JPEG up to 12, of WebP 17, of JPEG 2000 20."""

BUDGET = Budget(MAX_PIXELS)
"""Pixels that the threads of a process decode at the same time: one picture of the largest, or eight of 12 megapixels.
So decoding takes 0.8 GB at most, with JPEG 2000 2 GB, and besides that the files' own bytes."""

MAX_SCANS = 100
"""A JPEG that comes in more passes over its pixels is refused. Usual are 10; a file of 1 MB may hold 70,000, each of
which takes as long as the whole of an honest one."""

DRAFT_MARGIN = 2
"""A JPEG may be decoded at a fraction of its size, as long as this many pixels remain for each one needed. That changes
features a little and for good: it depends on nothing but the file and the network, so a picture always has the same."""

BYTES = re.compile(r"""b'[^']*'|b"[^"]*\"""")
"""What Pillow's messages cite of a file; ours cite nothing."""

ORIENTATION = 0x0112
TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIZ = b"\xff\x4f\xff\x51"
"""The beginning of a JPEG 2000 codestream."""


class Picture(NamedTuple):
    """``image`` is RGB and upright. ``width`` and ``height`` are the file's, which ``image`` may fall short of."""

    image: Image.Image
    width: int
    height: int


class Header(NamedTuple):
    """A picture whose pixels are not read yet.

    Attributes:
        data: the file, or the picture within it.
        width, height: of the file's picture.
        pixels: that decoding will hold.
    """

    image: ImageFile
    data: bytes
    width: int
    height: int
    pixels: int


def decode(data: bytes, needed: int | None = None) -> Picture:
    """The picture in ``data``; with ``needed``, its shorter side may shrink to ``DRAFT_MARGIN`` times that number.

    Raises:
        DecodeError: there is none.
    """
    with _within_budget(data, needed) as picture:
        return picture


@contextmanager
def opened(data: bytes, needed: int | None = None) -> Iterator[Picture]:
    """``decode``, for many threads: what they have open together stays within ``BUDGET``. Closed after the block."""
    with _within_budget(data, needed) as picture:
        try:
            yield picture
        finally:
            picture.image.close()


@contextmanager
def _within_budget(data: bytes, needed: int | None) -> Iterator[Picture]:
    header = _attempt(_read_header, data, needed)
    if isinstance(header, DecodeError) and (bare := png_chunks.essential(data)):
        header = _attempt(_read_header, bare, needed)
    if isinstance(header, DecodeError):
        raise header
    with BUDGET.take(header.pixels):
        picture = _attempt(_load, header)
        if isinstance(picture, DecodeError):
            picture = _attempt(_load_mended, header, needed, picture)
        if isinstance(picture, DecodeError):
            raise picture
        yield picture


def _attempt(step: Callable[..., Any], *arguments: Any) -> Any:
    """What ``step`` gives, or the ``DecodeError`` that it ends with: without a traceback, which would keep what was
    decoded so far alive."""
    try:
        return step(*arguments)
    except DecodeError as error:
        reason = str(error)
    except Image.UnidentifiedImageError:
        reason = f"not a picture: {looks_like(arguments[0])}"
    except Image.DecompressionBombError:
        reason = f"more than {MAX_PIXELS:,} pixels"
    except Exception as error:  # Pillow raises whatever its parsers meet: struct.error, SyntaxError, EOFError, ...
        reason = f"broken picture: {BYTES.sub('...', str(error)) or type(error).__name__}"
    return DecodeError(reason)


def _read_header(data: bytes, needed: int | None) -> Header:
    if not data:
        raise DecodeError("the file is empty")
    if data.startswith(ICON):
        return _read_icon(data, needed)
    image = Image.open(io.BytesIO(data), formats=(*FORMATS, *heic_opener(data)))
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise DecodeError(f"{width}x{height} pixels, more than {MAX_PIXELS:,}")
    if image.format == "JPEG2000":
        _refuse_wrapping(image, data)
    if image.format not in ("JPEG", "MPO"):
        return Header(image, data, width, height, width * height)
    scans = jpeg_scans.count_scans(data, len(image.getbands()), "progressive" in image.info)
    if scans > MAX_SCANS:
        raise DecodeError(f"a JPEG of {scans:,} scans, more than {MAX_SCANS}")
    if needed:
        scale = max(min(width, height) / (DRAFT_MARGIN * needed), 1)
        image.draft(None, (int(width / scale), int(height / scale)))
    # Several scans are put together at full size.
    return Header(image, data, width, height, image.width * image.height if scans == 1 else width * height)


def _read_icon(data: bytes, needed: int | None) -> Header:
    """The largest picture of an icon. Pillow loads one as it opens it, whatever its size."""
    largest = IcoImagePlugin.IcoFile(io.BytesIO(data)).entry[0]
    picture = data[largest.offset : largest.offset + largest.size]
    if picture.startswith(png_chunks.SIGNATURE):
        return _read_header(png_chunks.essential(picture) or picture, needed)
    width, height = largest.dim
    if (width, 2 * height) != (int.from_bytes(picture[4:8], "little"), int.from_bytes(picture[8:12], "little")):
        raise DecodeError("an icon whose picture has another size than its list says")
    return Header(Image.open(io.BytesIO(data), formats=("ICO",)), data, width, height, width * height)


def _refuse_wrapping(image: Image.Image, data: bytes) -> None:
    """Pillow rounds channels of more than 8 bits, and what rounds up beyond 255 becomes 0: white would be black."""
    at = data.find(SIZ) + 42  # ISO/IEC 15444-1, table A.9: three bytes of each channel, after their number
    channels = int.from_bytes(data[at - 2 : at])
    bits = max(((depth & 127) + 1 for depth in data[at : at + 3 * channels : 3]), default=8)
    if bits > 8 and not image.mode.startswith("I"):
        raise DecodeError(f"a JPEG 2000 in color of {bits} bits a channel; expected 8. Convert it, to PNG for example")


def _load_mended(header: Header, needed: int | None, error: DecodeError) -> Picture:
    """The picture, if its file lacks nothing but what decides no pixel; else raises ``error``."""
    if bare := png_chunks.essential(header.data):
        return _load(_read_header(bare, needed))
    if header.image.format in ("JPEG", "MPO") and "truncated" in str(error):
        whole = jpeg_scans.completed(header.data, header.image.size)
        if whole:
            return _load(_read_header(whole, needed))
    raise error


def _load(header: Header) -> Picture:
    image, data, width, height, _ = header
    extent = image.tile[0][1] if image.format == "GIF" and image.tile else None
    image.load()
    turn = TRANSPOSE.get(_orientation(image))
    if image.format == "PNG":
        unscaled_transparency(image, data[24])
    shown: Image.Image = to_rgb(without_false_alpha(image, data[17]) if image.format == "TGA" else image)
    if extent:
        shown = only_within(shown, extent)
    if shown is not image:
        image.close()
    if turn is not None:
        shown = shown.transpose(turn)
        if turn in (TRANSPOSE[5], TRANSPOSE[6], TRANSPOSE[7], TRANSPOSE[8]):
            width, height = height, width
    return Picture(shown, width, height)


def _orientation(image: Image.Image) -> int:
    # Read after load(): Pillow turns a TIFF by itself and then drops the tag.
    try:
        return image.getexif().get(ORIENTATION, 1)
    except Exception:  # broken EXIF data is no reason to lose the picture
        return 1
