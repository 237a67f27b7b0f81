"""What an evaluation writes: evaluation.json and evaluated.jsonl, and which of its rows keep their attention."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.errors import UserError
from pipelines.evaluation.caption_results import Captions
from pipelines.evaluation.translation_results import Translations
from pipelines.files.atomic import replacing, write_whole

SUMMARY, ROWS = "evaluation.json", "evaluated.jsonl"


ATTENDED = 60
"""Images, or sentences, whose attention is kept: the best, middle and worst, as a report shows them."""


def keep(out: Path, evaluation: dict[str, Any], found: Captions | Translations, by: str, name: str) -> None:
    """Write both files, with the attention of those rows that a report shows."""
    if found.attend is not None:
        shown = {row[name]: row for group in choose(found.rows, ATTENDED, by, name).values() for row in group}
        for row in found.attend(list(shown)):
            if "attention" in row:
                shown[row[name]]["attention"] = row["attention"]
    write(out, evaluation, found.rows)


def write(out: Path, evaluation: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        with replacing(out / ROWS) as fresh, open(fresh, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        write_whole(out / SUMMARY, json.dumps(evaluation, indent=1, ensure_ascii=False))
    except OSError as error:
        raise UserError(f"The results cannot be written to {out}: {error}. Say --out ANOTHER.") from None


def choose(rows: Sequence[dict], count: int, by: str = "CIDEr", name: str = "image_id") -> dict[str, list[dict]]:
    """About ``count`` rows, so that nothing is hidden: the best, those around the median, and the worst by a score.

    Without scores: spread evenly over all rows, in their order.

    Args:
        name: key of the rows' ids.
    """
    count = min(count, len(rows))
    if not count:
        return {}
    scored = [row for row in rows if by in row.get("scores", {})]
    if len(scored) < len(rows):
        places = np.linspace(0, len(rows) - 1, count).round().astype(int)
        return {"Examples": [rows[place] for place in places]}
    ranked = sorted(rows, key=lambda row: (-row["scores"][by], row[name]))
    end = count // 3
    between = ranked[end : len(ranked) - end]
    start = (len(between) - (count - 2 * end)) // 2
    groups = {
        "Best": ranked[:end],
        "Middle": between[start : start + count - 2 * end],
        "Worst": ranked[len(ranked) - end :],
    }
    return {name: group for name, group in groups.items() if group}
