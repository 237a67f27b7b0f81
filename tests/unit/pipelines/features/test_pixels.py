"""What a viewer shows of every mode that Pillow gives; expected values by hand, or from the formats' specifications."""

import io
import struct

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

from pipelines.features import pixels as pixels_of
from tests.worlds.pictures import chunk, encoded, pixels, png

RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
GREY = RGB[..., 0]


def over_white(rgb, alpha):
    alpha = alpha[..., None] / 255
    return np.round(rgb * alpha + 255 * (1 - alpha))


# What a browser shows

ALPHA = np.linspace(0, 255, GREY.size).astype(np.uint8).reshape(GREY.shape)
RGBA = np.dstack([RGB, ALPHA])
LA = np.dstack([GREY, ALPHA])
DEEP = np.random.default_rng(1).integers(0, 65536, (6, 9), np.uint16)
DEEP_RGB = np.random.default_rng(2).integers(0, 65536, (6, 9, 3), np.uint16)
GREY_RGB = np.dstack([GREY] * 3)


def palette_with_transparent_index() -> bytes:
    image = Image.fromarray(np.arange(4, dtype=np.uint8).reshape(2, 2), "L").convert("P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])
    return encoded(image, transparency=2)


def palette_with_alpha() -> bytes:
    image = Image.fromarray(np.zeros((2, 2), np.uint8), "L").convert("P")
    image.putpalette([100, 0, 0])
    return encoded(image, transparency=bytes([128]))


def deep_rgb_png() -> bytes:
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in DEEP_RGB)
    return png(9, 6, 16, 2, rows)


def animation(kind: str, **options) -> bytes:
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:], **{"lossless": True, **options})


def pages() -> bytes:
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB[:3])]
    return encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:])


def without_alpha_bits(tga: bytes) -> bytes:
    """The same, of which the header says that no bit of a pixel is alpha, as programs of the first version wrote."""
    return tga[:17] + bytes([tga[17] & 0xF0]) + tga[18:-26]


ICON = Image.fromarray(np.random.default_rng(3).integers(0, 256, (16, 16, 4), np.uint8))


def split(image: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    values = np.asarray(image)
    return values[..., :3], values[..., 3]


def tiff_of_12_bits() -> bytes:
    """2 x 2 shades of 12 bits, 0, 4095, 2056 and 257, two in three bytes; Pillow writes none."""
    entries = [(256, 3, 2), (257, 3, 2), (258, 3, 12), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1), (278, 3, 2),
               (279, 4, 6)]  # fmt: skip
    rows = bytes.fromhex("000fff") + bytes.fromhex("808101")
    directory = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return b"II*\0" + struct.pack("<I", 14) + rows + struct.pack("<H", len(entries)) + directory + bytes(4)


def small_frame() -> bytes:
    """A screen of 3 x 2 whose only frame is one green pixel at (1, 1); color 0 is red."""
    screen = b"GIF89a" + struct.pack("<HH", 3, 2) + b"\x80\0\0" + bytes([255, 0, 0, 0, 255, 0])
    return screen + b"," + struct.pack("<HHHH", 1, 1, 1, 1) + b"\0\x02\x02\x4c\x01\0;"


