"""Scores of translations against references by sacrebleu: BLEU (Papineni et al. 2002), chrF (Popović 2015) and TER
(Snover et al. 2006), each with the signature that says how it was computed, so that scores of others compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

from sacrebleu.metrics import BLEU, CHRF, TER

from pipelines.errors import UserError


@dataclass(frozen=True)
class TextScores:
    """Attributes:
    corpus: score of the whole set by name, from 0 to 100; less is better for TER alone, which may exceed 100.
    signatures: sacrebleu's, by the same names.
    bleu: the precisions, the brevity penalty and the lengths that BLEU is made of.
    per_sentence: BLEU (of the n-grams that a sentence is long enough for) and chrF, in the sentences' order.
    """

    corpus: dict[str, float]
    signatures: dict[str, str]
    bleu: str
    per_sentence: list[dict[str, float]]


def translation_scores(
    translations: Sequence[str], references: Sequence[Sequence[str]], lowercase: bool = False
) -> TextScores:
    """Everything that is known of how good translations are.

    Args:
        references: one or several of each sentence.
        lowercase: score without regard to case.

    Raises:
        UserError: there is nothing to score, or not as many of one as of the other.
    """
    if len(translations) != len(references) or not translations:
        raise UserError(
            f"There are {len(translations):,} translations and references of {len(references):,} sentences; expected "
            "as many, and at least one."
        )
    streams = list(zip_longest(*references))
    metrics = {"BLEU": BLEU(lowercase=lowercase), "chrF": CHRF(lowercase=lowercase), "TER": TER(
        case_sensitive=not lowercase
    )}  # fmt: skip
    found = {name: metric.corpus_score(translations, streams) for name, metric in metrics.items()}
    single = {"BLEU": BLEU(lowercase=lowercase, effective_order=True), "chrF": metrics["chrF"]}
    return TextScores(
        {name: score.score for name, score in found.items()},
        {name: str(metric.get_signature()) for name, metric in metrics.items()},
        str(found["BLEU"]).partition(" = ")[2].partition(" ")[2],
        [
            {name: metric.sentence_score(said, list(meant)).score for name, metric in single.items()}
            for said, meant in zip(translations, references, strict=True)
        ],
    )
