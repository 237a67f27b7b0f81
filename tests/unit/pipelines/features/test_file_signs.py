import sys

import numpy as np
import pytest

from pipelines.features.decode import DecodeError, decode
from pipelines.features.file_signs import looks_like
from tests.worlds.pictures import encoded, pixels

KINDS = {
    "HTML": b"\n <!DOCTYPE html><html>404</html>",
    "SVG": b'\xef\xbb\xbf<?xml version="1.0"?><svg width="3"/>',
    "PDF": b"%PDF-1.7 ...",
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    "JPEG XL": b"\xff\x0a\xfa\x7f\x01",
    "Photoshop": b"8BPS\0\x01",
    "AppleDouble": bytes.fromhex("0005160700020000") + b"Mac OS X        " + bytes(140),
    "compressed archive": b"\x1f\x8b\x08\0\0\0",
    "film": b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom",
    "20 bytes of no format": b"not a picture at all",
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_picture_is_named(kind):
    assert kind in looks_like(KINDS[kind])
    with pytest.raises(DecodeError, match="not a picture: ") as raised:
        decode(KINDS[kind])
    assert kind in str(raised.value)


SMOOTH = np.add.outer(np.arange(64) * 2, np.arange(80)).astype(np.uint8)


def heic() -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    return encoded(np.dstack([SMOOTH] * 3), "HEIF", quality=95)


def test_heic_is_read_where_its_reader_is():
    assert np.abs(pixels(heic()).astype(int) - SMOOTH[..., None]).mean() < 3


def test_heic_without_its_reader_says_what_to_install(monkeypatch):
    data = heic()
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(DecodeError, match=r"HEIC picture.*pip install pillow-heif"):
        decode(data)
