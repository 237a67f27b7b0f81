"""``rnncond report``: one HTML page of a training run or of captioned images, which needs no other file and no network.

OUT is a run's folder (metrics.jsonl, samples.jsonl, recipe.yaml, and evaluation.json with evaluated.jsonl where
``rnncond evaluate`` was run) or what ``rnncond caption`` wrote. Each part of the page is there where its data are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import jinja2
import numpy as np
import typer

from pipelines import charts
from pipelines.captions import Captioned, join, read_captions
from pipelines.console import Outcome, UserError
from pipelines.evaluate import ROWS, SUMMARY
from pipelines.gallery import Attention, Card, choose, show
from pipelines.hypotheses import about_output, open_output, output_kinds, spread
from pipelines.images import Preprocess
from pipelines.journal import read_lines

app = typer.Typer(rich_markup_mode="rich", add_completion=False)

TILES = ("CIDEr", "BLEU-4", "METEOR", "ROUGE_L", "SPICE", "BLEU-1", "BLEU-2", "BLEU-3")
CURVES = (
    ("Loss per word", {"training": "train_loss", "validation": "val_loss"}, "min"),
    ("CIDEr", {"CIDEr": "CIDEr"}, "max"),
    ("BLEU-4", {"BLEU-4": "BLEU-4"}, "max"),
)
GROWN = 6
"""Images whose captions are shown epoch by epoch."""
STAGES = 5
"""Epochs shown of each."""


@dataclass
class Found:
    """What OUT has; anything may be missing. ``total`` counts the captions of which ``rows`` are some or all."""

    out: str
    total: int = 0
    evaluation: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)
    run: dict[str, Any] = field(default_factory=dict)
    recipe: str = ""
    failures: list[str] = field(default_factory=list)


EXAMPLES = """
Examples:

  rnncond report runs/show_attend_tell

  rnncond report captioned --data captions.jsonl --to captioned.html --count 60
"""


@app.command(epilog=EXAMPLES)
def run(
    out: Annotated[str, typer.Argument(help="a run's folder, or the output of `rnncond caption`")],
    images: Annotated[str | None, typer.Option(help="folder of the pictures, where they have moved")] = None,
    data: Annotated[str | None, typer.Option(help="captions of people, to show beside the model's")] = None,
    to: Annotated[str | None, typer.Option(help="the page; by default OUT/report.html")] = None,
    count: Annotated[int, typer.Option(help="pictures shown", min=1)] = 24,
    fingerprint: Annotated[str | None, typer.Option("--set", help="which captions, where OUT has several")] = None,
) -> Outcome:
    """One self-contained HTML page: pictures, captions, attention, curves and scores."""
    if "://" in out and not to:
        raise UserError(f"The page is written to a local file, not to {out}; say --to FILE.")
    found = read(out, count, fingerprint)
    examples = read_captions(data) if data else []
    groups = cards_of(found, examples, images, count)
    page = render(found, groups, growth(found, examples, images))
    path = Path(to or f"{out}/report.html")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UserError(f"The page cannot be written to {path}: {error}. Say --to ANOTHER.") from None
    cards = [card for group in groups.values() for card in group]
    missing = [f"{card.image_id}: {card.missing}" for card in cards if card.missing]
    summary = {"page": str(path.absolute()), "megabytes": len(page) / 1e6, "pictures": len(cards)}
    hint = "If the pictures have moved, say --images FOLDER." if missing else None
    return Outcome(summary, len(missing), missing[:5], hint)


def read(out: str, count: int, fingerprint: str | None = None) -> Found:
    """Everything in OUT that the page shows; of captions that were not scored, ``count`` spread over all.

    Raises:
        UserError: there is nothing to show, or a file is not as it was written.
    """
    found = Found(out)
    folder = Path(out)
    try:
        found.evaluation, found.run = read_object(folder / SUMMARY), read_object(folder / "run.json")
        found.rows = read_lines(folder / ROWS)
        found.metrics, found.samples = read_lines(folder / "metrics.jsonl"), read_lines(folder / "samples.jsonl")
        found.recipe = (folder / "recipe.yaml").read_text(encoding="utf-8") if (folder / "recipe.yaml").exists() else ""
    except (ValueError, OSError) as error:
        raise UserError(f"{out} has a damaged file: {error}. Run the verb that wrote it again.") from None
    found.failures, found.total = list(found.evaluation.get("missing", [])), len(found.rows)
    if not found.rows and "captions" in output_kinds(out):
        dataset = open_output(out, fingerprint)
        snapshot = dataset.snapshot()
        found.rows, found.total = list(spread(dataset, count)), snapshot.rows
        found.evaluation = about_output(dataset) | {"images": snapshot.rows}
        found.failures = [
            f"{row['image_id']}: {row['stage']}: {row['reason']}" for row in snapshot.failures().to_pylist()
        ]
    if not (found.rows or found.metrics):
        raise UserError(
            f"{out} has nothing to show: no run of `rnncond train`, no results of `rnncond evaluate`, and no output of "
            "`rnncond caption`."
        )
    return found


def read_object(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def cards_of(found: Found, examples: Sequence[Captioned], images: str | None, count: int) -> dict[str, list[Card]]:
    """The pictures shown, by group."""
    known = references(found, examples)
    preprocess = preprocess_of(found.evaluation)
    groups: dict[str, list[Card]] = {}
    for name, rows in choose(found.rows, count).items():
        groups[name] = [show(card_of(row, known), uris(row, found, known, images), preprocess) for row in rows]
    return groups


def references(found: Found, examples: Sequence[Captioned]) -> dict[str, Captioned]:
    """Examples of --data by the images' ids."""
    ids = {row["image_id"] for row in [*found.rows, *found.samples]}
    return {example.image_id: example for example in join(list(examples), ids)} if examples and ids else {}


