"""The page of a search: its trials as a table, in parallel coordinates, and as curves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from pipelines.config.metrics import rank_of_trial, value_of
from pipelines.config.search_space import read_search
from pipelines.config.tuning_sections import Dimension
from pipelines.console import in_time
from pipelines.errors import UserError
from pipelines.reporting import charts
from pipelines.reporting.templating import environment
from pipelines.training.run.info import read_run
from pipelines.tuning.trials import Record, records

CURVES = 40
"""Trials of which curves are drawn, the best."""
LAST = "~"
"""Behind every date: of a trial that has not ended."""


def is_search(out: str | Path) -> bool:
    return (Path(out) / "search.yaml").is_file()


def page_of(out: str | Path, beside: str | None = None) -> tuple[str, int]:
    """The page as HTML, and how many trials it has.

    Args:
        beside: the name of a page of what the best model writes, to lead to.

    Raises:
        UserError: a file is not as it was written.
    """
    folder = Path(out)
    try:
        run, found = read_run(folder), records(folder)
        search = read_search(str(folder / "search.yaml"))
        metric, space = search.metric, search.settings.space
        recipe = (folder / "recipe.yaml").read_text(encoding="utf-8")
    except (ValueError, OSError, KeyError) as error:
        raise UserError(f"{out} has a damaged file: {error}. Run `rnncond tune` again.") from None
    if run.get("status") != "running":
        for record in found:
            record.status = record.status if record.done else "interrupted"
    shown = {record.name: record for record in found}
    rows = ranked([record.row(metric) for record in found], metric)
    name = "validation loss" if metric == "loss" else metric
    templates = environment()
    templates.filters["short"] = short
    keys = list(rows[0]["params"]) if rows else []
    names = last_parts(keys)
    page = templates.get_template("search.html").render(
        title=folder.absolute().name, out=out, run=run, metric=name, rows=rows, keys=keys, names=names,
        best=rows[0] if rows and rows[0]["score"] is not None else None,
        stopped=sum(row["status"] == "stopped" for row in rows),
        failed=[row for row in rows if row["status"] == "failed"],
        to_begin=max(search.count() - len(rows), 0),
        epochs=sum(row["epochs"] for row in rows),
        time=in_time(sum(row["seconds"] for row in rows)),
        parallel=parallel(rows, names, space, name, metric),
        curves=curves([shown[row["trial"]] for row in rows[:CURVES]], metric),
        progress=progress(found, metric),
        beside=beside,
        recipe=recipe,
        made=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
    )  # fmt: skip
    return page, len(rows)


def ranked(rows: list[dict[str, Any]], metric: str) -> list[dict[str, Any]]:
    """The best first; trials without a score last."""
    scored = [row for row in rows if row["score"] is not None]
    scored.sort(key=lambda row: rank_of_trial(row, metric), reverse=True)
    return scored + [row for row in rows if row["score"] is None]


def last_parts(keys: list[str]) -> dict[str, str]:
    """Of each key the part behind its section, where there is room for no more; the whole key if two end alike."""
    lasts = [key.rpartition(".")[2] for key in keys]
    return {key: last if lasts.count(last) == 1 else key for key, last in zip(keys, lasts, strict=True)}


def parallel(
    rows: list[dict[str, Any]], names: dict[str, str], space: Mapping[str, Dimension], name: str, metric: str
) -> str | None:
    """A line for each trial with a score, over an axis for each key and one for the score, the best drawn last."""
    scored = [row for row in rows if row["score"] is not None]
    if len(scored) < 2:
        return None
    axes = {shown: [row["params"][key] for row in scored] for key, shown in names.items()}
    axes |= {name: [row["score"] for row in scored]}
    labels = [row["trial"] for row in scored]
    logarithmic = [shown for key, shown in names.items() if space[key].log]
    choices = [shown for key, shown in names.items() if space[key].choices]
    return charts.parallel(axes, labels, logarithmic, metric == "loss", choices)


def curves(found: list[Record], metric: str) -> str | None:
    """The score over epochs, a line a trial, the best marked."""
    series = {}
    for record in found:
        points = [
            (line["epoch"], abs(value_of(line, metric)) if metric == "loss" else line[metric])
            for line in record.lines
            if "val_loss" in line
        ]
        if points:
            series[f"trial {record.name}"] = points
    if not any(len(points) > 1 for points in series.values()):  # trials of one epoch
        return None
    return charts.line_chart(dict(reversed(series.items())), "min" if metric == "loss" else "max", only_last=True)


def progress(found: list[Record], metric: str) -> str | None:
    """The best score by what it cost: the minutes that the trials so far trained, in the order in which they ended."""
    best: list[tuple[float, float]] = []
    minutes = 0.0
    for record in sorted(found, key=lambda record: (record.run.get("ended", LAST), record.name)):
        row = record.row(metric)
        minutes += row["seconds"] / 60
        if row["score"] is not None:
            before = [best[-1][1]] if best else []
            best.append((minutes, (min if metric == "loss" else max)([row["score"], *before])))
    if len(best) < 2:
        return None
    across = "minutes of training, of all trials that ended"
    return charts.line_chart({"best": best}, "min" if metric == "loss" else "max", across=across)


def short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)
