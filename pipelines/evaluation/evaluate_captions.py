"""Captions' part of ``rnncond evaluate``: which captions are meant, and their scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines.config.choices import Tokenizer
from pipelines.console import Outcome
from pipelines.errors import UserError
from pipelines.evaluation.caption_metrics import Scores, score, shuffled_cider
from pipelines.evaluation.caption_results import Captions, from_file, from_model, from_output
from pipelines.inputs.entries import SHOWN
from rnncond.checkpoint import Trained

RANK, NAME = "CIDEr", "image_id"
"""The score that images are ranked by, and the key of their ids."""


def find(
    trained: Trained | None,
    model: str | None,
    output: str | None,
    hypotheses: str | None,
    references: list[str],
    store: str | None,
    split: str | None,
    beam: int,
    fingerprint: str | None,
    partial: bool = False,
) -> Captions:
    """The captions of one of ``model`` (loaded as ``trained``), ``output`` and ``hypotheses``."""
    if len(references) > 1:
        raise UserError(
            f"Captions of people are one file, which has all of an image; found {' and '.join(references)}."
        )
    data = references[0] if references else None
    if trained is not None:
        return from_model(trained, model, data, store, split or "val", beam)
    if output is not None:
        return from_output(output, data, split or "val", fingerprint)
    return from_file(hypotheses, data, split, partial)


def evaluate(found: Captions, tokenizer: Tokenizer, shuffled: bool) -> dict[str, Any]:
    """Score; rows get their own scores. Returns what is in evaluation.json."""
    said = {row["image_id"]: row["caption"] for row in found.rows}
    references = {row["image_id"]: row["references"] for row in found.rows}
    scores = score(said, references, tokenizer)
    for row in found.rows:
        row["scores"] = {name: round(value, 2) for name, value in scores.per_image[row["image_id"]].items()}
    evaluation = {**found.about, "images": len(said), "missing": found.missing, **as_json(scores)}
    if shuffled:
        other = shuffled_cider(said, references, tokenizer)
        ratio = scores.corpus["CIDEr"] / other if other else None
        evaluation["shuffled"] = {"CIDEr": other, "ratio": ratio}
    return evaluation


def as_json(scores: Scores) -> dict[str, Any]:
    return {
        "scores": scores.corpus,
        "tokenizer": scores.tokenizer,
        "comparability": scores.comparability,
        "left_out": scores.left_out,
    }


def outcome(evaluation: dict[str, Any], missing: list[str], written: str | None) -> Outcome:
    summary = {"images": evaluation["images"], **evaluation["scores"]}
    if "shuffled" in evaluation:
        summary["CIDEr of shuffled pictures"] = evaluation["shuffled"]["CIDEr"]
        summary["ratio"] = evaluation["shuffled"]["ratio"] or "none: shuffled pictures score nothing"
    summary |= {"tokenizer": evaluation["tokenizer"], "comparability": evaluation["comparability"]}
    for name, reason in evaluation["left_out"].items():
        summary[f"no {name}"] = reason
    if "not_scored" in evaluation:
        summary |= {key.replace("_", " "): count for key, count in evaluation["not_scored"].items()}
    if written:
        summary["written"] = written
    hint = f"To see the captions:  rnncond report {Path(written).parent}" if written else None
    return Outcome(summary, len(missing), missing[:SHOWN], hint)
