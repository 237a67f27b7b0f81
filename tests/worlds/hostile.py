"""Pictures, and what only looks like one, that a large store holds sooner or later; and what must become of each.

``make(folder)`` writes them all and returns what is expected: the id of every file, with None for a picture that can
be shown, or the stage and a part of the reason of its failure.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image, ImageCms

from pipelines.engine.failures import Failures
from pipelines.features.featurizer import Featurizer
from pipelines.features.preprocess import Preprocess
from pipelines.inputs.listing import Listing

Expected = dict[str, tuple[str, str] | None]

NOISE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
PHOTO = Image.fromarray(NOISE).resize((160, 120), Image.Resampling.BICUBIC)


def encoded(image: Image.Image = PHOTO, kind: str = "JPEG", **options) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def orientation(number: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = number
    return encoded(exif=exif)


def ycck() -> bytes:
    """Adobe's marker says that the four channels are YCCK, as Photoshop writes CMYK."""
    data = bytearray(encoded(PHOTO.convert("CMYK")))
    marker = data.index(b"Adobe")
    data[marker + 11] = 2
    return bytes(data)


def huge_exif() -> bytes:
    exif = Image.Exif()
    exif[0x010E] = "x" * 60_000
    return encoded(exif=exif)


def many_segments() -> bytes:
    """Three megabytes of application data before the picture."""
    data = encoded()
    segment = b"\xff\xed" + struct.pack(">H", 65_002) + bytes(65_000)
    return data[:2] + segment * 48 + data[2:]


