"""PNGs that every viewer shows, and Pillow refuses for chunks that decide no pixel."""

import zlib

import numpy as np
import pytest
from PIL import Image

from pipelines.features import png_chunks
from pipelines.features.decode import DecodeError
from tests.worlds.pictures import chunk, encoded, pixels, png

ROW = b"\0" + bytes([1] * 3 + [2] * 3 + [3] * 3)
SHOWN = np.array([[[1] * 3, [2] * 3, [3] * 3]])
HUGE = zlib.compress(b"x" * (3 << 20))
"""More than Pillow unpacks of a text or a profile."""

CHUNKS = {
    "XMP in compressed iTXt": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + HUGE),
    "zTXt": chunk(b"zTXt", b"workflow\0\0" + HUGE),
    "iCCP": chunk(b"iCCP", b"CMYK\0\0" + HUGE),
    "text of 80 MB in all": chunk(b"zTXt", b"a\0\0" + zlib.compress(b"x" * 1_000_000)) * 80,
    "zTXt compressed in an unknown way": chunk(b"zTXt", b"a\0\5xx"),
    "iCCP that is cut off": chunk(b"iCCP", b"x"),
    "tEXt with a wrong checksum": chunk(b"tEXt", b"a\0b")[:-1] + b"?",
    **{
        f"{kind} that is too short": chunk(kind, b"") for kind in (b"gAMA", b"cHRM", b"pHYs", b"sRGB", b"acTL", b"fcTL")
    },
}


@pytest.mark.parametrize("kind", CHUNKS)
@pytest.mark.parametrize("place", ["before", "after"])
def test_what_decides_no_pixel_loses_none(kind, place):
    assert np.array_equal(pixels(png(3, 1, 8, 2, ROW, **{place: CHUNKS[kind]})), SHOWN)


def test_a_picture_that_lacks_pixels_is_not_mended():
    noise = np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8)
    data = encoded(noise)
    data = data[:33] + CHUNKS["zTXt"] + data[33:]
    assert np.array_equal(pixels(data), noise)
    for broken in (data[:-4000], data[:-300] + bytes(50) + data[-250:]):
        with pytest.raises(DecodeError, match=r"broken|truncated"):
            pixels(broken)


@pytest.mark.parametrize("intact", [True, False])
def test_the_orientation_stays_if_it_can_be_read(intact):
    exif = Image.Exif()
    exif[0x0112] = 3
    data = encoded(np.array(SHOWN, np.uint8), exif=exif)
    if not intact:
        at = data.index(b"eXIf")
        data = data[: at + 4] + b"?" + data[at + 5 :]
    data = data[:33] + CHUNKS["zTXt"] + data[33:]
    assert np.array_equal(pixels(data), SHOWN[:, ::-1] if intact else SHOWN)


def test_transparency_stays():
    data = png(3, 1, 8, 2, ROW, before=chunk(b"tRNS", bytes([0, 2] * 3)) + CHUNKS["iCCP"])
    assert np.array_equal(pixels(data), [[[1] * 3, [255] * 3, [3] * 3]])


def test_what_needs_no_mending():
    bare = png(3, 1, 8, 2, ROW)
    assert png_chunks.essential(bare) is None
    assert png_chunks.essential(b"GIF89a") is None
    assert png_chunks.essential(png(3, 1, 8, 2, ROW, before=chunk(b"tEXt", b"a\0b"))) == bare