def card_of(row: Mapping[str, Any], known: Mapping[str, Captioned]) -> Card:
    image_id = row["image_id"]
    said = row.get("references") or (known[image_id].captions if image_id in known else ())
    seen = row.get("attention")
    return Card(
        image_id,
        row["caption"],
        said,
        row.get("scores", {}),
        row.get("log_prob"),
        row.get("others", ()),
        attention=seen and Attention(seen["rows"], seen["columns"], seen["pieces"], np.array(seen["weights"])),
    )


def uris(row: Mapping[str, Any], found: Found, known: Mapping[str, Captioned], images: str | None) -> list[str]:
    """Where the picture may be, in the order to try."""
    image_id, uri = row["image_id"], row.get("uri") or ""
    file = known[image_id].file if image_id in known else row.get("file", "")
    if images:
        names = [image_id, file, Path(file).name, Path(uri).name]
        return [f"{images.rstrip('/')}/{name}" for name in dict.fromkeys(names) if name]
    beside = Path(found.evaluation.get("data") or "").parent / file
    return [place for place in (uri, str(beside) if file else "") if place]


def preprocess_of(evaluation: Mapping[str, Any]) -> Preprocess | None:
    recipe = (evaluation.get("features") or {}).get("recipe", {})
    if "preprocessing" not in recipe:
        return None
    values = {name: tuple(v) if isinstance(v, list) else v for name, v in recipe["preprocessing"].items()}
    return Preprocess(**values)


def growth(found: Found, examples: Sequence[Captioned], images: str | None) -> list[tuple[Card, list[tuple[int, str]]]]:
    """Some of the validation images with their captions at a few epochs, from the first to the last."""
    epochs = sorted({sample["epoch"] for sample in found.samples})
    if len(epochs) < 2:
        return []
    chosen = sorted({epochs[round(place)] for place in np.linspace(0, len(epochs) - 1, STAGES)})
    known = references(found, examples)
    rows = {row["image_id"]: row for row in found.rows}
    by_image: dict[str, list[tuple[int, str]]] = {}
    for sample in found.samples:
        if sample["epoch"] in chosen:
            by_image.setdefault(sample["image_id"], []).append((sample["epoch"], sample["caption"]))
    grown = []
    for image_id, stages in list(by_image.items())[:GROWN]:
        row = rows.get(image_id, {"image_id": image_id})
        grown.append((show(Card(image_id, stages[-1][1]), uris(row, found, known, images), None), stages))
    return grown


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


def render(found: Found, groups: Mapping[str, Sequence[Card]], grown: Sequence) -> str:
    scores = found.evaluation.get("scores", {})
    each = [row["scores"]["CIDEr"] for row in found.rows if "CIDEr" in row.get("scores", {})]
    model = found.evaluation.get("model", {})
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pipelines"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("report.html").render(
        title=model.get("system") or Path(found.out).absolute().name,
        found=found,
        evaluation=found.evaluation,
        model=model,
        tiles=[(name, scores[name]) for name in TILES if name in scores],
        histogram=charts.histogram(each) if len(each) > 1 else None,
        curves=curves(found.metrics),
        groups=groups,
        notes=notes(found.total),
        grown=grown,
        settings=settings(found.evaluation),
        made=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
    )


def notes(count: int) -> dict[str, str]:
    return {
        "Best": f"highest CIDEr of {count:,} pictures",
        "Middle": f"around the median of {count:,} pictures",
        "Worst": f"lowest CIDEr of {count:,} pictures",
        "Examples": f"spread evenly over {count:,} pictures",
    }


def settings(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """How the captions were made, as rows of a table."""
    features = evaluation.get("features") or {}
    rows = {
        "model": evaluation.get("model", {}).get("folder"),
        "model id": evaluation.get("model", {}).get("id"),
        "captions of people": evaluation.get("data"),
        "captions scored": evaluation.get("hypotheses"),
        "split": evaluation.get("split"),
        "images": evaluation.get("images"),
        "features": " ".join(filter(None, [features.get("recipe", {}).get("backbone"), features.get("output")])),
        "fingerprint": features.get("fingerprint"),
        "tokeniser": evaluation.get("tokeniser"),
    }
    rows |= {f"search: {name.replace('_', ' ')}": value for name, value in evaluation.get("search", {}).items()}
    rows |= {f"no {name}": reason for name, reason in evaluation.get("left_out", {}).items()}
    return {name: value for name, value in rows.items() if value not in (None, "", [])}
