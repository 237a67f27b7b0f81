"""Scores of captions against references: BLEU-1 to 4, ROUGE-L, CIDEr, and METEOR and SPICE where Java can run them.

All of them as papers print them, times 100: BLEU-4 27.7, CIDEr 85.5. The formulas are pycocoevalcap's, which published
scores were computed with; for tokenizers see ``pipelines.evaluation.caption_tokenizers``. BLEU is multiplied by a
brevity penalty where the captions are shorter than their references.

CIDEr weighs an n-gram by the images of *this* set that have it in their references: of a single image it is 0, and
scores of different sets do not compare.
"""

from __future__ import annotations

import contextlib
import io
import math
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipelines.errors import UserError
from pipelines.evaluation.caption_tokenizers import Sentences, chosen, tokenizer_named
from pipelines.inputs.entries import naming


@dataclass(frozen=True)
class CaptionScores:
    """Attributes:
    corpus: score of the whole set by name.
    per_image: CIDEr, BLEU-4 and ROUGE_L of each image by its id.
    brevity_penalty: what BLEU was multiplied by; 1 where the captions are not shorter than the references.
    tokenizer: ``ptb``, ``simple`` or one of sacrebleu's.
    left_out: scores that could not be computed, with the reason.
    """

    corpus: dict[str, float]
    per_image: dict[str, dict[str, float]]
    brevity_penalty: float
    tokenizer: str
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def comparability(self) -> str:
        if self.tokenizer == "ptb":
            return "as published: Penn Treebank tokenizer and formulas of pycocoevalcap"
        if self.tokenizer == "simple":
            return "nearly as published: formulas of pycocoevalcap, but our own tokenizer instead of Java's"
        return f"with captions of the same tokenizer, {self.tokenizer} of sacrebleu; formulas of pycocoevalcap"

    @property
    def without_brevity_penalty(self) -> dict[str, float]:
        """BLEU-1 to 4."""
        bleu = {name: value for name, value in self.corpus.items() if name.startswith("BLEU")}
        return {name: value / self.brevity_penalty if value else 0.0 for name, value in bleu.items()}


def score(
    hypotheses: dict[str, str],
    references: dict[str, list[str]],
    tokenizer: str = "auto",
    java_scores: bool = True,
) -> CaptionScores:
    """Everything that can be computed here, times 100: BLEU-1 to 4, ROUGE_L and CIDEr, METEOR and SPICE.

    Args:
        hypotheses: a caption by image id; one may be empty, and scores nothing.
        references: at least one by image id, of the same images.
        tokenizer: with the simple one, and without ``java_scores``, no process is started.
        java_scores: METEOR and SPICE, too.

    Raises:
        UserError: hypotheses and references are not of the same images.
    """
    from pycocoevalcap.bleu.bleu_scorer import BleuScorer
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    check_same_images(hypotheses, references)
    tokenizer = chosen(tokenizer)
    tokenize = tokenizer_named(tokenizer)
    words = tokenize({image_id: [hypothesis] for image_id, hypothesis in hypotheses.items()})
    reference_words = tokenize({image_id: references[image_id] for image_id in hypotheses})

    scorer = BleuScorer(n=4)
    for image_id, (hypothesis,) in words.items():
        scorer += (hypothesis, reference_words[image_id])
    with contextlib.redirect_stdout(io.StringIO()):
        bleu, bleu_each = scorer.compute_score(option="closest", verbose=0)
        rouge, rouge_each = Rouge().compute_score(reference_words, words)
        cider, cider_each = Cider().compute_score(reference_words, words)
    shorter = scorer.testlen() and scorer.testlen() < scorer.reflen(option="closest")
    penalty = math.exp(1 - scorer.reflen(option="closest") / scorer.testlen()) if shorter else 1.0
    corpus = {f"BLEU-{n}": value for n, value in enumerate(bleu, 1)} | {"ROUGE_L": rouge, "CIDEr": cider}
    left_out: dict[str, str] = {}
    for name, compute in (("METEOR", meteor), ("SPICE", spice)) if java_scores else ():
        try:
            if tokenizer != "ptb":
                raise Unavailable("it needs Java and the tokenizer ptb")
            corpus[name] = compute(reference_words, words)
        except Unavailable as reason:
            left_out[name] = str(reason)
    each = zip(words, cider_each, bleu_each[3], rouge_each, strict=True)
    per_image = {i: {"CIDEr": percent(c), "BLEU-4": percent(b), "ROUGE_L": percent(r)} for i, c, b, r in each}
    as_percents = {name: percent(value) for name, value in corpus.items()}
    return CaptionScores(as_percents, per_image, penalty, tokenizer, left_out)


