"""The page of a report: its tiles, curves and notes, from Jinja templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from pipelines.evaluation.output import about_bleu, about_seen, scored
from pipelines.reporting import charts, sentences
from pipelines.reporting.load import ReportData
from pipelines.reporting.templating import environment

TILES = ("CIDEr", "BLEU-4", "METEOR", "ROUGE_L", "SPICE", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU", "chrF", "TER")
"""Scores in the order in which they are shown; others follow."""


CURVES: tuple[tuple[str, dict[str, str], Literal["max", "min"]], ...] = (
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
            label: [(line["epoch"], round(line[key], 3)) for line in metrics if isinstance(line.get(key), int | float)]
            for label, key in lines.items()
        }
        series = {label: points for label, points in series.items() if points}
        if any(len(points) > 1 for points in series.values()):  # one epoch is no curve
            drawn.append({"title": title, "labels": list(series), "svg": charts.line_chart(series, best)})
    return drawn


def render(part: ModuleType, content: ReportData, groups: Mapping[str, Sequence[Any]], grown: Sequence[Any]) -> str:
    scores = content.evaluation.get("scores", {})
    each = [row["scores"][part.RANK] for row in content.rows if part.RANK in row.get("scores", {})]
    model = content.evaluation.get("model", {})
    templates = environment()
    templates.filters["whole_words"] = sentences.whole_words
    return templates.get_template(part.TEMPLATE).render(
        title=model.get("system") or Path(content.out).absolute().name,
        content=content,
        evaluation=content.evaluation,
        model=model,
        scored=scored(content.evaluation),
        unit=part.UNIT,
        rank=part.RANK,
        tiles=[(name, scores[name]) for name in dict.fromkeys([*TILES, *scores]) if name in scores],
        histogram=charts.histogram(each, across=part.RANK, unit=part.UNIT) if len(each) > 1 else None,
        curves=curves(content.metrics),
        groups=groups,
        notes=notes(content.total, part) | content.notes,
        grown=grown,
        settings=settings(content.evaluation, part),
        made=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
    )


def notes(count: int, part: ModuleType) -> dict[str, str]:
    return {
        "Best": f"highest {part.RANK} of {count:,} {part.UNIT}",
        "Middle": f"around the median of {count:,} {part.UNIT}",
        "Worst": f"lowest {part.RANK} of {count:,} {part.UNIT}",
        "Examples": f"spread evenly over {count:,} {part.UNIT}",
    }


def settings(evaluation: Mapping[str, Any], part: ModuleType) -> dict[str, Any]:
    """How what is shown was made, as rows of a table."""
    rows = {
        "model": evaluation.get("model", {}).get("folder"),
        "model id": evaluation.get("model", {}).get("id"),
    }
    rows |= part.about(evaluation)
    if "brevity_penalty" in evaluation:
        rows |= about_bleu(evaluation) | about_seen(evaluation, part.UNIT)
    rows |= {f"search: {name.replace('_', ' ')}": value for name, value in evaluation.get("search", {}).items()}
    rows |= {f"no {name}": reason for name, reason in evaluation.get("left_out", {}).items()}
    return {name: value for name, value in rows.items() if value not in (None, "", [])}