SHOWN = {
    "rgb": (encoded(RGB), RGB),
    "grey": (encoded(GREY), GREY_RGB),
    "grey and alpha": (encoded(LA), over_white(GREY_RGB, ALPHA)),
    "alpha": (encoded(RGBA), over_white(RGB, ALPHA)),
    "one bit": (encoded(Image.fromarray(GREY > 127)), np.dstack([np.where(GREY > 127, 255, 0)] * 3)),
    "transparent index": (
        palette_with_transparent_index(),
        np.array([[[255, 0, 0], [0, 255, 0]], [[255, 255, 255], [9, 9, 9]]]),
    ),
    "palette with alpha": (palette_with_alpha(), np.full((2, 2, 3), [177, 127, 127])),
    "transparent colour": (
        encoded(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8), transparency=(1, 2, 3)),
        np.array([[[255, 255, 255], [4, 5, 6]]]),
    ),
    "16 bits grey": (encoded(Image.fromarray(DEEP)), np.dstack([DEEP / 257] * 3)),
    "16 bits grey tiff": (encoded(Image.fromarray(DEEP), "TIFF"), np.dstack([DEEP / 257] * 3)),
    "16 bits rgb": (deep_rgb_png(), DEEP_RGB / 257),
    "bmp": (encoded(RGB, "BMP"), RGB),
    "ppm": (encoded(RGB, "PPM"), RGB),
    "tiff": (encoded(RGB, "TIFF"), RGB),
    "lossless webp": (encoded(RGB, "WEBP", lossless=True), RGB),
    "transparent webp": (encoded(RGBA, "WEBP", lossless=True, exact=True), over_white(RGB, ALPHA)),
    "animated png": (animation("PNG"), RGB),
    "animated webp": (animation("WEBP"), RGB),
    "pages of a tiff": (pages(), RGB),
    "tga": (encoded(RGB, "TGA"), RGB),
    "compressed tga": (encoded(RGB, "TGA", compression="tga_rle"), RGB),
    "transparent tga": (encoded(RGBA, "TGA"), over_white(RGB, ALPHA)),
    "tga whose fourth channel is no alpha": (without_alpha_bits(encoded(RGBA, "TGA")), RGB),
    "icon": (encoded(ICON, "ICO", sizes=[(16, 16)]), over_white(*split(ICON))),
    "icon of bitmaps": (encoded(ICON, "ICO", sizes=[(16, 16)], bitmap_format="bmp"), over_white(*split(ICON))),
    "jpeg 2000": (encoded(RGB, "JPEG2000"), RGB),
    "transparent jpeg 2000": (encoded(RGBA, "JPEG2000"), over_white(RGB, ALPHA)),
    "16 bits grey jpeg 2000": (encoded(Image.fromarray(DEEP), "JPEG2000"), np.dstack([DEEP / 257] * 3)),
    "16 bits grey ppm": (b"P5 9 6 65535\n" + DEEP.astype(">u2").tobytes(), np.dstack([DEEP / 257] * 3)),
    "10 bits grey ppm": (
        b"P5 9 6 1023\n" + (DEEP // 64).astype(">u2").tobytes(),
        np.dstack([DEEP // 64 / 1023 * 255] * 3),
    ),
    "16 bits rgb ppm": (b"P6 9 6 65535\n" + DEEP_RGB.astype(">u2").tobytes(), DEEP_RGB / 257),
    "ppm of text": (b"P3 1 2 255 1 2 3 4 5 6\n", np.array([[[1, 2, 3]], [[4, 5, 6]]])),
    "12 bits grey tiff": (tiff_of_12_bits(), np.array([[[0] * 3, [255] * 3], [[128] * 3, [16] * 3]])),
    "16 bits grey tiff, white is zero": (
        encoded(Image.fromarray(DEEP), "TIFF", tiffinfo={262: 0}),
        255 - np.dstack([DEEP / 257] * 3),
    ),
    "first frame smaller than its gif": (
        small_frame(),
        np.array([[[255] * 3] * 3, [[255] * 3, [0, 255, 0], [255] * 3]]),
    ),
    "animated gif": (
        encoded(Image.new("RGB", (4, 3), (255, 0, 0)), "GIF", save_all=True, append_images=[Image.new("RGB", (4, 3))]),
        np.full((3, 4, 3), [255, 0, 0]),
    ),
}


@pytest.mark.parametrize("kind", SHOWN)
def test_pixels(kind):
    data, expected = SHOWN[kind]
    found = pixels(data)
    assert found.shape == expected.shape
    assert np.abs(found - expected.astype(float)).max() <= 1


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}], ids=str)
def test_jpeg(options):
    smooth = np.asarray(Image.fromarray(RGB).resize((90, 60), Image.Resampling.BICUBIC))
    found = pixels(encoded(smooth, "JPEG", quality=98, **options))
    assert np.abs(found.astype(float) - smooth).mean() < 3


