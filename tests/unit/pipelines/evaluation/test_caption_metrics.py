"""Scores against sacrebleu, the paper's formula of CIDEr-D, and numbers by hand."""

import math
import shutil
from collections import Counter

import pytest
import sacrebleu

from pipelines.errors import UserError
from pipelines.evaluation import caption_tokenizers
from pipelines.evaluation.caption_metrics import score, shuffled_cider

needs_java = pytest.mark.skipif(not shutil.which("java"), reason="Java is not installed")

REFERENCES = {
    "dog": ["a brown dog runs on green grass", "the dog is running over a field", "a dog runs"],
    "cat": ["a black cat sleeps on a red sofa", "one cat is sleeping"],
    "man": ["a man in a hat rides a horse on the beach", "a rider on a horse by the sea", "man rides horse"],
}
HYPOTHESES = {
    "dog": "a brown dog runs over a green field",
    "cat": "a black cat sleeps on a sofa",
    "man": "a man rides a horse on the sand",
}


def scores(hypotheses, references):
    return score(hypotheses, references, "simple", java_scores=False).corpus


def test_bleu_is_that_of_sacrebleu():
    longest = max(map(len, REFERENCES.values()))
    streams = [[lines[k] if k < len(lines) else None for lines in REFERENCES.values()] for k in range(longest)]
    ours = scores(HYPOTHESES, REFERENCES)
    for n in range(1, 5):
        bleu = sacrebleu.metrics.BLEU(max_ngram_order=n, tokenize="none", smooth_method="none", force=True)
        expected = bleu.corpus_score(list(HYPOTHESES.values()), streams).score
        assert ours[f"BLEU-{n}"] == pytest.approx(expected, rel=1e-6)


def ngrams(sentence, n):
    words = sentence.split()
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def cider_d(hypothesis, references, all_references):
    """Vedantam, Zitnick and Parikh 2015, section 6 (CIDEr-D, sigma 6), one image, times 100."""
    total = 0.0
    for n in range(1, 5):
        seen_in = Counter(gram for lines in all_references for gram in {g for line in lines for g in ngrams(line, n)})

        def weigh(sentence, n=n, seen_in=seen_in):
            found = ngrams(sentence, n)
            return {g: count * math.log(len(all_references) / max(1, seen_in[g])) for g, count in found.items()}

        for reference in references:
            c, s = weigh(hypothesis), weigh(reference)
            lengths = math.hypot(*c.values()) * math.hypot(*s.values())
            dot = sum(min(value, s.get(gram, 0.0)) * s.get(gram, 0.0) for gram, value in c.items())
            penalty = math.exp(-((len(hypothesis.split()) - len(reference.split())) ** 2) / (2 * 6**2))
            total += penalty * dot / lengths if lengths else 0.0
    return 100 * 10 * total / 4 / len(references)


def test_cider_is_the_papers_formula():
    each = [cider_d(HYPOTHESES[i], lines, list(REFERENCES.values())) for i, lines in REFERENCES.items()]
    found = score(HYPOTHESES, REFERENCES, "simple", java_scores=False)
    assert found.corpus["CIDEr"] == pytest.approx(sum(each) / 3)
    assert [found.per_image[i]["CIDEr"] for i in REFERENCES] == pytest.approx(each)
    assert min(each) > 20


def test_rouge_by_hand():
    # Longest common subsequence "a cat on": precision 3/4, recall 3/5, beta 1.2.
    expected = 100 * (1 + 1.44) * 0.75 * 0.6 / (0.6 + 1.44 * 0.75)
    assert scores({"x": "a cat sat on"}, {"x": ["a black cat lies on"]})["ROUGE_L"] == pytest.approx(expected)


def test_perfect_captions_have_perfect_scores():
    hypotheses, references = (
        {i: lines[0] for i, lines in REFERENCES.items()},
        {i: lines[:1] for i, lines in REFERENCES.items()},
    )
    hundred = dict.fromkeys(["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE_L"], 100)
    assert scores(hypotheses, references) == pytest.approx({**hundred, "CIDEr": 1000})


def test_nothing_said_scores_nothing_and_harms_no_other():
    found = score({**HYPOTHESES, "cat": ""}, REFERENCES, "simple", java_scores=False)
    whole = score(HYPOTHESES, REFERENCES, "simple", java_scores=False)
    assert found.per_image["cat"] == pytest.approx({"CIDEr": 0, "BLEU-4": 0, "ROUGE_L": 0})
    assert found.per_image["dog"] == whole.per_image["dog"]
    assert scores(dict.fromkeys(REFERENCES, ""), REFERENCES)["BLEU-1"] == 0


