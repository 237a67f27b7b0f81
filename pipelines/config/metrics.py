"""The scores of a validation: their names, which way each is better, and the best of several."""

from __future__ import annotations

import math
import re
from typing import Any, Literal, get_args

from pipelines.config.choices import Tokenizer

CaptionMetric = Literal["CIDEr", "BLEU-4", "loss"]
PairMetric = Literal["BLEU", "chrF", "loss"]
"""What may choose the best epoch and end a training early."""

BLEU_TOKENIZERS: tuple[str, ...] = get_args(Tokenizer)[3:]
"""Those of sacrebleu."""
BY_LANGUAGE = {
    "zh": "zh", "yue": "zh", "ja": "ja-mecab", "ko": "ko-mecab", "th": "char", "lo": "char", "km": "char", "my": "char",
    "bo": "char",
}  # fmt: skip
"""Languages that 13a, which parts words at blanks, does not fit; those of zh, ja and ko are sacrebleu's own choice."""


def language(tag: str) -> str:
    """``tag``, if it is the tag of a language, as ``de`` or ``zh-Hant``. Raises ValueError."""
    if not re.fullmatch(r"[a-z]{2,3}([-_][A-Za-z0-9]+)*", tag):
        raise ValueError(f"found {tag!r}, expected a language's tag, as en, de, zh or pt-BR")
    return tag


def tokenizer_of(language: str | None) -> str:
    """The tokenizer that scores of a language are computed with unless the user says."""
    return BY_LANGUAGE.get(re.split("[-_]", language)[0], "13a") if language else "13a"


def value_of(line: dict[str, float], metric: str) -> float:
    """The early-stopping metric of an epoch, the higher the better."""
    return -line["val_loss"] if metric == "loss" else line[metric]


def rank_of(line: dict[str, Any], metric: str) -> tuple[float, float]:
    """What validated epochs, or trials, are compared by, the higher the better: the metric, and among equals the loss.
    BLEU is 0 in all early epochs of a training that makes progress nevertheless."""
    return value_of(line, metric), -line["val_loss"]


def best_of(lines: list[dict[str, Any]], metric: str) -> dict[str, Any] | None:
    """The epoch whose model is kept as the best: the first with the highest ``rank_of``; None before the first that was
    validated."""
    validated = (line for line in lines if "val_loss" in line)
    return max(validated, key=lambda line: rank_of(line, metric), default=None)


def rank_of_trial(row: dict[str, Any], metric: str) -> tuple[float, float]:
    """``rank_of`` the best epoch of a line of trials.jsonl that has a score."""
    line = {metric: row["score"], "val_loss": row["score"] if metric == "loss" else row.get("val_loss", math.inf)}
    return rank_of(line, metric)


VALIDATED = ("val_loss", *(name for name in (*get_args(CaptionMetric), *get_args(PairMetric)) if name != "loss"))
"""What a run may have of a validation, of captions or translations, by the names in its metrics.jsonl."""
