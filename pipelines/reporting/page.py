"""The page of a report: its tiles, curves and notes, from Jinja templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import jinja2

from pipelines.reporting import charts, sentences
from pipelines.reporting.load import Found

TILES = ("CIDEr", "BLEU-4", "METEOR", "ROUGE_L", "SPICE", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU", "chrF", "TER")
"""Scores in the order in which they are shown; others follow."""


CURVES = (
    ("Loss per word", {"training": "train_loss", "validation": "val_loss"}, "min"),
    ("CIDEr", {"CIDEr": "CIDEr"}, "max"),
    ("BLEU-4", {"BLEU-4": "BLEU-4"}, "max"),
    ("BLEU", {"BLEU": "BLEU"}, "max"),
    ("chrF", {"chrF": "chrF"}, "max"),
)


def curves(metrics: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    drawn = []
    for title, lines, best in CURVES:
        series = {
            label: [(line["epoch"], line[key]) for line in metrics if isinstance(line.get(key), int | float)]
            for label, key in lines.items()
        }
        series = {label: points for label, points in series.items() if points}
        if series:
            drawn.append({"title": title, "labels": list(series), "svg": charts.line_chart(series, best)})
    return drawn


def render(half: ModuleType, found: Found, groups: Mapping[str, Sequence], grown: Sequence) -> str:
    scores = found.evaluation.get("scores", {})
    each = [row["scores"][half.RANK] for row in found.rows if half.RANK in row.get("scores", {})]
    model = found.evaluation.get("model", {})
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pipelines.reporting"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["whole_words"] = sentences.whole_words
    return environment.get_template(half.TEMPLATE).render(
        title=model.get("system") or Path(found.out).absolute().name,
        found=found,
        evaluation=found.evaluation,
        model=model,
        unit=half.UNIT,
        rank=half.RANK,
        tiles=[(name, scores[name]) for name in dict.fromkeys([*TILES, *scores]) if name in scores],
        histogram=charts.histogram(each, across=half.RANK, unit=half.UNIT) if len(each) > 1 else None,
        curves=curves(found.metrics),
        groups=groups,
        notes=notes(found.total, half),
        grown=grown,
        settings=settings(found.evaluation, half),
        made=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
    )


def notes(count: int, half: ModuleType) -> dict[str, str]:
    return {
        "Best": f"highest {half.RANK} of {count:,} {half.UNIT}",
        "Middle": f"around the median of {count:,} {half.UNIT}",
        "Worst": f"lowest {half.RANK} of {count:,} {half.UNIT}",
        "Examples": f"spread evenly over {count:,} {half.UNIT}",
    }


def settings(evaluation: Mapping[str, Any], half: ModuleType) -> dict[str, Any]:
    """How what is shown was made, as rows of a table."""
    rows = {
        "model": evaluation.get("model", {}).get("folder"),
        "model id": evaluation.get("model", {}).get("id"),
    }
    rows |= half.about(evaluation)
    rows |= {f"search: {name.replace('_', ' ')}": value for name, value in evaluation.get("search", {}).items()}
    rows |= {f"no {name}": reason for name, reason in evaluation.get("left_out", {}).items()}
    return {name: value for name, value in rows.items() if value not in (None, "", [])}
