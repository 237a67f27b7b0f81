"""The pictures of a report: chosen, made small, and overlaid with what the model attended to."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from pipelines.features.decode import DecodeError, decode
from pipelines.features.preprocess import Preprocess
from pipelines.inputs import fetch

LONGEST_SIDE = 480
"""Pixels of an embedded picture: sharp at its width on a page of cards, about 30 kB."""
DECIMALS = 4
FINE = 96
"""Pixels a side of a small map of regions."""
HEAT, OPAQUE = (255, 138, 30), 235
"""RGB of attention laid over a picture, and the alpha of the greatest; the same as in pictures.js."""


@dataclass
class Attention:
    """Weights of each word over the places of a grid, or over regions, which are a row of places with boxes.

    Attributes:
        pieces: the caption cut into what attended: ``"".join(pieces)`` is the caption.
        weights: (T, rows * columns), each row sums to 1; row-major places.
        boxes: (columns, 4) x1, y1, x2, y2 of the regions in pixels of the picture; None of a grid.
    """

    rows: int
    columns: int
    pieces: list[str]
    weights: np.ndarray
    boxes: np.ndarray | None = None

    def __post_init__(self) -> None:
        shape = (len(self.pieces), self.rows * self.columns)
        if self.weights.shape != shape:
            raise ValueError(f"attention is {self.weights.shape}; {len(self.pieces)} words over {self.rows} x "
                             f"{self.columns} places need {shape}")  # fmt: skip
        self.weights = self.weights / np.maximum(self.weights.sum(1, keepdims=True), 1e-12)

    def heat(self, weights: np.ndarray, width: int, height: int) -> np.ndarray:
        """``weights`` (rows * columns,) of a word as a map of a picture: of a grid (rows, columns), of regions
        (``FINE``, ``FINE``), where the greatest of the boxes over a point counts."""
        if self.boxes is None:
            return weights.reshape(self.rows, self.columns)
        heat = np.zeros((FINE, FINE))
        for box, weight in zip(self.boxes / [width, height, width, height] * FINE, weights, strict=True):
            left, top, right, bottom = box.round().astype(int)
            part = heat[top : max(bottom, top + 1), left : max(right, left + 1)]
            np.maximum(part, weight, out=part)
        return heat

    @property
    def opacity(self) -> np.ndarray:
        """(T, rows * columns) in [0, 1]: what a weight has above an even share, on one scale for the whole caption.

        The scale ends at the greatest weight, but at no less than twice an even share: attention that is spread over
        the whole picture shall look like it, whatever small differences it has.
        """
        even = 1 / self.weights.shape[1]
        return np.clip((self.weights - even) / max(self.weights.max(initial=0) - even, even), 0, 1)


@dataclass
class Card:
    """A picture with its caption and what belongs to it; ``picture`` is a data URI, None where it cannot be shown.
    ``width`` and ``height`` are those of the embedded picture, ``seen_width`` and ``seen_height`` of the file's.
    ``before`` is what an older model said of it, None where that is not asked, and ``other_input`` whether it said that
    of another version of the picture."""

    image_id: str
    caption: str
    references: Sequence[str] = ()
    scores: Mapping[str, float] = field(default_factory=dict)
    log_prob: float | None = None
    others: Sequence[str] = ()
    picture: str | None = None
    missing: str = ""
    width: int = 4
    height: int = 3
    seen_width: int = 4
    seen_height: int = 3
    crop: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    attention: Attention | None = None
    before: str | None = None
    other_input: bool = False

    def data(self) -> dict[str, Any] | None:
        """What the page's script draws from."""
        if self.attention is None:
            return None
        a = self.attention
        data = {"rows": a.rows, "columns": a.columns, "weights": np.round(a.weights, DECIMALS).tolist()}
        if a.boxes is not None:
            parts = a.boxes / [self.seen_width, self.seen_height, self.seen_width, self.seen_height]
            data["boxes"] = np.round(parts, DECIMALS).tolist()
        return data

    def facts(self) -> str:
        known = [f"{name.replace('_', '-')} {value:.1f}" for name, value in self.scores.items() if name != "CIDEr"]
        known += [f"log P {self.log_prob:.2f}"] if self.log_prob is not None else []
        return " · ".join([*known, self.image_id])

    def strip(self) -> list[tuple[str, str]]:
        """Each piece of the caption with its heat map as a data URI."""
        if self.attention is None:
            return []
        a = self.attention
        # A region may be the whole picture: what has no more than an even share would hide the others.
        scaled = a.weights / max(a.weights.max(), 1e-12) if a.boxes is None else a.opacity
        return [
            (piece, heat_png(a.heat(weights, self.seen_width, self.seen_height)))
            for piece, weights in zip(a.pieces, scaled, strict=True)
        ]


def heat_png(opacity: np.ndarray) -> str:
    """(rows, columns) in [0, 1] as a PNG of one pixel per place, which the browser smooths."""
    pixels = np.empty((*opacity.shape, 4), np.uint8)
    pixels[..., :3] = HEAT
    pixels[..., 3] = np.round(OPAQUE * opacity)
    return data_uri(Image.fromarray(pixels, "RGBA"), "PNG")


def data_uri(image: Image.Image, kind: str, **options: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def show(card: Card, uris: Sequence[str], preprocess: Preprocess | None) -> Card:
    """Put the first of ``uris`` that opens onto the card, with the part of it that the network saw; where none opens,
    the reason."""
    problems = []
    for uri in uris:
        try:
            image, width, height = decode(fetch.read(uri)[1], needed=LONGEST_SIDE)
        except (fetch.ReadError, DecodeError) as error:
            problems.append(f"{uri}: {error}")
            continue
        image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
        card.picture = data_uri(image, "JPEG", quality=82, optimize=True)
        card.width, card.height = image.size
        card.seen_width, card.seen_height = width, height
        if preprocess is not None:
            card.crop = crop_box(preprocess, width, height)
        return card
    card.missing = problems[0] if problems else "the data do not say where the picture is"
    card.attention = None
    return card


def crop_box(preprocess: Preprocess, width: int, height: int) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of the part that the network sees, as fractions of the picture."""
    resized_width, resized_height = preprocess.resized(width, height)
    crop_height, crop_width = preprocess.crop
    across = min(crop_width / resized_width, 1.0)
    down = min(crop_height / resized_height, 1.0)
    return ((1 - across) / 2, (1 - down) / 2, (1 + across) / 2, (1 + down) / 2)
