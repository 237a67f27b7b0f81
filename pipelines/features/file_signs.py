"""What a file is by its first bytes: formats that need a reader of their own, and names for those that have none."""

from __future__ import annotations

import re

from pipelines.features.pixels import DecodeError

ICON = b"\0\0\1\0"
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")

SIGNS = (
    (rb"<!doctype html|<html|<head", "HTML or XML text"),
    (rb"%pdf|%!ps|\xc5\xd0\xd3\xc6", "a PDF or PostScript document"),
    (rb"version https://git-lfs", "a Git LFS pointer; run `git lfs pull`"),
    (rb"ii\*\0|mm\0\*|ii\+\0|mm\0\+", "a TIFF of a kind that is not read; save it as grey or RGB of 8 or 16 bits"),
    (rb"\x89png\r\n\x1a\n", "a PNG whose header is broken"),
    (rb"\xff\x0a|\0\0\0\x0cjxl ", "a JPEG XL picture, which is not read; convert it to PNG or JPEG"),
    (rb"8bps", "a Photoshop document, which is not read; export it as PNG or JPEG"),
    (rb"\0\x05\x16[\0\x07]", "the attributes of a file on a Mac (AppleDouble), and not the file"),
    (rb"\x1f\x8b|pk\x03\x04|7z\xbc\xaf|rar!|bzh|\xfd7zxz|\x28\xb5\x2f\xfd", "a compressed archive"),
    (rb".{4}ftyp|\x1a\x45\xdf\xa3|riff.{4}avi |\0\0\x01[\xba\xb3]", "a film, or a container that is not read"),
)
"""Patterns of lower-case beginnings, and what such a file is."""


def looks_like(data: bytes) -> str:
    """What a file is that no decoder takes, for the eye."""
    start = data[:512].lstrip(b" \t\r\n\xef\xbb\xbf").lower()
    if start.startswith((b"<?xml", b"<svg", b"<!doctype svg")):
        return "an SVG drawing" if b"<svg" in start else "HTML or XML text"
    for pattern, name in SIGNS:
        if re.match(pattern, start, re.DOTALL):
            return name
    return f"{len(data):,} bytes of no format that is read"  # which bytes is nothing to tell whoever may have asked


def heic_opener(data: bytes) -> tuple[str, ...]:
    """Pillow's name of the format HEIC if ``data`` is one, with its reader made known to Pillow; else nothing.

    Raises:
        DecodeError: it is one, and there is no reader.
    """
    if data[4:8] != b"ftyp" or data[8:12] not in HEIC_BRANDS or b"avif" in data[8:64] or b"avis" in data[8:64]:
        return ()
    try:
        import pillow_heif
    except ImportError:
        raise DecodeError("a HEIC picture, which needs pillow-heif on every machine: pip install pillow-heif") from None
    pillow_heif.register_heif_opener()
    return ("HEIF",)
