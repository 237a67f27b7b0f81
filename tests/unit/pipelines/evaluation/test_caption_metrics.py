"""Scores against sacrebleu, the paper's formula of CIDEr-D, and numbers by hand."""

import math
import shutil
from collections import Counter

import pytest
import sacrebleu

from pipelines.errors import UserError
from pipelines.evaluation import caption_metrics
from pipelines.evaluation.caption_metrics import caption_scores, ptb_tokenise, score, simple_tokenise, simple_words

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


def test_bleu_is_that_of_sacrebleu():
    longest = max(map(len, REFERENCES.values()))
    streams = [[lines[k] if k < len(lines) else None for lines in REFERENCES.values()] for k in range(longest)]
    ours = caption_scores(HYPOTHESES, REFERENCES)
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
    assert caption_scores({"x": "a cat sat on"}, {"x": ["a black cat lies on"]})["ROUGE_L"] == pytest.approx(expected)


def test_perfect_captions_have_perfect_scores():
    said, meant = {i: lines[0] for i, lines in REFERENCES.items()}, {i: lines[:1] for i, lines in REFERENCES.items()}
    hundred = dict.fromkeys(["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE_L"], 100)
    assert caption_scores(said, meant) == pytest.approx({**hundred, "CIDEr": 1000})


def test_nothing_said_scores_nothing_and_harms_no_other():
    found = score({**HYPOTHESES, "cat": ""}, REFERENCES, "simple", java_scores=False)
    whole = score(HYPOTHESES, REFERENCES, "simple", java_scores=False)
    assert found.per_image["cat"] == pytest.approx({"CIDEr": 0, "BLEU-4": 0, "ROUGE_L": 0})
    assert found.per_image["dog"] == whole.per_image["dog"]
    assert caption_scores(dict.fromkeys(REFERENCES, ""), REFERENCES)["BLEU-1"] == 0


def test_scores_do_not_depend_on_order_case_or_punctuation():
    shouted = {name: f"{HYPOTHESES[name].upper()} ." for name in reversed(HYPOTHESES)}
    assert caption_scores(shouted, REFERENCES) == pytest.approx(caption_scores(HYPOTHESES, REFERENCES))


def test_captions_of_other_images_are_refused_with_counts():
    with pytest.raises(UserError) as error:
        caption_scores({"dog": "a dog", "bird": "a bird", "fish": "a fish"}, REFERENCES)
    assert "2 images (cat, man) of 3 with references have no caption" in str(error.value)
    assert "2 captions (bird, fish) of 3 are of images without references" in str(error.value)
    with pytest.raises(UserError, match="no references"):
        caption_scores({}, {})


WORDS = {
    "A man's dog isn't here; it's well-known .": "a man 's dog is n't here it 's well-known",
    '"Stop!" says a 4-year-old (a girl) at 5,000 feet...': "stop says a 4-year-old -lrb- a girl -rrb- at 5,000 feet",
    "Q&amp;A on a t-shirt, $3.50 -- they've we'll I'd": "q&a on a t-shirt $ 3.50 they 've we 'll i 'd",
    "un café": "un café",
    "": "",
    " . ": "",
}


@pytest.mark.parametrize("sentence", WORDS)
def test_simple_tokeniser(sentence):
    assert " ".join(simple_words(sentence)) == WORDS[sentence]


@needs_java
def test_both_tokenisers_agree_and_blank_lines_stay_in_place():
    lines = {"x": list(WORDS), "y": ["\n", "two\nlines", "and\u2028three"], "z": [""]}
    assert ptb_tokenise(lines) == simple_tokenise(lines)
    assert ptb_tokenise(lines)["x"] == list(WORDS.values())
    assert ptb_tokenise({"x": [""]}) == {"x": [""]}


@needs_java
def test_java_scores_are_made_or_their_absence_is_explained():
    found = score({name: lines[0] for name, lines in REFERENCES.items()} | {"cat": ""}, REFERENCES)
    assert found.tokenizer == "ptb"
    assert found.comparability.startswith("as published")
    assert 50 < found.corpus["METEOR"] < 95
    assert ("SPICE" in found.corpus) != ("SPICE" in found.left_out)


def test_without_java(monkeypatch):
    monkeypatch.setattr(caption_metrics.shutil, "which", lambda name: None)
    found = score(HYPOTHESES, REFERENCES)
    assert found.tokenizer == "simple"
    assert found.comparability.startswith("nearly")
    assert set(found.left_out) == {"METEOR", "SPICE"}
    assert "needs Java" in found.left_out["METEOR"]
    with pytest.raises(UserError, match="needs Java"):
        score(HYPOTHESES, REFERENCES, "ptb")


def test_quiet_and_without_a_process(capfd, monkeypatch):
    monkeypatch.setattr(caption_metrics.subprocess, "run", None)
    caption_scores(HYPOTHESES, REFERENCES)
    assert capfd.readouterr() == ("", "")
