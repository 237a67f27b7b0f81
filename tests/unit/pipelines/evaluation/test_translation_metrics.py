"""Scores of translations: sacrebleu's own functions, and small cases by hand."""

import math

import pytest
import sacrebleu

from pipelines.errors import UserError
from pipelines.evaluation.translation_metrics import translation_scores

HYPOTHESES = ["the cat sat on a mat", "Two Birds fly", "", "a man reads a big book in the park ."]
REFERENCES = [["the cat sat on the mat"], ["two birds fly"], ["nothing"], ["a man reads a large book in a park ."]]


@pytest.mark.parametrize("lowercase", [False, True])
def test_the_scores_are_sacrebleus(lowercase):
    found = translation_scores(HYPOTHESES, REFERENCES, lowercase)
    stream = [[lines[0] for lines in REFERENCES]]
    bleu = sacrebleu.corpus_bleu(HYPOTHESES, stream, lowercase=lowercase)
    assert found.corpus["BLEU"] == bleu.score
    assert found.corpus["TER"] == sacrebleu.corpus_ter(HYPOTHESES, stream, case_sensitive=not lowercase).score
    chrf = sacrebleu.corpus_chrf([line.lower() if lowercase else line for line in HYPOTHESES], stream)
    assert found.corpus["chrF"] == pytest.approx(chrf.score)
    assert f"BP = {bleu.bp:.3f}" in found.bleu and f"hyp_len = {bleu.sys_len}" in found.bleu
    case = "lc" if lowercase else "mixed"
    for name, signature in found.signatures.items():
        assert f"case:{case}|" in signature and f"version:{sacrebleu.__version__}" in signature, name
    assert "tok:13a" in found.signatures["BLEU"]
    single = sacrebleu.sentence_bleu(HYPOTHESES[3], REFERENCES[3], lowercase=lowercase)
    assert found.per_sentence[3]["BLEU"] == single.score
    assert found.per_sentence[2] == {"BLEU": 0, "chrF": 0}
    assert (found.per_sentence[1]["chrF"] == 100) == lowercase


def test_bleu_by_hand():
    """Precisions 5/6, 3/5, 2/4, 1/3 and no brevity penalty; one word of six to be edited."""
    found = translation_scores(HYPOTHESES[:1], REFERENCES[:1])
    assert found.corpus["BLEU"] == pytest.approx(100 * math.exp(sum(map(math.log, (5 / 6, 3 / 5, 2 / 4, 1 / 3))) / 4))
    assert found.corpus["TER"] == pytest.approx(100 / 6)


def test_several_references_of_which_some_sentences_have_fewer():
    found = translation_scores(["a dog", "two birds fly"], [["a hound", "a dog"], ["two birds fly"]])
    assert found.corpus["chrF"] == 100 and found.corpus["TER"] == 0
    assert "nrefs:var" in found.signatures["BLEU"]
    assert "nrefs:2" in translation_scores(["a", "b"], [["a", "c"], ["b", "d"]]).signatures["BLEU"]


def test_what_cannot_be_scored():
    with pytest.raises(UserError, match="1 translations and references of 2 sentences"):
        translation_scores(["a"], [["a"], ["b"]])
    with pytest.raises(UserError, match="at least one"):
        translation_scores([], [])


def test_bleu_without_the_brevity_penalty_is_what_it_was_multiplied_from():
    """Papineni et al. 2002: exp(1 - 6 / 4) for four words of six."""
    short = translation_scores(["the cat sat on"], [["the cat sat on the mat"]])
    assert short.brevity_penalty == pytest.approx(math.exp(1 - 6 / 4))
    assert short.without_brevity_penalty["BLEU"] == pytest.approx(100)
    assert short.corpus["BLEU"] == pytest.approx(100 * math.exp(1 - 6 / 4))
    whole = translation_scores(HYPOTHESES[:1], REFERENCES[:1])
    assert short.length_ratio == pytest.approx(4 / 6)
    assert whole.brevity_penalty == 1 and whole.without_brevity_penalty["BLEU"] == whole.corpus["BLEU"]
    assert translation_scores([""], [["a"]]).without_brevity_penalty == {"BLEU": 0}