def shuffled_cider(
    hypotheses: dict[str, str], references: dict[str, list[str]], tokenizer: str = "auto", rounds: int = 5
) -> float:
    """CIDEr of captions made from another image's features: the mean over ``rounds`` shuffles without a fixed image.

    A caption depends on nothing but the features, so the caption of image i given the features of image j is that of
    image j, and none has to be made again.

    Raises:
        UserError: there is only one image.
    """
    from pycocoevalcap.cider.cider import Cider

    check_same_images(hypotheses, references)
    if len(hypotheses) < 2:
        raise UserError("Shuffled captions need two images or more.")
    tokenize = tokenizer_named(chosen(tokenizer))
    order = np.random.default_rng(1).permutation(sorted(hypotheses)).tolist()
    words = tokenize({image_id: [hypotheses[image_id]] for image_id in order})
    reference_words = tokenize({image_id: references[image_id] for image_id in order})
    scores = []
    for shift in range(1, min(rounds, len(order) - 1) + 1):
        others = {image_id: words[order[place - shift]] for place, image_id in enumerate(order)}
        scores.append(Cider().compute_score(reference_words, others)[0])
    return percent(np.mean(scores))


def percent(value: float) -> float:
    return 100 * float(value)


def check_same_images(hypotheses: dict[str, str], references: dict[str, list[str]]) -> None:
    uncaptioned = [image_id for image_id in references if image_id not in hypotheses]
    unknown = [image_id for image_id in hypotheses if not references.get(image_id)]
    problems = []
    if not references:
        problems.append("there are no references")
    if uncaptioned:
        problems.append(f"{naming(uncaptioned, 'image')} of {len(references):,} with references have no caption")
    if unknown:
        problems.append(f"{naming(unknown, 'caption')} of {len(hypotheses):,} are of images without references")
    if problems:
        raise UserError("Captions and references are not of the same images: " + "; ".join(problems) + ".")


# Scores that are Java programs


class Unavailable(Exception):
    """A score cannot be computed here; the text says why."""


def meteor(references: Sentences, hypotheses: Sentences) -> float:
    from pycocoevalcap.meteor.meteor import Meteor

    scorer = Meteor()
    try:
        return scorer.compute_score(references, hypotheses)[0]
    except (OSError, ValueError) as error:
        raise Unavailable(f"Java ended with an error: {error}") from None


def spice(references: Sentences, hypotheses: Sentences) -> float:
    """SPICE, only where its CoreNLP models already lie beside it: pycocoevalcap would download them."""
    from pycocoevalcap.spice import get_stanford_models as models
    from pycocoevalcap.spice.spice import Spice

    jars = [Path(models.SPICEDIR, models.SPICELIB, f"{models.JAR}{part}.jar") for part in ("", "-models")]
    if not all(jar.exists() for jar in jars):
        raise Unavailable(f"its models ({models.JAR}, 300 MB) are not installed; nothing is downloaded while scoring")
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            value = Spice().compute_score(references, hypotheses)[0]
    except (OSError, subprocess.CalledProcessError) as error:
        raise Unavailable(f"Java ended with an error: {error}") from None
    if np.isnan(value):
        raise Unavailable("it gave no number")
    return value