@pytest.mark.parametrize("kind", ["16 bits grey", "alpha", "palette with alpha", "transparent colour"])
def test_stripes_change_nothing(kind, monkeypatch):
    data, _ = SHOWN[kind]
    whole = pixels(data)
    monkeypatch.setattr(pixels_of, "STRIPE_PIXELS", 20)  # two rows of the six
    assert np.array_equal(pixels(data), whole)


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_the_transparent_shade_of_grey_is_white(depth):
    """PNG specification, 11.3.2.1, at every depth: shades 0 and 1, of which 0 is transparent; and the other way."""
    shades = (0, 1) if depth < 16 else (0x0101, 0x0202)
    bits = "".join(f"{shade:0{depth}b}" for shade in shades).ljust(8, "0")
    row = b"\0" + int(bits, 2).to_bytes(len(bits) // 8)
    largest = (1 << depth) - 1
    for transparent in range(2):
        expected = [[round(255 * shade / largest)] * 3 for shade in shades]
        expected[transparent] = [255] * 3
        found = pixels(png(2, 1, depth, 0, row, before=chunk(b"tRNS", struct.pack(">H", shades[transparent]))))
        assert np.array_equal(found, [expected]), transparent


LOSSLESS = {
    "PNG": {}, "BMP": {}, "PPM": {}, "TGA": {}, "TIFF": {}, "WEBP": {"lossless": True, "exact": True},
    "JPEG2000": {"irreversible": False},
}  # fmt: skip
LOSSY = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"quality": 95},
    "AVIF": {"quality": 95, "subsampling": "4:4:4"},
}
MODES = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}
WITHOUT_ALPHA = ("BMP", "PPM", "JPEG")


def composed(values: np.ndarray) -> np.ndarray:
    """(H, W, 1 to 4) of grey or RGB, with alpha or without, over white."""
    color = values[..., :1] if values.shape[2] < 3 else values[..., :3]
    color = np.broadcast_to(color, (*values.shape[:2], 3))
    return over_white(color, values[..., -1]) if values.shape[2] in (2, 4) else color.astype(float)


@given(
    kind=st.sampled_from(sorted(LOSSLESS)),
    mode=st.sampled_from(sorted(MODES)),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    seed=st.integers(0, 999),
)
def test_what_encoders_without_loss_write_is_read_as_it_was(kind, mode, size, seed):
    assume(MODES[mode] % 2 or kind not in WITHOUT_ALPHA)
    values = np.random.default_rng(seed).integers(0, 256, (*size, MODES[mode]), np.uint8)
    image = Image.fromarray(values.squeeze(2) if mode == "L" else values, mode)
    assert np.abs(pixels(encoded(image, kind, **LOSSLESS[kind])) - composed(values)).max() <= 1


@given(kind=st.sampled_from(sorted(LOSSY)), mode=st.sampled_from(sorted(MODES)), seed=st.integers(0, 999))
def test_what_encoders_with_loss_write_is_read_nearly_as_it_was(kind, mode, seed):
    assume(MODES[mode] % 2 or kind not in WITHOUT_ALPHA)
    coarse = np.random.default_rng(seed).integers(0, 256, (3, 4, MODES[mode]), np.uint8)
    image = Image.fromarray(coarse.squeeze(2) if mode == "L" else coarse, mode).resize(
        (64, 48), Image.Resampling.BICUBIC
    )
    values = np.asarray(image).reshape(48, 64, -1)
    assert np.abs(pixels(encoded(image, kind, **LOSSY[kind])) - composed(values)).mean() < 6


def test_the_first_frame_of_an_animated_avif():
    frames = [Image.new("RGB", (64, 48), color) for color in ((200, 30, 40), (0, 0, 255))]
    found = pixels(encoded(frames[0], "AVIF", save_all=True, append_images=frames[1:]))
    assert np.abs(found.astype(int) - (200, 30, 40)).max() <= 3


# CMYK

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
    found = pixels(data).astype(float)
    assert np.abs(found - shown(inks)).max() <= 4, (found[0, 0], shown(inks))


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
