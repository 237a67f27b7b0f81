"""Files to pixels: every picture a browser shows, as RGB of 8 bits, or a clear reason why not.

Colour profiles are not applied: the networks were trained on pictures read in this way. Transparency is laid over
white. Of an animation the first frame counts. 16 bits a channel become 8 by dividing by 257. A large JPEG of which a
network needs little is decoded at a half, a quarter or an eighth of its size: see ``DRAFT_MARGIN``.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image

from pipelines.threads import Budget

VERSION = 1
"""Of the code that turns a file into pixels: part of every fingerprint, raised when a change alters the pixels."""

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")
"""What is tried on a file; of a JPEG of several pictures (MPO) the first. Pillow knows more, but some of it runs other
programs (EPS) or is no picture (HDF5)."""

MAX_PIXELS = 100_000_000
"""Larger pictures are refused before memory is taken for them. A pixel takes 4 bytes as RGB, and while it is decoded 4
to 8 in all; of a progressive JPEG up to 12, of WebP 17, of JPEG 2000 20."""

BUDGET = Budget(MAX_PIXELS)
"""Pixels that the threads of a process decode at the same time: one picture of the largest, or eight of 12 megapixels.
So decoding takes 0.8 GB at most, with JPEG 2000 2 GB, and besides that the files' own bytes."""

MAX_SCANS = 100
"""A JPEG that comes in more passes over its pixels is refused. Usual are 10; a file of 1 MB may hold 70,000, each of
which takes as long as the whole of an honest one."""

STRIPE_PIXELS = 1 << 20
"""What is converted at once by several steps, each of which takes memory of its own."""

DRAFT_MARGIN = 2
"""A JPEG may be decoded at a fraction of its size, as long as this many pixels remain for each one needed. That changes
features a little and for good: it depends on nothing but the file and the network, so a picture always has the same."""

MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
"""Of a JPEG: what begins a segment, or ends the picture."""

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


class DecodeError(Exception):
    """The bytes are no picture that can be shown; the message says why."""


class Picture(NamedTuple):
    """``image`` is RGB and upright. ``width`` and ``height`` are the file's, which ``image`` may fall short of."""

    image: Image.Image
    width: int
    height: int


class Found(NamedTuple):
    """A picture whose pixels are not read yet: ``width`` and ``height`` of the file's, and the ``pixels`` that decoding
    will hold."""

    image: Image.Image
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
    found = _attempt(_open, data, data, needed)
    with BUDGET.take(found.pixels):
        yield _attempt(_load, data, found)


def _attempt(step: Callable, data: bytes, *arguments) -> Any:
    try:
        return step(*arguments)
    except DecodeError as error:
        reason = str(error)
    except Image.UnidentifiedImageError:
        reason = f"not a picture: {_looks_like(data)}"
    except Image.DecompressionBombError:
        reason = f"more than {MAX_PIXELS:,} pixels"
    except Exception as error:  # Pillow raises whatever its parsers meet: struct.error, SyntaxError, EOFError, ...
        reason = f"broken picture: {BYTES.sub('...', str(error)) or type(error).__name__}"
    # Outside of the handler, whose exception keeps what was decoded so far alive.
    raise DecodeError(reason)


def _open(data: bytes, needed: int | None) -> Found:
    if not data:
        raise DecodeError("the file is empty")
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise DecodeError(f"{width}x{height} pixels, more than {MAX_PIXELS:,}")
    if image.format not in ("JPEG", "MPO"):
        return Found(image, width, height, width * height)
    scans = _scans(data, image.layers, "progressive" in image.info)
    if scans > MAX_SCANS:
        raise DecodeError(f"a JPEG of {scans:,} scans, more than {MAX_SCANS}")
    if needed:
        scale = max(min(width, height) / (DRAFT_MARGIN * needed), 1)
        image.draft(None, (int(width / scale), int(height / scale)))
    # Several scans are put together at full size.
    return Found(image, width, height, image.width * image.height if scans == 1 else width * height)


