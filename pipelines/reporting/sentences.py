"""Translation's part of ``rnncond report``: sentences, their translations, and the attention between the two."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from markupsafe import Markup

from pipelines.errors import UserError
from pipelines.evaluation.differences import OTHER_INPUT
from pipelines.evaluation.output import choose
from pipelines.evaluation.results import TRANSLATIONS
from pipelines.evaluation.translation_files import check_lengths, is_table, read_references
from pipelines.evaluation.translation_results import unmatched
from pipelines.reporting import charts
from pipelines.reporting.load import ReportData, by_epoch

TEMPLATE, RANK, UNIT, KIND = "sentences.html", "chrF", "sentences", TRANSLATIONS
NONE = "(no translation)"
"""Of a sentence that a set has no row of."""
GROWN = 6
"""Sentences whose translations are shown epoch by epoch."""
DECIMALS = 3

Known = Mapping[str, Sequence[str]]


@dataclass
class Sentence:
    """A translation and what belongs to it.

    Attributes:
        pieces, source_pieces: what translation and source are made of; empty without attention.
        weights: (pieces, source pieces), each row sums to 1; (0, 0) without attention.
        before: what an older model made of it, None where that is not asked.
        source_before: the sentence that ``before`` was made of, None where that is the same.
    """

    id: str
    translation: str
    source: str = ""
    references: Sequence[str] = ()
    scores: Mapping[str, float] = field(default_factory=dict)
    log_prob: float | None = None
    others: Sequence[str] = ()
    pieces: Sequence[str] = ()
    source_pieces: Sequence[str] = ()
    weights: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    before: str | None = None
    source_before: str | None = None

    def matrix(self) -> Markup:
        """Attention, the translation down and the source across."""
        return charts.matrix(labels(self.pieces), labels(self.source_pieces), self.weights)

    def data(self) -> list[list[float]]:
        """What the page's script shades the source by."""
        return np.round(self.weights, DECIMALS).tolist()

    def facts(self) -> str:
        known = [f"{name} {value:.1f}" for name, value in self.scores.items() if name != RANK]
        known += [f"log P {self.log_prob:.2f}"] if self.log_prob is not None else []
        return " · ".join([*known, self.id])


def references(
    content: ReportData, data: str | None, column: str | None = None, compared: Collection[str] = ()
) -> Known:
    """Translations of --data by the sentences' ids.

    Args:
        compared: ids that are shown besides those of ``content``.

    Raises:
        UserError: they cannot be read, or are of other sentences than what a verb wrote to OUT.
    """
    if data is None:
        return {}
    known = dict(read_references([data], column))
    own = [*(row["id"] for row in content.rows), *compared]
    if own and not is_table(data):
        failed = 0 if "scores" in content.evaluation else len(content.failures)  # scored rows have what failed, too
        check_lengths(content.total + failed, content.out, len(known), [data])
    if own and known.keys().isdisjoint(own):
        raise unmatched(content.out, min(known), data, own[0])
    return known


def cards_of(content: ReportData, known: Known, images: str | None, count: int) -> dict[str, list[Sentence]]:
    """The sentences shown, by group."""
    if images:
        raise UserError(f"--images is where pictures are, and {content.out} has translations; leave it out.")
    chosen = choose(content.rows, count, TRANSLATIONS)
    return {name: [sentence_of(row, known) for row in rows] for name, rows in chosen.items()}


def changed(rows: Sequence[Mapping[str, Any]], content: ReportData, known: Known, images: str | None) -> list[Sentence]:
    """Sentences that an older model translated otherwise, with both translations."""
    own = {row["id"]: row.get("references", ()) for row in content.rows}
    return [
        Sentence(
            row["id"],
            NONE if row["after"] is None else row["after"],
            row.get("source") or "",
            own.get(row["id"]) or known.get(row["id"], ()),
            before=row["before"] or NONE,
            source_before=row["source_before"] if row["change"] == OTHER_INPUT else None,
        )
        for row in rows
    ]


def sentence_of(row: Mapping[str, Any], known: Known) -> Sentence:
    seen = row.get("attention") or {}
    if not seen.get("pieces"):  # of a translation without a word there is nothing to draw
        seen = {}
    return Sentence(
        row["id"],
        row["translation"],
        row.get("source", ""),
        row.get("references") or known.get(row["id"], ()),
        row.get("scores", {}),
        row.get("log_prob"),
        row.get("others", ()),
        seen.get("pieces", ()),
        seen.get("source_pieces", ()),
        np.array(seen["weights"], float) if seen else np.zeros((0, 0)),
    )


def whole_words(pieces: Sequence[str]) -> list[list[str]]:
    """Pieces without blanks, those together that no blank parts."""
    words: list[list[str]] = []
    for piece in pieces:
        if not words or piece.startswith(" "):
            words.append([])
        words[-1].append(piece.strip())
    return words


def labels(pieces: Sequence[str]) -> list[str]:
    """Pieces without blanks; one that goes on with a word begins with a dot."""
    inside = [bool(n and pieces[n - 1][-1:].isalnum() and piece[:1].isalnum()) for n, piece in enumerate(pieces)]
    return ["·" * goes_on + piece.strip() for goes_on, piece in zip(inside, pieces, strict=True)]


def growth(content: ReportData, known: Known, images: str | None) -> list[tuple[Sentence, list[tuple[int, str]]]]:
    """Some of the validation sentences with their translations at a few epochs."""
    last = {sample["id"]: sample for sample in content.samples}
    stages = list(by_epoch(content.samples, "id", "translation").items())[:GROWN]
    return [(sentence_of(last[name], known), said) for name, said in stages]


def about(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """How the translations were made and scored, as rows of a table."""
    rows = {
        "source": evaluation.get("source"),
        "references": ", ".join(evaluation.get("references", [])),
        "translations scored": evaluation.get("hypotheses") or evaluation.get("translations"),
        "corpus": evaluation.get("corpus"),
        "sentences": evaluation.get("sentences"),
        "longest source": evaluation.get("max_source_length"),
        "longer ones": evaluation.get("too_long"),
        "cut": evaluation.get("cut"),
        "UNK": "replaced by the source word attended most" if evaluation.get("unk_replace") else None,
        "tokenizer": evaluation.get("tokenizer"),
        "BLEU's parts": evaluation.get("bleu"),
    }
    return rows | {f"{name} signature": signature for name, signature in evaluation.get("signatures", {}).items()}
