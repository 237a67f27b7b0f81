"""Whether a gain is more than noise: paired bootstrap resampling of what was scored.

Koehn, Statistical Significance Tests for Machine Translation Evaluation (2004). Translations are compared by sacrebleu,
which scores every resample as a corpus; captions by the mean of each picture's own score, as CIDEr is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.significance import PairedTest

from pipelines.errors import UserError
from pipelines.evaluation.results import CAPTIONS, TRANSLATIONS, Evaluation, Kind, Row
from pipelines.evaluation.sacrebleu_tokenizers import bleu_of
from pipelines.evaluation.translation_metrics import ter_of

RESAMPLES = 1000
SEED = 12345
"""As sacrebleu's own, so that the same scores give the same answer."""
LEVEL = 0.05


class Gain(NamedTuple):
    """What a score has gained.

    Attributes:
        difference: new score less old one; of a metric of which less is better, the other way round.
        p: probability of such a difference where there is none.
        interval: of 95%, in words.
    """

    difference: float
    p: float
    interval: str

    @property
    def is_noise(self) -> bool:
        return self.difference <= 0 or self.p >= LEVEL

    def __str__(self) -> str:
        return f"{self.difference:+.3g}, {self.interval}, p = {self.p:.3f}"


def gain_of_means(before: Sequence[float], after: Sequence[float]) -> Gain:
    """The gain of a mean over inputs, each scored before and after.

    Args:
        before, after: (N,) scores of the same inputs in the same order.
    """
    moves = np.asarray(after, float) - np.asarray(before, float)
    chance = np.random.default_rng(SEED)
    means = np.array([moves[chance.integers(len(moves), size=len(moves))].mean() for _ in range(RESAMPLES)])
    low, high = np.quantile(means, (0.025, 0.975))
    # Two-sided, and never 0: what was seen is one resample more.
    beyond = min((means <= 0).sum(), (means >= 0).sum())
    p = min(1.0, 2 * (float(beyond) + 1) / (RESAMPLES + 1))
    return Gain(float(moves.mean()), p, f"95% interval {low:+.3g} to {high:+.3g}")


def gain_of_corpus(metric: str, before: Sequence[str], after: Sequence[str], rows: Sequence[Row], **how: Any) -> Gain:
    """The gain of BLEU, chrF or TER of a corpus, by sacrebleu's paired bootstrap.

    Args:
        before, after: translations of the sentences of ``rows``, which have the references.
        how: ``tokenizer`` and ``lowercase`` of the evaluation.
    """
    lowercase, tokenizer = bool(how.get("lowercase")), how.get("tokenizer") or "13a"
    made = {
        "BLEU": lambda: bleu_of(tokenizer, lowercase),
        "chrF": lambda: CHRF(lowercase=lowercase),
        "TER": lambda: ter_of(tokenizer, lowercase),
    }[metric]()
    streams = list(zip_longest(*(row["references"] for row in rows)))
    test = PairedTest([("before", before), ("after", after)], {metric: made}, streams, "bs", RESAMPLES)
    _, results = test()
    old, new = next(pair for name, pair in results.items() if name != "System")  # by sacrebleu's own name of the metric
    assert not isinstance(old, str) and not isinstance(new, str)
    difference = old.score - new.score if metric == "TER" else new.score - old.score
    interval = f"95% intervals {old.mean:.3g} ± {old.ci:.2g} and {new.mean:.3g} ± {new.ci:.2g}"
    return Gain(difference, float(new.p_value or 0.0), interval)


def gain(metric: str, before: Sequence[Row], after: Sequence[Row], evaluation: Evaluation) -> Gain:
    """What ``metric`` has gained from one evaluation's rows to another's, over the inputs that both have.

    Args:
        evaluation: says how the rows were scored.

    Raises:
        UserError: they have no input in common, or no such score.
    """
    kind: Kind = TRANSLATIONS if any("translation" in row for row in after[:1]) else CAPTIONS
    old = {kind.id_of(row): row for row in before}
    pairs = [(old[kind.id_of(row)], row) for row in after if kind.id_of(row) in old]
    if not pairs:
        raise UserError("The two evaluations have no input in common, so what is gained is not known.")
    if kind is TRANSLATIONS and metric in ("BLEU", "chrF", "TER"):
        texts = [[row["translation"] for row in side] for side in zip(*pairs, strict=True)]
        how = {"tokenizer": evaluation.get("tokenizer"), "lowercase": evaluation.get("lowercase")}
        return gain_of_corpus(metric, texts[0], texts[1], [row for _, row in pairs], **how)
    try:
        scores = [[row["scores"][metric] for row in side] for side in zip(*pairs, strict=True)]
    except KeyError:
        there = ", ".join(after[0].get("scores", {}))
        raise UserError(f"--metric {metric}: single inputs have no such score; there are {there}.") from None
    return gain_of_means(*scores)