def _scans(data: bytes, channels: int, progressive: bool) -> int:
    """Passes over a JPEG that decoding takes: one if the first holds it all, else as many as there are."""
    at, scans = 2, 0
    while (marker := MARKER.search(data, at)) and marker[0] != b"\xff\xd9":
        at = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2])
        if marker[0] == b"\xff\xda":
            scans += 1
            if not progressive and data[marker.end() + 2 : marker.end() + 3] == bytes([channels]):
                return 1
    return scans


def _load(found: Found) -> Picture:
    image, width, height, _ = found
    image.load()
    turn = TRANSPOSE.get(_orientation(image))
    shown = _to_rgb(image)
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


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        image = _by_stripes(image, "L", _from_16_bits)
    elif image.mode == "F":
        raise DecodeError("32-bit floating-point pixels, whose white is not defined")
    if "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        return _by_stripes(image, "RGB", _over_white)
    return image if image.mode == "RGB" else image.convert("RGB")


def _by_stripes(image: Image.Image, mode: str, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """``convert`` to ``mode``, some rows at a time."""
    width, height = image.size
    whole, rows = Image.new(mode, image.size), max(STRIPE_PIXELS // max(width, 1), 1)
    for top in range(0, height, rows):
        whole.paste(convert(image.crop((0, top, width, min(top + rows, height)))), (0, top))
    return whole


def _over_white(image: Image.Image) -> Image.Image:
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image).convert("RGB")


def _from_16_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise DecodeError("32-bit integer pixels, whose white is not defined")
    return Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))  # a half never occurs


def _looks_like(data: bytes) -> str:
    start = data[:512].lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml", b"<svg")):
        return "an SVG drawing" if b"<svg" in start else "HTML or XML text"
    if start.startswith((b"%pdf", b"%!ps")):
        return "a PDF or PostScript document"
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer; run `git lfs pull`"
    return f"{len(data):,} bytes of no format that is read"  # which bytes is nothing to tell whoever may have asked


@dataclass(frozen=True)
class Preprocess:
    """From a picture to a network's input, as the backbone's own configuration says.

    Attributes:
        crop: (height, width) that the network takes, cut from the centre.
        resize: what the shorter side is resized to before (``fit`` "shorter"), or both sides are ("squash").
        interpolation: "bilinear", "bicubic" or "lanczos", always with antialiasing.
        mean, std: of RGB in [0, 1]; applied by the network, on its device.
    """

    crop: tuple[int, int]
    resize: tuple[int, int]
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    fit: Literal["shorter", "squash"] = "shorter"

    @property
    def needed(self) -> int:
        """Pixels of the shorter side below which a picture would be enlarged."""
        return max(self.resize)

    def __call__(self, image: Image.Image) -> np.ndarray:
        """Resize and crop RGB ``image`` to (height, width, 3) uint8.

        Only the part that the crop keeps is resized, with the result of resizing all of it: a strip of
        1 x 1,000,000 pixels would otherwise become one of 256 x 256,000,000.
        """
        width, height = image.size
        resized_width, resized_height = self.resized(width, height)
        crop_height, crop_width = self.crop
        left = max(round((resized_width - crop_width) / 2), 0) * width / resized_width
        top = max(round((resized_height - crop_height) / 2), 0) * height / resized_height
        box = (
            left,
            top,
            min(left + crop_width * width / resized_width, width),
            min(top + crop_height * height / resized_height, height),
        )
        method = Image.Resampling[self.interpolation.upper()]
        return np.asarray(image.resize((crop_width, crop_height), method, box=box))

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) of the whole picture after resizing."""
        if self.fit == "squash":
            return self.resize[1], self.resize[0]
        # Like torchvision: the shorter side exactly, the longer one truncated.
        if width <= height:
            return self.resize[1], int(self.resize[1] * height / width)
        return int(self.resize[0] * width / height), self.resize[0]
