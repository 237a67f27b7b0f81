"""Scores of translations against references by sacrebleu: BLEU (Papineni et al. 2002), chrF (Popović 2015) and TER
(Snover et al. 2006), each with the signature that says how it was computed, so that scores of others compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER

from pipelines.errors import UserError
from pipelines.evaluation.sacrebleu_tokenizers import bleu_of

ASIAN = ("zh", "ja-mecab", "ko-mecab")
"""Tokenizers of languages for which TER has rules of its own."""
BLANKS = ("13a", "intl", "none")
"""Tokenizers of languages whose words are parted by blanks, which TER counts."""


@dataclass(frozen=True)
class TranslationScores:
    """Attributes:
    corpus: score of the whole set by name, from 0 to 100; less is better for TER alone, which may exceed 100.
    signatures: sacrebleu's, by the same names.
    brevity_penalty: what BLEU was multiplied by because the translations are shorter; 1 where they are not.
    without_brevity_penalty: BLEU without it.
    bleu: the precisions, the brevity penalty and the lengths that BLEU is made of.
    length_ratio: words of the translations to those of the references, as BLEU counts them; 0 where there are none.
    per_sentence: BLEU (of the n-grams that a sentence is long enough for) and chrF, in the sentences' order.
    """

    corpus: dict[str, float]
    signatures: dict[str, str]
    brevity_penalty: float
    without_brevity_penalty: dict[str, float]
    bleu: str
    length_ratio: float
    per_sentence: list[dict[str, float]]


def ter_of(tokenizer: str, lowercase: bool = False) -> TER:
    """sacrebleu's TER for text whose BLEU takes ``tokenizer``, one of ``BLANKS + ASIAN``."""
    asian = tokenizer in ASIAN
    return TER(case_sensitive=not lowercase, normalized=asian, asian_support=asian)


def translation_scores(
    translations: Sequence[str],
    references: Sequence[Sequence[str]],
    lowercase: bool = False,
    tokenizer: str = "13a",
) -> TranslationScores:
    """All scores of translations. TER is left out with a tokenizer of characters or pieces: it counts words.

    Args:
        references: one or several of each sentence.
        lowercase: score without regard to case.
        tokenizer: sacrebleu's, for BLEU.

    Raises:
        UserError: there is nothing to score, or not as many of one as of the other, or the tokenizer is not installed.
    """
    if len(translations) != len(references) or not translations:
        raise UserError(
            f"There are {len(translations):,} translations and references of {len(references):,} sentences; expected "
            "as many, and at least one."
        )
    streams = list(zip_longest(*references))
    metrics: dict[str, Any] = {"BLEU": bleu_of(tokenizer, lowercase), "chrF": CHRF(lowercase=lowercase)}
    if tokenizer in BLANKS + ASIAN:
        metrics["TER"] = ter_of(tokenizer, lowercase)
    scores = {name: metric.corpus_score(translations, streams) for name, metric in metrics.items()}
    single = {"BLEU": bleu_of(tokenizer, lowercase, effective_order=True), "chrF": metrics["chrF"]}
    bleu = scores["BLEU"]
    return TranslationScores(
        {name: score.score for name, score in scores.items()},
        {name: str(metric.get_signature()) for name, metric in metrics.items()},
        bleu.bp,
        {"BLEU": bleu.score / bleu.bp if bleu.bp else 0.0},
        str(bleu).partition(" = ")[2].partition(" ")[2],
        bleu.sys_len / bleu.ref_len if bleu.ref_len else 0.0,
        [
            {name: metric.sentence_score(hypothesis, list(lines)).score for name, metric in single.items()}
            for hypothesis, lines in zip(translations, references, strict=True)
        ],
    )
