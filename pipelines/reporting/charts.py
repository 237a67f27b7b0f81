"""Small line charts and histograms as inline SVG, coloured by the page's style sheet (``--series-1``, ``--ink``...)."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from markupsafe import Markup, escape

WIDTH, HEIGHT = 360, 215
LEFT, RIGHT, TOP, BOTTOM = 44, 14, 12, 31
Points = Sequence[tuple[float, float]]
Place = Callable[[float, float], tuple[float, float]]
"""From values to a place in the drawing."""


def line_chart(
    series: Mapping[str, Points],
    best: Literal["max", "min"] | None = None,
    across: str = "epoch",
    only_last: bool = False,
) -> Markup:
    """Lines over ``across``; with ``best`` the best point of the last series is marked with its value.

    Args:
        only_last: the last series is what matters; the others are drawn alike, and lightly.
    """
    everything = [point for points in series.values() for point in points]
    first, last = min(x for x, _ in everything), max(x for x, _ in everything)
    whole = all(float(x).is_integer() for x, _ in everything)
    xs = [x for x in ticks(first, last, 6, whole) if first <= x <= last]
    ys = ticks(min(y for _, y in everything), max(y for _, y in everything), 4)
    place = scale(first, last, ys[0], ys[-1])
    parts = axes(xs, ys, place, across)
    count = len(series)
    names = ["other"] * (count - 1) + ["series-1"] if only_last else [f"series-{number + 1}" for number in range(count)]
    for name, points in zip(names, series.values(), strict=True):
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in points))
        parts.append(f'<polyline class="{name}" points="{line}"/>')
        if len(points) <= 30 and name != "other":
            dots = (place(*point) for point in points)
            parts += [f'<circle class="{name}" cx="{x:.1f}" cy="{y:.1f}" r="2.2"/>' for x, y in dots]
    if best:
        parts += mark((max if best == "max" else min)(points, key=lambda point: point[1]), place, names[-1])
    return svg(parts, ", ".join(series) + f" by {across}")


def histogram(values: Sequence[float], bins: int = 16, across: str = "CIDEr", unit: str = "pictures") -> Markup:
    """How many values fall where, with the mean marked."""
    top = max(max(values), 1e-9)
    counts = [0] * bins
    for value in values:
        counts[min(int(value / top * bins), bins - 1)] += 1
    xs, ys = ticks(0, top, 5), ticks(0, max(counts), 3, whole=True)
    place = scale(0, top, 0, ys[-1])
    parts = axes([x for x in xs if x <= top], ys, place, across)
    for number, count in enumerate(counts):
        (left, y), (right, floor) = place(top * number / bins, count), place(top * (number + 1) / bins, 0)
        if count:
            size = f'width="{right - left - 1.5:.1f}" height="{floor - y:.1f}"'
            parts.append(f'<rect class="series-1" x="{left + 0.75:.1f}" y="{y:.1f}" {size} rx="1.5"/>')
    mean = sum(values) / len(values)
    x, _ = place(mean, 0)
    anchor = "end" if x > WIDTH * 0.75 else "start"
    parts.append(f'<line class="mean" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
    parts.append(
        f'<text class="value" x="{x + (5 if anchor == "start" else -5):.1f}" y="{TOP + 9}" text-anchor="{anchor}">'
        f"mean {number_text(mean)}</text>"
    )
    return svg(parts, f"{len(values)} {unit} by {across}")


CELL, LETTER, LONGEST_LABEL = 20, 7.2, 16
"""Pixels of a cell of a matrix and of a letter, and letters of a label."""


def matrix(down: Sequence[str], across: Sequence[str], weights: np.ndarray) -> Markup:
    """Weights (rows, columns) in [0, 1] as shaded cells, a whole one for the greatest; drawn at its own size."""
    down, across = ([shortened(label) for label in side] for side in (down, across))
    left = 12 + LETTER * max(map(len, down))
    top = 10 + 0.87 * LETTER * max(map(len, across))
    right = 14 + 0.5 * LETTER * len(across[-1])
    greatest = max(float(weights.max()), 1e-9)
    parts = []
    for column, label in enumerate(across):
        x = left + CELL * (column + 0.65)
        parts.append(f'<text transform="translate({x:.1f} {top - 6:.1f}) rotate(-60)">{escape(label)}</text>')
    for row, label in enumerate(down):
        y = top + CELL * row
        cells = "".join(
            f'<rect class="cell" x="{left + CELL * column:.1f}" y="{y:.1f}" width="{CELL - 1}" height="{CELL - 1}" '
            f'fill-opacity="{weight / greatest:.2f}"/>'
            for column, weight in enumerate(weights[row])
            if weight / greatest >= 0.02
        )
        band = f'<rect class="band" x="0" y="{y:.1f}" width="{left + CELL * len(across):.1f}" height="{CELL - 1}"/>'
        text = f'<text x="{left - 6:.1f}" y="{y + CELL * 0.68:.1f}" text-anchor="end">{escape(label)}</text>'
        parts.append(f'<g class="row">{band}{text}{cells}</g>')
    width, height = left + CELL * len(across) + right, top + CELL * len(down) + 4
    label = f"attention of {len(down)} pieces of the translation over {len(across)} of the source"
    head = f'<svg class="matrix" width="{width:.0f}" height="{height:.0f}" role="img" aria-label="{label}">'
    return Markup(head + "".join(parts) + "</svg>")


APART, LONG, GROWTH, WIDE = 150, 230, 1.3, 840
"""Pixels from axis to axis, at least, and of an axis; how much larger a wide page draws them, as it does other charts;
and the width of few axes, which fills such a page."""


def parallel(
    axes: Mapping[str, Sequence[Any]],
    labels: Sequence[str],
    logarithmic: Collection[str] = (),
    lower_is_better: bool = False,
    choices: Collection[str] = (),
) -> Markup:
    """A line for each of ``labels`` through its value on every axis; the last axis has the scores.

    Numbers have a scale, of logarithms on the axes named ``logarithmic``; anything else, and the axes named
    ``choices``, have a place for each value.
    """
    top, left, right = 34, 60, 40
    apart = max(APART, (WIDE - left - right) / max(len(axes) - 1, 1))
    places = {name: axis_places(values, name in logarithmic, name in choices) for name, values in axes.items()}
    parts = []
    for number, (name, (_, marks)) in enumerate(places.items()):
        x = left + apart * number
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{top + LONG}"/>')
        parts.append(f'<text class="name" x="{x:.1f}" y="{top - 16}" text-anchor="middle">{escape(name)}</text>')
        parts += [
            f'<text x="{x - 6:.1f}" y="{top + LONG * (1 - share) + 3.5:.1f}" text-anchor="end">{escape(text)}</text>'
            for text, share in marks
        ]
    scores = list(axes.values())[-1]
    order = sorted(range(len(labels)), key=lambda trial: scores[trial], reverse=lower_is_better)  # the best on top
    for rank, trial in enumerate(order):
        points = " ".join(
            f"{left + apart * number:.1f},{top + LONG * (1 - shares[trial]):.1f}"
            for number, (shares, _) in enumerate(places.values())
        )
        best = " best" if rank == len(order) - 1 else ""
        strength = 0.15 + 0.75 * rank / max(len(order) - 1, 1)
        title = f"<title>{escape(labels[trial])}</title>"
        parts.append(
            f'<polyline class="trial{best}" points="{points}" stroke-opacity="{strength:.2f}">{title}</polyline>'
        )
    width, height = left + apart * (len(axes) - 1) + right, top + LONG + 12
    bounds = f"max-width: {width * GROWTH:.0f}px; min-width: {min(width, 560):.0f}px"
    head = (
        f'<svg class="parallel" style="{bounds}" viewBox="0 0 {width:.0f} {height}" role="img" '
        f'aria-label="{len(labels)} trials, by '
    )
    return Markup(head + f'{escape(", ".join(axes))}">' + "".join(parts) + "</svg>")


def axis_places(
    values: Sequence[Any], logarithmic: bool = False, choices: bool = False
) -> tuple[list[float], list[tuple[str, float]]]:
    """Where each value is on its axis, 0 at the bottom and 1 at the top; texts beside it and where."""
    is_number = [isinstance(value, int | float) and not isinstance(value, bool) for value in values]
    if choices or not all(is_number):
        ordered = sorted(set(values)) if all(is_number) else sorted(values, key=str)
        names = list(dict.fromkeys(map(str, ordered)))
        share = {name: (number + 0.5) / len(names) for number, name in enumerate(names)}
        return [share[str(value)] for value in values], [(shortened(name), share[name]) for name in names]
    low, high = min(values), max(values)
    if low == high:
        return [0.5] * len(values), [(number_text(low), 0.5)]
    ends = [(f"{low:.3g}", 0.0), (f"{high:.3g}", 1.0)]
    """Where hardly a round number is between them."""
    if logarithmic:
        first, last = math.log10(low), math.log10(high)
        powers = range(math.floor(first), math.ceil(last) + 1)
        numbers = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
        shares = [(number, (math.log10(number) - first) / (last - first)) for number in numbers]
        marks = [(f"{number:g}", share) for number, share in shares if 0 <= share <= 1]
        return [(math.log10(value) - first) / (last - first) for value in values], marks if len(marks) > 1 else ends
    whole = all(isinstance(value, int) for value in values)
    round_ones = [tick for tick in ticks(low, high, 4, whole) if low <= tick <= high]
    marks = [(number_text(tick), (tick - low) / (high - low)) for tick in round_ones]
    return [(value - low) / (high - low) for value in values], marks if len(marks) > 1 else ends


def shortened(label: str) -> str:
    return label if len(label) <= LONGEST_LABEL else label[: LONGEST_LABEL - 1] + "…"


def mark(point: tuple[float, float], place: Place, name: str) -> list[str]:
    x, y = place(*point)
    above = y - 9 if y > TOP + 22 else y + 17
    anchor = "end" if x > WIDTH * 0.8 else "middle"
    return [
        f'<circle class="best {name}" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>',
        f'<text class="value" x="{x:.1f}" y="{above:.1f}" text-anchor="{anchor}">{number_text(point[1])}</text>',
    ]


def axes(xs: Sequence[float], ys: Sequence[float], place: Place, across: str) -> list[str]:
    parts = []
    for y in ys:
        _, down = place(xs[0], y)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{down:.1f}" y2="{down:.1f}"/>')
        parts.append(f'<text x="{LEFT - 7}" y="{down + 3.5:.1f}" text-anchor="end">{number_text(y)}</text>')
    for x in xs:
        right, _ = place(x, ys[0])
        parts.append(f'<text x="{right:.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{number_text(x)}</text>')
    parts.append(f'<text class="across" x="{WIDTH - RIGHT}" y="{HEIGHT - 5}" text-anchor="end">{escape(across)}</text>')
    return parts


def svg(parts: list[str], label: str) -> Markup:
    head = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">'
    return Markup(head + "".join(parts) + "</svg>")


def scale(left: float, right: float, bottom: float, top: float) -> Place:
    """From values to places in the drawing."""
    across, up = (right - left) or 1, (top - bottom) or 1

    def place(x: float, y: float) -> tuple[float, float]:
        inner_width, inner_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
        middle = 0.5 if right == left else (x - left) / across
        return LEFT + inner_width * middle, HEIGHT - BOTTOM - inner_height * (y - bottom) / up

    return place


def ticks(low: float, high: float, about: int, whole: bool = False) -> list[float]:
    """Round numbers, about so many, that enclose low to high; ``whole`` ones if asked."""
    if high <= low:
        low, high = low - (abs(low) or 1) * 0.5, high + (abs(high) or 1) * 0.5
    step = round_step((high - low) / about, (1, 2, 5, 10) if whole else (1, 2, 2.5, 5, 10))
    step = max(step, 1) if whole else step
    return [n * step for n in range(math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9) + 1)]


def round_step(rough: float, factors: Sequence[float]) -> float:
    """The least of ``factors`` times a power of ten that is at least ``rough``."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * factor for factor in factors if power * factor >= rough * (1 - 1e-9))


def number_text(value: float) -> str:
    if value and abs(value) < 0.01:
        return f"{value:.0e}"
    text = f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) or "0"
