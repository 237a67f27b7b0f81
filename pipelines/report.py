"""``rnncond report``: one HTML page of a training run, or of captions or translations, which needs no other file and no
network; or of a search (``report_search``).

OUT is a run's folder (metrics.jsonl, samples.jsonl, recipe.yaml, and evaluation.json with evaluated.jsonl where
``rnncond evaluate`` was run) or what ``rnncond caption`` or ``rnncond translate`` wrote. Each part of the page is there
where its data are. ``report_pictures`` has what is shown of captions, ``report_text`` of translations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import jinja2
import typer

from pipelines import charts, report_pictures, report_search, report_text
from pipelines.console import Outcome, UserError
from pipelines.journal import read_run
from pipelines.report_data import Found, read
from pipelines.tracking import log_page

app = typer.Typer(rich_markup_mode="rich", add_completion=False)

TILES = ("CIDEr", "BLEU-4", "METEOR", "ROUGE_L", "SPICE", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU", "chrF", "TER")
CURVES = (
    ("Loss per word", {"training": "train_loss", "validation": "val_loss"}, "min"),
    ("CIDEr", {"CIDEr": "CIDEr"}, "max"),
    ("BLEU-4", {"BLEU-4": "BLEU-4"}, "max"),
    ("BLEU", {"BLEU": "BLEU"}, "max"),
    ("chrF", {"chrF": "chrF"}, "max"),
)

EXAMPLES = """
Examples:

  rnncond report runs/show_attend_tell

  rnncond report runs/show_tell.small.search

  rnncond report captioned --data captions.jsonl --to captioned.html --count 60

  rnncond report translated --data test.de
"""


@app.command(epilog=EXAMPLES)
def run(
    out: Annotated[
        str, typer.Argument(help="a run's or a search's folder, or what `rnncond caption` or `rnncond translate` wrote")
    ],
    images: Annotated[str | None, typer.Option(help="folder of the pictures, where they have moved")] = None,
    data: Annotated[
        str | None, typer.Option(help="captions or translations of people, to show beside the model's")
    ] = None,
    to: Annotated[str | None, typer.Option(help="the page; by default OUT/report.html")] = None,
    count: Annotated[int, typer.Option(help="pictures or sentences shown", min=1)] = 24,
    fingerprint: Annotated[str | None, typer.Option("--set", help="which set, where OUT has several")] = None,
) -> Outcome:
    """One self-contained HTML page: pictures or sentences with what was said, attention, curves and scores."""
    if "://" in (to or out):
        raise UserError(f"The page is written to a local file, not to {to or out}; say --to FILE.")
    if report_search.is_search(out):
        page, trials = report_search.page_of(out)
        path = keep(page, out, to)
        return Outcome({"page": str(path.absolute()), "megabytes": len(page) / 1e6, "trials": trials})
    found = read(out, count, fingerprint)
    half = report_text if found.is_text else report_pictures
    known = half.references(found, data)
    groups = half.cards_of(found, known, images, count)
    page = render(half, found, groups, half.growth(found, known, images))
    path = keep(page, out, to)
    cards = [card for group in groups.values() for card in group]
    missing = half.missing(cards)
    summary = {"page": str(path.absolute()), "megabytes": len(page) / 1e6, half.UNIT: len(cards)}
    hint = "If the pictures have moved, say --images FOLDER." if missing else None
    return Outcome(summary, len(missing), missing[:5], hint)


def keep(page: str, out: str, to: str | None) -> Path:
    """Write the page, whole or not at all, and give it to MLflow."""
    path = Path(to or f"{out}/report.html")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}.new")
        fresh.write_text(page, encoding="utf-8")
        fresh.replace(path)  # whole, or as it was
    except OSError as error:
        raise UserError(f"The page cannot be written to {path}: {error}. Say --to ANOTHER.") from None
    log_page(read_run(out), path)
    return path


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
        loader=jinja2.PackageLoader("pipelines"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["whole_words"] = report_text.whole_words
    return environment.get_template(half.TEMPLATE).render(
        title=model.get("system") or Path(found.out).absolute().name,
        found=found,
        evaluation=found.evaluation,
        model=model,
        unit=half.UNIT,
        rank=half.RANK,
        tiles=[(name, scores[name]) for name in TILES if name in scores],
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
