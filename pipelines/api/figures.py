"""Attention as figures: SVG that Jupyter shows, that a browser opens, and that needs no plotting library."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from pipelines.errors import UserError
from pipelines.features.preprocess import Preprocess
from pipelines.reporting import charts
from pipelines.reporting.gallery import LONGEST_SIDE, Attention, crop_box, data_uri, heat_png

SVG = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
CELL, GAP, TEXT, ACROSS = 150, 8, 22, 6
"""Pixels of a picture's longer side, between pictures, and for a word below it; pictures in a row."""
STYLE = "<style>.cell{fill:#2563a8}.band{fill:#f2f2f0}text{font:12px sans-serif;fill:#222}</style>"


@dataclass(frozen=True)
class Figure:
    """A drawing. Jupyter shows it as the value of a cell."""

    svg: str

    def _repr_svg_(self) -> str:
        return self.svg

    def save(self, path: str | Path) -> None:
        """Write it to a file ``.svg``.

        Raises:
            UserError: the name has another suffix, or the file cannot be written.
        """
        if Path(path).suffix.lower() != ".svg":
            raise UserError(f"{path}: a figure is written as SVG; expected a name that ends with .svg.")
        try:
            Path(path).write_text(self.svg, encoding="utf-8")
        except OSError as error:
            raise UserError(f"The figure cannot be written to {path}: {error.strerror or error}.") from None


def picture_figure(
    picture: Image.Image,
    pieces: Sequence[str],
    weights: np.ndarray,
    boxes: np.ndarray | None = None,
    crop: Preprocess | None = None,
) -> Figure:
    """A picture once alone and once for each word, under the word's attention.

    Args:
        pieces: T words.
        weights: (T, rows, columns) of a grid or (T, regions).
        boxes: (regions, 4) x1, y1, x2, y2 in pixels of the picture.
        crop: what cut the part that the network saw out of the picture; None where it saw all.
    """
    rows, columns = weights.shape[1:] if weights.ndim == 3 else (1, weights.shape[1])
    attention = Attention(rows, columns, list(pieces), weights.reshape(len(weights), rows * columns), boxes)
    width, height = picture.size
    scale = CELL / max(width, height)
    small = picture.copy()
    small.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    uri = data_uri(small, "JPEG", quality=82)
    name = f"p{hashlib.sha256(uri.encode()).hexdigest()[:12]}"  # several figures share one page
    across, down = width * scale, height * scale
    left, top, right, bottom = (0.0, 0.0, 1.0, 1.0) if crop is None else crop_box(crop, width, height)
    heat_box = (
        f'x="{left * across:.1f}" y="{top * down:.1f}" width="{(right - left) * across:.1f}" '
        f'height="{(bottom - top) * down:.1f}" preserveAspectRatio="none"'
    )
    cells = ["", *(heat_png(attention.heat(one, width, height)) for one in attention.opacity)]
    parts = []
    for number, (heat, piece) in enumerate(zip(cells, ["", *pieces], strict=True)):
        x, y = number % ACROSS * (across + GAP), number // ACROSS * (down + TEXT)
        overlay = f'<image {heat_box} xlink:href="{heat}"/>' if heat else ""
        parts.append(
            f'<g transform="translate({x:.1f} {y:.1f})"><use xlink:href="#{name}"/>{overlay}'
            f'<text x="{across / 2:.1f}" y="{down + 15:.1f}" text-anchor="middle" font-family="sans-serif" '
            f'font-size="13">{escape(piece.strip())}</text></g>'
        )
    lines = (len(cells) + ACROSS - 1) // ACROSS
    whole_width = min(len(cells), ACROSS) * (across + GAP) - GAP
    shared = f'<defs><image id="{name}" width="{across:.1f}" height="{down:.1f}" xlink:href="{uri}"/></defs>'
    label = escape(f"attention of each word of: {''.join(pieces).strip()}")
    head = f'<svg {SVG} width="{whole_width:.0f}" height="{lines * (down + TEXT):.0f}" role="img" aria-label="{label}">'
    return Figure(head + shared + "".join(parts) + "</svg>")


def matrix_figure(pieces: Sequence[str], source_pieces: Sequence[str], weights: np.ndarray) -> Figure:
    """The attention of a translation as shaded cells: its words down, those of the source across.

    Args:
        weights: (pieces, source pieces).
    """
    drawn = str(charts.matrix([piece.strip() for piece in pieces], [piece.strip() for piece in source_pieces], weights))
    end = drawn.index(">") + 1
    return Figure(drawn[:end].replace("<svg ", f"<svg {SVG} ", 1) + STYLE + drawn[end:])
