"""A gain that is there is found, noise is called noise, and sacrebleu's own test says the same of a corpus."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.errors import UserError
from pipelines.evaluation.significance import gain, gain_of_means
from pipelines.evaluation.translation_metrics import translation_scores

WORDS = ["a", "dog", "cat", "cow", "runs", "sleeps", "in", "the", "red", "green", "field", "house"]


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution():
    """Of 400 differences of deviation 1 it is 1.96 / 20 wide on either side."""
    chance = np.random.default_rng(0)
    moves = chance.standard_normal(400)
    moves = (moves - moves.mean()) / moves.std() + 0.2
    found = gain_of_means(np.zeros(400), moves)
    low, high = (float(word) for word in found.interval.split()[2::2])
    assert found.difference == pytest.approx(0.2)
    assert (low, high) == (pytest.approx(0.2 - 0.098, abs=0.02), pytest.approx(0.2 + 0.098, abs=0.02))
    assert found.p < 0.01 and not found.is_noise


@pytest.mark.parametrize(("shift", "noise"), [(0.02, True), (0.5, False), (-0.5, True)])
def test_noise_is_called_noise(shift, noise):
    moves = np.random.default_rng(1).standard_normal(200)
    found = gain_of_means(np.zeros(200), moves - moves.mean() + shift)
    assert found.is_noise == noise


def rows(share: float, seed: int = 0) -> list[dict]:
    """Translations of which a share of the words is right."""
    chance = np.random.default_rng(seed)
    made = []
    for number in range(60):
        words = list(np.random.default_rng(number).choice(WORDS, 8))
        said = [word if chance.random() < share else str(chance.choice(WORDS)) for word in words]
        made.append({"id": f"{number}", "translation": " ".join(said), "references": [" ".join(words)]})
    return made


@pytest.mark.parametrize("metric", ["BLEU", "chrF", "TER"])
def test_translations(metric):
    how = {"tokenizer": "13a", "lowercase": False}
    better = gain(metric, rows(0.5), rows(0.9), how)
    assert better.difference > 0 and not better.is_noise and better.interval.count("±") == 2
    assert gain(metric, rows(0.9), rows(0.5), how).is_noise  # it got worse
    same = gain(metric, rows(0.7, 1), rows(0.7, 2), how)
    assert abs(same.difference) < better.difference and same.is_noise


def test_ter_of_chinese_counts_characters_as_the_scores_do():
    signs = "我你他她它们大小山水火木金土日月"
    chance = np.random.default_rng(0)

    def said(share: float) -> list[dict]:
        made = []
        for number in range(30):
            right = [signs[n] for n in np.random.default_rng(number).integers(0, len(signs), 8)]
            words = [sign if chance.random() < share else str(chance.choice(list(signs))) for sign in right]
            made.append({"id": f"{number}", "translation": "".join(words), "references": ["".join(right)]})
        return made

    before, after = said(0.5), said(0.9)
    scores = [
        translation_scores([row["translation"] for row in rows], [row["references"] for row in rows], tokenizer="zh")
        for rows in (before, after)
    ]
    found = gain("TER", before, after, {"tokenizer": "zh"})
    assert found.difference == pytest.approx(scores[0].corpus["TER"] - scores[1].corpus["TER"])
    assert found.difference > 20 and not found.is_noise


def test_captions_are_compared_picture_by_picture():
    before = [{"image_id": f"{n}", "caption": "", "scores": {"CIDEr": float(n)}} for n in range(50)]
    after = [row | {"scores": {"CIDEr": row["scores"]["CIDEr"] + 1}} for row in reversed(before)]
    found = gain("CIDEr", before, [*after, {"image_id": "other", "caption": "", "scores": {"CIDEr": 999.0}}], {})
    assert found.difference == 1 and not found.is_noise
    with pytest.raises(UserError, match="no such score; there are CIDEr"):
        gain("SPICE", before, after, {})
    with pytest.raises(UserError, match="no input in common"):
        gain("CIDEr", before, [{"image_id": "x", "scores": {}}], {})
