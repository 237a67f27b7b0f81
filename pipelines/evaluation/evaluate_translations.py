"""Translation's part of ``rnncond evaluate``: which translations are meant, and their scores by sacrebleu."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines.console import Outcome
from pipelines.evaluation.translation_metrics import translation_scores
from pipelines.evaluation.translation_results import Translations, from_lines, from_model, from_output
from pipelines.inputs.entries import SHOWN
from rnncond.checkpoint import Trained

RANK, NAME = "chrF", "id"
"""The score that sentences are ranked by (of single ones, BLEU is often 0), and the key of their ids."""


def find(
    trained: Trained | None,
    model: str | None,
    output: str | None,
    hypotheses: str | None,
    references: list[str],
    source: str | None,
    beam: int,
    fingerprint: str | None,
) -> Translations:
    """The translations of one of ``model`` (loaded as ``trained``), ``output`` and ``hypotheses``."""
    if trained is not None:
        return from_model(trained, model, source, references, beam)
    if output is not None:
        return from_output(output, references, fingerprint)
    return from_lines(hypotheses, references, source)


def evaluate(found: Translations, lowercase: bool | None) -> dict[str, Any]:
    """Score; rows get their own scores. Returns what is in evaluation.json.

    A sentence without a translation counts as an empty one: leaving it out would reward giving up.
    """
    folded = lowercase if lowercase is not None else bool(found.lowercase)
    said, meant = [row["translation"] for row in found.rows], [row["references"] for row in found.rows]
    scores = translation_scores(said, meant, folded)
    for row, one in zip(found.rows, scores.per_sentence, strict=True):
        row["scores"] = {name: round(value, 2) for name, value in one.items()}
    return {
        **found.about,
        "kind": "translations",
        "sentences": len(found.rows),
        "missing": found.missing,
        "scores": scores.corpus,
        "signatures": scores.signatures,
        "bleu": scores.bleu,
        "lowercase": folded,
        "comparability": comparability(folded, asked=lowercase is not None, model=found.lowercase),
    }


def comparability(folded: bool, asked: bool, model: bool | None) -> str:
    if not folded:
        return "cased, by sacrebleu" + (", although the model writes lower case" if model else "")
    why = " as the model writes" if model and not asked else ""
    return f"lowercased{why}, by sacrebleu: they compare with lowercased scores only"


def outcome(evaluation: dict[str, Any], missing: list[str], written: str | None) -> Outcome:
    summary = {"sentences": evaluation["sentences"], **evaluation["scores"]}
    if evaluation.get("cut"):
        summary["cut"] = evaluation["cut"]
    summary |= {f"{name} signature": signature for name, signature in evaluation["signatures"].items()}
    summary |= {"BLEU's parts": evaluation["bleu"], "scored": evaluation["comparability"]}
    if written:
        summary["written"] = written
    hint = f"To see the translations:  rnncond report {Path(written).parent}" if written else None
    return Outcome(summary, len(missing), missing[:SHOWN], hint)
