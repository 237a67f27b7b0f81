"""Captions' part of ``rnncond report``: pictures with what was said of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.errors import UserError
from pipelines.evaluation.differences import OTHER_INPUT
from pipelines.evaluation.output import choose
from pipelines.evaluation.results import CAPTIONS
from pipelines.features.preprocess import Preprocess
from pipelines.inputs.caption_formats import Captioned
from pipelines.inputs.captions import read_captions
from pipelines.inputs.matching import match_captions
from pipelines.reporting.gallery import Attention, Card, show
from pipelines.reporting.load import ReportData, by_epoch

TEMPLATE, RANK, UNIT, KIND = "pictures.html", "CIDEr", "pictures", CAPTIONS
NONE = "(no caption)"
"""Of a picture that a set has no row of."""
GROWN = 6
"""Images whose captions are shown epoch by epoch."""

Known = Mapping[str, Captioned]


def references(
    content: ReportData, data: str | None, column: str | None = None, compared: Collection[str] = ()
) -> Known:
    """Examples of --data by the images' ids.

    Args:
        compared: ids that are shown besides those of ``content``.

    Raises:
        UserError: they cannot be read, or a column is named, which captions have not.
    """
    if column:
        raise UserError(f"--column is of translations, and {content.out} has captions; leave it out.")
    ids = {row["image_id"] for row in [*content.rows, *content.samples]} | set(compared)
    examples = read_captions(data) if data else []
    return {example.image_id: example for example in match_captions(examples, ids)} if examples and ids else {}


def cards_of(content: ReportData, known: Known, images: str | None, count: int) -> dict[str, list[Card]]:
    """The pictures shown, by group."""
    preprocess = preprocess_of(content.evaluation)
    groups: dict[str, list[Card]] = {}
    for name, rows in choose(content.rows, count).items():
        groups[name] = [show(card_of(row, known), uris(row, content, known, images), preprocess) for row in rows]
    return groups


def changed(rows: Sequence[Mapping[str, Any]], content: ReportData, known: Known, images: str | None) -> list[Card]:
    """Pictures of which an older model said something else, with both captions."""
    preprocess = preprocess_of(content.evaluation)
    own = {row["image_id"]: row for row in content.rows}
    cards = []
    for row in rows:
        after = NONE if row["after"] is None else row["after"]
        shown = {**own.get(row["id"], {}), "image_id": row["id"], "uri": row["uri"]}
        card = Card(row["id"], after, references_of(shown, known), before=row["before"] or NONE)
        card.other_input = row["change"] == OTHER_INPUT
        cards.append(show(card, uris(shown, content, known, images), preprocess))
    return cards


def card_of(row: Mapping[str, Any], known: Known) -> Card:
    return Card(
        row["image_id"],
        row["caption"],
        references_of(row, known),
        row.get("scores", {}),
        row.get("log_prob"),
        row.get("others", ()),
        attention=attention_of(row.get("attention")),
    )


def references_of(row: Mapping[str, Any], known: Known) -> Sequence[str]:
    """Captions of people: those that it was scored with, or those of --data."""
    example = known.get(row["image_id"])
    return row.get("references") or (example.captions if example else ())


def attention_of(seen: Mapping[str, Any] | None) -> Attention | None:
    if not seen or not seen["pieces"]:  # of a caption without a word there is nothing to draw
        return None
    weights = np.array(seen["weights"])
    if "boxes" in seen:
        return Attention(1, len(seen["boxes"]), seen["pieces"], weights, np.array(seen["boxes"]))
    return Attention(seen["rows"], seen["columns"], seen["pieces"], weights)


def uris(row: Mapping[str, Any], content: ReportData, known: Known, images: str | None) -> list[str]:
    """Where the picture may be, in the order to try."""
    image_id, uri = row["image_id"], row.get("uri") or ""
    file = known[image_id].file if image_id in known else row.get("file", "")
    if images:
        names = [image_id, file, Path(file).name, Path(uri).name]
        return [f"{images.rstrip('/')}/{name}" for name in dict.fromkeys(names) if name]
    beside = Path(content.evaluation.get("data") or "").parent / file
    return [place for place in (uri, str(beside) if file else "") if place]


def preprocess_of(evaluation: Mapping[str, Any]) -> Preprocess | None:
    recipe = (evaluation.get("features") or {}).get("recipe", {})
    if "crop" not in recipe.get("preprocessing", {}):  # a detector sees the whole picture
        return None
    values: dict[str, Any] = {
        name: tuple(v) if isinstance(v, list) else v for name, v in recipe["preprocessing"].items()
    }
    return Preprocess(**values)


def growth(content: ReportData, known: Known, images: str | None) -> list[tuple[Card, list[tuple[int, str]]]]:
    """Some of the validation images with their captions at a few epochs."""
    rows = {row["image_id"]: row for row in content.rows}
    grown = []
    for image_id, stages in list(by_epoch(content.samples, "image_id", "caption").items())[:GROWN]:
        row = rows.get(image_id, {"image_id": image_id})
        grown.append((show(Card(image_id, stages[-1][1]), uris(row, content, known, images), None), stages))
    return grown


def about(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """How the captions were made, as rows of a table."""
    features = evaluation.get("features") or {}
    return {
        "captions of people": evaluation.get("data"),
        "captions scored": evaluation.get("hypotheses"),
        "split": evaluation.get("split"),
        "images": evaluation.get("images"),
        "features": " ".join(filter(None, [features.get("recipe", {}).get("backbone"), features.get("output")])),
        "fingerprint": features.get("fingerprint"),
        "tokenizer": evaluation.get("tokenizer", evaluation.get("tokeniser")),  # so in 0.1.0
    }


def missing(cards: Sequence[Card]) -> list[str]:
    """Cards that lack what they are to show."""
    return [f"{card.image_id}: {card.missing}" for card in cards if card.missing]
