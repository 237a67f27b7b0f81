"""Which files are pictures, how they are turned, and what memory and time those take that lie within the limits."""

import gc
import struct
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageFile

from pipelines.features import decode as decoding
from pipelines.features import preprocess
from pipelines.features.decode import DecodeError, decode
from pipelines.features.preprocess import Preprocess
from pipelines.threads import Budget
from tests.worlds.pictures import encoded, pixels, png

RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
GREY = RGB[..., 0]


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


# What no viewer shows


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


def deep_jpeg2000() -> bytes:
    """Pillow writes none; this one says 16 bits (15 + 1) of each channel where it has 8."""
    data = bytearray(encoded(RGB, "JPEG2000"))
    at = data.index(b"\xff\x4f\xff\x51") + 42
    data[at : at + 9 : 3] = bytes([15] * 3)
    return bytes(data)


def tiff_of_floats() -> bytes:
    """RGB in 32-bit floating-point numbers: type 3, SampleFormat."""
    data = bytearray(encoded(RGB, "TIFF"))
    at = data.index(struct.pack("<HHI", 258, 3, 3)) + 8
    where = int.from_bytes(data[at : at + 4], "little")
    data[where : where + 6] = struct.pack("<HHH", 32, 32, 32)
    return bytes(data)


def icon(picture: bytes) -> bytes:
    entry = struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(picture), 22)
    return struct.pack("<HHH", 0, 1, 1) + entry + picture


LARGE = np.random.default_rng(4).integers(0, 256, (200, 200, 3), np.uint8)

BROKEN = {
    "empty": (b"", "empty"),
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
    "float rgb tiff": (tiff_of_floats(), "a TIFF of a kind that is not read"),
    "jpeg 2000 of 16 bits in color": (deep_jpeg2000(), "a JPEG 2000 in color of 16 bits a channel; expected 8"),
    "icon with a bomb": (icon(claims(50_000, 50_000)), "pixels"),
    "icon that belies its list": (icon(struct.pack("<IiiHHI", 40, 60_000, 60_000, 1, 32, 0)), "another size"),
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
    monkeypatch.setattr(decoding, "MAX_PIXELS", 54)
    assert pixels(encoded(RGB)).shape == (6, 9, 3)
    monkeypatch.setattr(decoding, "MAX_PIXELS", 53)
    with pytest.raises(DecodeError, match="9x6 pixels, more than 53"):
        decode(encoded(RGB))


# Memory and time

PREPROCESS = Preprocess((8, 8), (8, 8), "bilinear", (0.5,) * 3, (0.5,) * 3)


def row_of(file) -> dict:
    return {"image_id": file.name, "uri": str(file), "version": None}


class Counting:
    """Notes how many pixels of pictures are open at once, and keeps each open until others had time to come."""

    needed = 8

    def __init__(self):
        self.lock, self.open, self.most, self.done = threading.Lock(), 0, 0, 0

    def __call__(self, image):
        with self.lock:
            self.open += image.width * image.height
            self.most = max(self.most, self.open)
        threading.Event().wait(0.02)
        with self.lock:
            self.open -= image.width * image.height
            self.done += 1
        return PREPROCESS(image)


@pytest.mark.parametrize(("budget", "most"), [(3 * 4000, 3 * 4000), (5000, 4000), (100, 4000)])
def test_threads_hold_no_more_pixels_than_the_budget_or_one_picture(tmp_path, monkeypatch, budget, most):
    monkeypatch.setattr(decoding, "BUDGET", Budget(budget))
    (tmp_path / "a.png").write_bytes(encoded(Image.new("RGB", (80, 50)), "PNG"))
    counting = Counting()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(preprocess.load, [row_of(tmp_path / "a.png")] * 24, [counting] * 24))
    assert (counting.open, counting.most, counting.done) == (0, most, 24)
    assert decoding.BUDGET.free == budget


def test_a_broken_picture_gives_back_what_it_took(monkeypatch):
    monkeypatch.setattr(decoding, "BUDGET", Budget(4000))
    data = encoded(Image.effect_noise((80, 50), 90), "PNG")
    for read in (decode, lambda data: decoding.opened(data).__enter__()):
        with pytest.raises(DecodeError):
            read(data[: len(data) // 2])
    assert decoding.BUDGET.free == 4000


@pytest.mark.parametrize(
    ("kind", "options", "needed", "taken"),
    [
        ("PNG", {}, 10, 800 * 400),
        ("JPEG", {}, None, 800 * 400),
        ("JPEG", {}, 50, 200 * 100),  # decoded at a quarter
        ("JPEG", {"progressive": True}, 50, 800 * 400),  # put together at full size, then made small
    ],
)
def test_what_counts_is_what_decoding_holds(kind, options, needed, taken, monkeypatch):
    asked = []

    class Noting(Budget):
        def take(self, amount):
            asked.append(amount)
            return super().take(amount)

    monkeypatch.setattr(decoding, "BUDGET", Noting(10**6))
    decode(encoded(Image.effect_noise((800, 400), 50).convert("RGB"), kind, **options), needed)
    assert asked == [taken]


@pytest.mark.heavy
def test_what_failed_keeps_neither_its_pixels_nor_its_file_until_its_turn(tmp_path):
    size = (1237, 811)
    whole = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), np.uint8)), "PNG")
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    error = preprocess.attempt(row_of(tmp_path / "half.png"), PREPROCESS)
    gc.collect()
    assert isinstance(error, DecodeError) and "broken picture" in str(error)
    assert (error.__traceback__, error.__context__, error.__cause__) == (None, None, None)
    assert not [found for found in gc.get_objects() if isinstance(found, Image.Image) and found.size == size]


TAKES = """
import sys
from pathlib import Path
from pipelines.features.decode import decode
def peak():  # not ru_maxrss, which begins at what this process's parent has
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024
small, large = (Path(name).read_bytes() for name in sys.argv[1:])
decode(small)
before = peak()
picture = decode(large)
print((peak() - before) / (picture.width * picture.height))
"""


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("mode", "kind", "options", "most"),
    [
        ("RGB", "JPEG", {}, 4),
        pytest.param("I;16", "PNG", {}, 8, marks=pytest.mark.slow),
        ("RGBA", "PNG", {}, 8),
        pytest.param("LA", "PNG", {}, 8, marks=pytest.mark.slow),
        ("CMYK", "JPEG", {"progressive": True}, 12),
        ("RGB", "WEBP", {}, 17),
        ("RGB", "JPEG2000", {}, 20),
    ],
)
def test_memory_is_as_said(tmp_path, mode, kind, options, most):
    """Bytes a pixel, beside the file's own."""
    for name, size in {"small": (50, 40), "large": (5000, 4000)}.items():
        Image.new(mode, size).save(tmp_path / name, kind, **options)
    names = [str(tmp_path / name) for name in ("small", "large")]
    done = subprocess.run([sys.executable, "-c", TAKES, *names], capture_output=True, text=True, check=True)
    assert 3 < float(done.stdout) < 1.15 * most