def png_of(width: int, height: int) -> bytes:
    """That claims a size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    )


def tiff_bomb() -> bytes:
    """A TIFF of one strip whose header claims 60,000 x 60,000 pixels."""
    entries = [
        (256, 4, 1, 60_000), (257, 4, 1, 60_000), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8),
        (277, 3, 1, 1), (278, 4, 1, 60_000), (279, 4, 1, 100),
    ]  # fmt: skip
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<I", 8) + directory + struct.pack("<I", 0)


def animated(kind: str) -> bytes:
    frames = [PHOTO.rotate(angle) for angle in (0, 90, 180)]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:])


def palette_with_transparency() -> bytes:
    return encoded(PHOTO.quantize(16), "PNG", transparency=3)


DEEP = Image.fromarray(np.random.default_rng(1).integers(0, 65536, (40, 50), np.uint16))
JPEG, PNG = encoded(), encoded(kind="PNG")
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()

SHOWN: dict[str, bytes] = {
    "plain.jpg": JPEG,
    "wrong suffix, a PNG.jpg": PNG,
    "wrong suffix, a JPEG.png": JPEG,
    "cmyk.jpg": encoded(PHOTO.convert("CMYK")),
    "ycck.jpg": ycck(),
    "grey.jpg": encoded(PHOTO.convert("L")),
    "16 bits.png": encoded(DEEP, "PNG"),
    "16 bits.tif": encoded(DEEP, "TIFF"),
    "one bit.png": encoded(PHOTO.convert("1"), "PNG"),
    "palette with transparency.png": palette_with_transparency(),
    "grey with alpha.png": encoded(PHOTO.convert("LA"), "PNG"),
    "rgba.webp": encoded(PHOTO.convert("RGBA"), "WEBP"),
    "animated.gif": animated("GIF"),
    "animated.webp": animated("WEBP"),
    "progressive.jpg": encoded(progressive=True),
    "huge exif.jpg": huge_exif(),
    "many segments.jpg": many_segments(),
    "icc.jpg": encoded(icc_profile=PROFILE),
    "broken icc.jpg": encoded(icc_profile=b"no profile"),
    "broken exif.jpg": encoded(exif=b"Exif\0\0MM\0\x2a" + b"\xff" * 40),
    "one pixel.png": encoded(Image.new("RGB", (1, 1)), "PNG"),
    "strip.png": encoded(Image.new("RGB", (1, 20_000)), "PNG"),
    "flat strip.png": encoded(Image.new("RGB", (20_000, 1)), "PNG"),
    "rubbish behind.jpg": JPEG + b"<html>" * 1000,
    "duplicate 1.jpg": JPEG,
    "duplicate 2.jpg": JPEG,
    "Case.jpg": JPEG,
    "case.jpg": JPEG,
    "case.JPG": JPEG,
    "ünïcödé 写真 🐈.jpg": JPEG,
    "u\u0308.jpg": JPEG,
    "\u00fc.jpg": JPEG,
    "  spaces  .jpg": JPEG,
    "line\nfeed\tand tab.jpg": JPEG,
    "%2e%2e#?&;'\"`$(x)*[a]{b}\\.jpg": JPEG,
    "::bytes:0+5::.jpg": JPEG,
    "-rf.jpg": JPEG,
    "l" * 246 + ".jpg": JPEG,
    **{f"turned {number}.jpg": orientation(number) for number in range(1, 9)},
}

FAILED: dict[str, tuple[bytes, str]] = {
    "truncated.jpg": (JPEG[: len(JPEG) // 2], "truncated"),
    "truncated.png": (PNG[: len(PNG) // 2], "broken picture"),
    "header only.jpg": (JPEG[:20], "picture"),
    "empty.jpg": (b"", "the file is empty"),
    "zeros.jpg": (bytes(4096), "not a picture"),
    "page.jpg": (b"<!DOCTYPE html><html>404</html>", "HTML"),
    "drawing.jpg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
    "text.jpg": (b"just text", "not a picture"),
    "archive.jpg": (b"PK\x03\x04" + bytes(100), "not a picture"),
    "pointer.jpg": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "document.jpg": (b"%PDF-1.7", "PDF"),
    "bomb.png": (png_of(50_000, 50_000), "pixels"),
    "bomb.tif": (tiff_bomb(), "pixels"),
    "no pixels.png": (png_of(0, 0), "picture"),
    "float.tif": (encoded(Image.fromarray(NOISE[..., 0].astype(np.float32)), "TIFF"), "floating-point"),
}


CONTENTS = SHOWN | {name: data for name, (data, _) in FAILED.items()}
EXPECTED: Expected = dict.fromkeys(SHOWN) | {name: ("decode", reason) for name, (_, reason) in FAILED.items()}
"""What any store of files holds, whatever it is; links and pipes are only in folders."""


def make(folder: Path) -> Expected:
    folder.mkdir(parents=True)
    expected: Expected = dict.fromkeys(SHOWN)
    for name, data in SHOWN.items():
        (folder / name).write_bytes(data)
    for name, (data, reason) in FAILED.items():
        (folder / name).write_bytes(data)
        expected[name] = ("decode", reason)
    os.mkfifo(folder / "pipe.jpg")
    (folder / "circle.jpg").symlink_to("circle.jpg")
    (folder / "nowhere.jpg").symlink_to("gone.jpg")
    (folder / "below").mkdir()
    (folder / "below" / "up").symlink_to(folder)  # a circle of folders: passed over
    (folder / "below" / "linked.jpg").symlink_to(folder / "plain.jpg")
    (folder / "folder.jpg").mkdir()  # empty, and so nothing
    expected |= {
        "pipe.jpg": ("read", "not a file"),
        "circle.jpg": ("read", ""),
        "nowhere.jpg": ("read", "no such file"),
    }
    expected |= {"below/linked.jpg": None}
    with open(os.fsencode(folder) + b"/latin \xe9.jpg", "wb") as file:
        file.write(JPEG)
    expected[r"/latin \xe9.jpg"] = ("list", "not UTF-8")
    if os.geteuid() != 0:  # root may read everything
        (folder / "secret.jpg").write_bytes(JPEG)
        (folder / "secret.jpg").chmod(0)
        expected["secret.jpg"] = ("read", "ermission")
    return expected


class Mean:
    """A network that says how bright a picture is."""

    preprocess = Preprocess((8, 8), (9, 9), "bilinear", (0.5,) * 3, (0.5,) * 3)

    def example(self, count):
        return np.zeros((count, 8, 8, 3), np.uint8)

    def __call__(self, pictures):
        return {"pooled": np.stack(pictures).mean((1, 2, 3))[:, None].astype(np.float16)}


def outcome_of(listing: Listing) -> Expected:
    """What becomes of the listed pictures, as ``make`` says what should."""
    inputs = pa.concat_tables(listing.chunks())
    failures = Failures()
    featurizer = Featurizer(Mean(), 4, 2)
    done = [image.image_id for images, _ in featurizer(inputs, failures) for image in images]
    featurizer.pool.shutdown()
    assert sorted(done + [row["image_id"] for row in failures.rows]) == sorted(inputs["image_id"].to_pylist())
    return dict.fromkeys(done) | {row["image_id"]: (row["stage"], row["reason"]) for row in failures.rows}


def assert_as_expected(found: Expected, expected: Expected) -> None:
    assert found.keys() == expected.keys()
    assert len(found) >= 30
    for name, (stage, reason) in ((name, what) for name, what in expected.items() if what):
        assert found[name] is not None, name
        assert found[name][0] == stage and reason in found[name][1], name
    assert not {name: found[name] for name, what in expected.items() if what is None and found[name]}
