"""CMYK, as printers' pictures come: the colours against the naive conversion of CSS Color 5, section 10.1, which is
what browsers show: red = (1 - cyan) (1 - black), and so on."""

import io

import numpy as np
import pytest
from PIL import Image

from pipelines.features.decode import decode

INKS = {
    "white": (0, 0, 0, 0),
    "black": (0, 0, 0, 255),
    "cyan": (255, 0, 0, 0),
    "magenta": (0, 255, 0, 0),
    "yellow": (0, 0, 255, 0),
    "red": (0, 255, 255, 0),
    "brown": (40, 90, 160, 60),
    "dark green": (200, 30, 220, 120),
}
"""Cyan, magenta, yellow and black; 255 is all of it."""


def shown(inks: tuple[int, ...]) -> np.ndarray:
    *colours, black = np.array(inks) / 255
    return 255 * (1 - np.array(colours)) * (1 - black)


def cmyk(channels: tuple[int, ...]) -> bytes:
    """A JPEG with Adobe's marker, in which the bytes of the four channels are these. Pillow stores 255 less."""
    sink = io.BytesIO()
    stored = tuple(255 - channel for channel in channels)
    Image.new("CMYK", (16, 16), stored).save(sink, "JPEG", quality=100)
    return sink.getvalue()


def ycck(inks: tuple[int, ...]) -> bytes:
    """As Photoshop writes it: black inverted, and of the inverted colours' complement, which is the inks themselves,
    Y, Cb and Cr of ITU-T T.871 (JFIF), equations 5 to 7. Transform 2 of Adobe's marker says so."""
    c, m, y, black = inks
    luma = 0.299 * c + 0.587 * m + 0.114 * y
    blue, red = (y - luma) / 1.772 + 128, (c - luma) / 1.402 + 128
    channels = (*(min(max(round(value), 0), 255) for value in (luma, blue, red)), 255 - black)
    data = bytearray(cmyk(channels))
    data[data.index(b"Adobe") + 11] = 2
    return bytes(data)


def assert_colour(data: bytes, inks: tuple[int, ...]) -> None:
    pixels = np.asarray(decode(data).image).astype(float)
    assert np.abs(pixels - shown(inks)).max() <= 4, (pixels[0, 0], shown(inks))


@pytest.mark.parametrize("name", INKS)
def test_cmyk_of_adobe_is_inverted(name):
    inks = INKS[name]
    assert_colour(cmyk(tuple(255 - ink for ink in inks)), inks)


@pytest.mark.parametrize("name", INKS)
def test_cmyk_without_adobes_marker_is_read_as_with_it(name):
    """As browsers do: hardly a program writes the inks as they are."""
    data = cmyk(tuple(255 - ink for ink in INKS[name]))
    at = data.index(b"\xff\xee")
    plain = data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4]) :]
    assert b"Adobe" not in plain
    assert_colour(plain, INKS[name])


@pytest.mark.parametrize("name", INKS)
def test_ycck(name):
    assert_colour(ycck(INKS[name]), INKS[name])


@pytest.mark.parametrize("name", INKS)
def test_cmyk_of_a_tiff_is_not_inverted(name):
    sink = io.BytesIO()
    Image.new("CMYK", (16, 16), INKS[name]).save(sink, "TIFF")
    assert_colour(sink.getvalue(), INKS[name])