def test_scores_do_not_depend_on_order_case_or_punctuation():
    shouted = {name: f"{HYPOTHESES[name].upper()} ." for name in reversed(HYPOTHESES)}
    assert scores(shouted, REFERENCES) == pytest.approx(scores(HYPOTHESES, REFERENCES))


def test_captions_of_other_images_are_refused_with_counts():
    with pytest.raises(UserError) as error:
        scores({"dog": "a dog", "bird": "a bird", "fish": "a fish"}, REFERENCES)
    assert "2 images (cat, man) of 3 with references have no caption" in str(error.value)
    assert "2 captions (bird, fish) of 3 are of images without references" in str(error.value)
    with pytest.raises(UserError, match="no references"):
        scores({}, {})


def test_without_java(monkeypatch):
    monkeypatch.setattr(caption_tokenizers.shutil, "which", lambda name: None)
    found = score(HYPOTHESES, REFERENCES)
    assert found.tokenizer == "simple"
    assert found.comparability.startswith("nearly")
    assert set(found.left_out) == {"METEOR", "SPICE"}
    assert "needs Java" in found.left_out["METEOR"]
    with pytest.raises(UserError, match="needs Java"):
        score(HYPOTHESES, REFERENCES, "ptb")


def test_quiet_and_without_a_process(capfd, monkeypatch):
    monkeypatch.setattr(caption_tokenizers.subprocess, "run", None)
    scores(HYPOTHESES, REFERENCES)
    assert capfd.readouterr() == ("", "")


def test_shuffling_gives_every_image_anothers_caption():
    ids = list(REFERENCES)
    hypotheses = {name: lines[0] for name, lines in REFERENCES.items()}
    rounds = []
    for shift in (1, 2):
        others = {name: hypotheses[ids[(ids.index(name) + shift) % 3]] for name in ids}
        rounds.append(scores(others, REFERENCES)["CIDEr"])
    # Two shuffles of three images are all the cyclic ones, in whatever order the images stand.
    assert shuffled_cider(hypotheses, REFERENCES, "simple", rounds=2) == pytest.approx(sum(rounds) / 2)
    assert shuffled_cider(dict.fromkeys(ids, "a dog"), REFERENCES, "simple") == pytest.approx(
        scores(dict.fromkeys(ids, "a dog"), REFERENCES)["CIDEr"]
    )
    with pytest.raises(UserError, match="two images"):
        shuffled_cider({"a": "a dog"}, {"a": ["a dog"]})


def test_the_brevity_penalty_is_the_papers_and_is_taken_out():
    """Papineni et al. 2002, section 2.3: exp(1 - r / c), r adding up the reference lengths nearest to a caption's."""
    short = {"dog": "a brown dog runs", "cat": "a black cat sleeps", "man": "a man rides a horse"}
    lengths = [len(line.split()) for line in short.values()]  # 4, 4, 5
    nearest = [3, 4, 3]
    assert sum(nearest) < sum(lengths)
    assert score(short, REFERENCES, "simple", java_scores=False).brevity_penalty == 1
    one = {name: lines[:1] for name, lines in REFERENCES.items()}  # of 7, 8 and 11 words
    found = score(short, one, "simple", java_scores=False)
    assert found.brevity_penalty == pytest.approx(math.exp(1 - 26 / 13))
    assert found.without_brevity_penalty["BLEU-1"] == pytest.approx(100)
    assert found.corpus["BLEU-1"] == pytest.approx(100 * math.exp(1 - 26 / 13))
    assert list(found.without_brevity_penalty) == ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4"]


def test_captions_of_a_language_without_blanks():
    """By sacrebleu's own functions: of Chinese each character is a word."""
    references = {"a": ["一只棕色的狗在草地上奔跑。", "狗在跑"], "b": ["两只鸟在天上飞"]}
    hypotheses = {"a": "一只狗在草地上跑", "b": "两只鸟飞"}
    found = score(hypotheses, references, "zh", java_scores=False)
    streams = [["一只棕色的狗在草地上奔跑", "两只鸟在天上飞"], ["狗在跑", None]]
    bleu = sacrebleu.metrics.BLEU(tokenize="zh", smooth_method="none", max_ngram_order=2, force=True)
    assert found.corpus["BLEU-2"] == pytest.approx(
        bleu.corpus_score(list(hypotheses.values()), streams).score, rel=1e-6
    )
    assert "zh of sacrebleu" in found.comparability
    assert score(hypotheses, references, "simple", java_scores=False).corpus["BLEU-2"] == pytest.approx(0, abs=1e-3)
