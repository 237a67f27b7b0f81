import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile
from torchvision import transforms
from torchvision.transforms.functional import InterpolationMode

from pipelines.features import decode as images
from pipelines.features.decode import DecodeError, Preprocess, decode

RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
GREY = RGB[..., 0]


def encoded(image, kind="PNG", **options) -> bytes:
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def pixels(data: bytes) -> np.ndarray:
    picture = decode(data)
    assert picture.image.mode == "RGB"
    assert (picture.width, picture.height) == picture.image.size
    return np.asarray(picture.image)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, depth: int, colour: int, scanlines: bytes) -> bytes:
    """Written by hand, for what Pillow does not write."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(scanlines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


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


def animation(kind: str) -> bytes:
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)


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


TURNED = {
    1: lambda stored: stored,
    2: np.fliplr,
    3: lambda stored: np.rot90(stored, 2),
    4: np.flipud,
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(stored, 2).transpose(1, 0, 2),
    8: lambda stored: np.rot90(stored, 1),
}


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", TURNED)
def test_orientation(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless = {"lossless": True} if kind == "WEBP" else {}
    found = pixels(encoded(RGB, kind, exif=exif, **lossless))
    assert np.array_equal(found, TURNED[orientation](RGB))


def test_size_of_a_turned_draft():
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = decode(encoded(np.zeros((800, 1600, 3), np.uint8), "JPEG", exif=exif), needed=64)
    assert (picture.width, picture.height) == (800, 1600)
    assert picture.image.size == (200, 400)


def test_broken_exif_is_no_reason_to_lose_a_picture():
    data = encoded(np.full((8, 8, 3), 77, np.uint8), "JPEG", exif=b"Exif\0\0MM\0\x2a\xff\xff\xff\xff" + b"\xff" * 40)
    assert np.abs(pixels(data).astype(int) - 77).max() <= 1


def test_draft_keeps_twice_what_is_needed():
    coarse = Image.fromarray(np.random.default_rng(3).integers(0, 256, (30, 40, 3), np.uint8))
    data = encoded(coarse.resize((1600, 1200), Image.Resampling.BICUBIC), "JPEG", quality=92)
    preprocess = Preprocess((56, 56), (64, 64), "bilinear", (0.5,) * 3, (0.5,) * 3)
    drafted = decode(data, preprocess.needed)
    assert min(drafted.image.size) == 150  # an eighth; a quarter more would be 300
    assert (drafted.width, drafted.height) == (1600, 1200)
    difference = preprocess(drafted.image).astype(float) - preprocess(decode(data).image)
    assert np.abs(difference).mean() < 2


# What no browser shows


def claims(width: int, height: int) -> bytes:
    return png(width, height, 8, 2, b"\0" * 100)


def gif_that_claims(width: int, height: int) -> bytes:
    screen = b"GIF89a" + struct.pack("<HH", width, height) + b"\x80\0\0" + b"\0" * 6
    return screen + b"," + struct.pack("<HHHH", 0, 0, width, height) + b"\0\x02\x02\x4c\x01\0;"


def webp_that_claims(width: int, height: int) -> bytes:
    size = lambda number: struct.pack("<I", number - 1)[:3]  # noqa: E731
    body = b"VP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + size(width) + size(height)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def with_wrong_checksum(data: bytes) -> bytes:
    at = data.index(b"IDAT") + 8
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


LARGE = np.random.default_rng(4).integers(0, 256, (200, 200, 3), np.uint8)

BROKEN = {
    "empty": (b"", "empty"),
    "html": (b"\n <!DOCTYPE html><html>404</html>", "HTML"),
    "svg": (b'<?xml version="1.0"?><svg width="3"/>', "SVG"),
    "pdf": (b"%PDF-1.7 ...", "PDF"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript"),
    "git lfs pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "LFS"),
    "text": (b"not a picture at all", "20 bytes of no format"),
    "zeros": (bytes(1000), "not a picture"),
    "truncated jpeg": (encoded(LARGE, "JPEG")[:5000], "truncated"),
    "jpeg header only": (encoded(LARGE, "JPEG")[:20], "picture"),
    "truncated png": (encoded(LARGE)[:5000], "broken"),
    "truncated webp": (encoded(LARGE, "WEBP")[:500], "picture"),
    "truncated tiff": (encoded(LARGE, "TIFF", compression="tiff_lzw")[:500], "picture"),
    "truncated bmp": (encoded(LARGE, "BMP")[:500], "truncated"),
    "wrong checksum": (with_wrong_checksum(encoded(LARGE)), "broken"),
    "png bomb": (claims(50_000, 50_000), "pixels"),
    "large png": (claims(11_000, 10_000), "11000x10000 pixels"),
    "flat bomb": (claims(200_000_000, 1), "pixels"),
    "gif bomb": (gif_that_claims(65_535, 65_535), "pixels"),
    "webp bomb": (webp_that_claims(16_384, 16_384), "pixels"),
    "float tiff": (encoded(Image.fromarray(RGB[..., 0].astype(np.float32)), "TIFF"), "floating-point"),
    "32-bit tiff": (encoded(Image.fromarray(GREY.astype(np.int32) * 100_000), "TIFF"), "32-bit integer"),
    "icon": (encoded(Image.fromarray(RGB).resize((16, 16)), "ICO"), "not a picture"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken(kind):
    data, reason = BROKEN[kind]
    with pytest.raises(DecodeError, match=reason) as raised:
        decode(data)
    assert len(str(raised.value)) < 200 and "\n" not in str(raised.value)


@pytest.mark.parametrize("kind", ["png bomb", "large png", "flat bomb", "gif bomb", "webp bomb"])
def test_a_bomb_is_refused_before_its_pixels_are_read(kind, monkeypatch):
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("memory was taken"))
    with pytest.raises(DecodeError):
        decode(BROKEN[kind][0])


def test_the_limit_itself_is_let_through(monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 54)
    assert pixels(encoded(RGB)).shape == (6, 9, 3)
    monkeypatch.setattr(images, "MAX_PIXELS", 53)
    with pytest.raises(DecodeError, match="9x6 pixels, more than 53"):
        decode(encoded(RGB))


@pytest.mark.parametrize("kind", ["16 bits grey", "alpha", "palette with alpha", "transparent colour"])
def test_stripes_change_nothing(kind, monkeypatch):
    data, _ = SHOWN[kind]
    whole = pixels(data)
    monkeypatch.setattr(images, "STRIPE_PIXELS", 20)  # two rows of the six
    assert np.array_equal(pixels(data), whole)


# Preprocessing


@pytest.mark.parametrize("size", [(500, 333), (333, 500), (97, 64), (64, 64), (30, 41), (1001, 65)], ids=str)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_preprocess_is_torchvisions(size, interpolation):
    coarse = Image.fromarray(np.random.default_rng(5).integers(0, 256, (7, 9, 3), np.uint8))
    image = coarse.resize(size, Image.Resampling.BILINEAR)
    preprocess = Preprocess((56, 56), (64, 64), interpolation, (0.5,) * 3, (0.5,) * 3)
    reference = transforms.Compose([transforms.Resize(64, InterpolationMode(interpolation)), transforms.CenterCrop(56)])
    difference = preprocess(image).astype(int) - np.asarray(reference(image))
    assert np.abs(difference).max() <= 2


def test_squash_is_torchvisions():
    image = Image.fromarray(RGB).resize((200, 120), Image.Resampling.BILINEAR)
    preprocess = Preprocess((56, 48), (64, 56), "bilinear", (0.5,) * 3, (0.5,) * 3, fit="squash")
    reference = transforms.Compose([transforms.Resize((64, 56)), transforms.CenterCrop((56, 48))])
    assert np.abs(preprocess(image).astype(int) - np.asarray(reference(image))).max() <= 2


@pytest.mark.parametrize("size", [(1, 1), (1, 200_000), (200_000, 1), (2, 3)], ids=str)
def test_extreme_shapes(size):
    preprocess = Preprocess((224, 224), (256, 256), "bicubic", (0.5,) * 3, (0.5,) * 3)
    found = preprocess(Image.new("RGB", size, (1, 2, 3)))
    assert found.shape == (224, 224, 3) and found.dtype == np.uint8
    assert np.array_equal(found[0, 0], [1, 2, 3])
