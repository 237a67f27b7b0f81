"""The scores of a validation: their names, which way each is better, and the best of several."""

from __future__ import annotations


def value_of(line: dict[str, float], metric: str) -> float:
    """The early-stopping metric of an epoch, the higher the better."""
    return -line["val_loss"] if metric == "loss" else line[metric]


def best_of(lines: list[dict[str, float]], metric: str) -> dict[str, float]:
    """The epoch whose model is kept as the best, by ``decide``'s rule: the first with the highest value."""
    return max((line for line in lines if "val_loss" in line), key=lambda line: value_of(line, metric))


VALIDATED = ("val_loss", "CIDEr", "BLEU-4", "BLEU", "chrF")
"""What a run may have of a validation, of captions or translations, by the names in its metrics.jsonl."""
