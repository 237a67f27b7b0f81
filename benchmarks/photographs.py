"""Folders of pictures for the benchmarks."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image


def generate(folder: Path, size: tuple[int, int] = (500, 375)) -> Path:
    """Fifty pictures, smooth as photographs are."""
    folder.mkdir()
    for index in range(50):
        coarse = np.random.default_rng(index).integers(0, 256, (25, 33, 3), np.uint8)
        Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(folder / f"{index}.jpg", quality=90)
    return folder


def link(folder: Path, source: Path, count: int) -> Path:
    """A folder of ``count`` names for the pictures in ``source``."""
    folder.mkdir()
    there = sorted(path for path in source.iterdir() if path.suffix == ".jpg")
    for index in range(count):
        os.symlink(there[index % len(there)].resolve(), folder / f"{index:06d}.jpg")
    return folder


def link_or_generate(folder: Path, images: Path | None, count: int) -> Path:
    """A folder of ``count`` names for the pictures in ``images``, or for generated ones of 500 x 375."""
    return link(folder / "photos", images or generate(folder / "made"), count)
