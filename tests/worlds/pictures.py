"""Pictures as bytes, in any format; PNGs written by hand, for what Pillow does not write."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

from pipelines.features.decode import decode


def encoded(image: Image.Image | np.ndarray, kind: str = "PNG", **options) -> bytes:
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def pixels(data: bytes) -> np.ndarray:
    """(height, width, 3) of what is decoded."""
    picture = decode(data)
    assert picture.image.mode == "RGB"
    assert (picture.width, picture.height) == picture.image.size
    return np.asarray(picture.image)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    width: int, height: int, depth: int, color: int, scanlines: bytes, before: bytes = b"", after: bytes = b""
) -> bytes:
    """``before`` and ``after`` the pixels there may be further chunks. ``color`` 0 is grey, 2 RGB."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    body = header + before + chunk(b"IDAT", zlib.compress(scanlines)) + after + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body
