"""Rewards against pycocoevalcap, sacrebleu and counting by hand, on words that are EOS and few others."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import sacrebleu
import torch
from hypothesis import given
from hypothesis import strategies as st
from pycocoevalcap.cider.cider_scorer import CiderScorer

from rnncond.rewards import CiderD, bleu, gleu
from rnncond.text.special_tokens import EOS, PAD

sentence = st.lists(st.integers(4, 8), max_size=9)
example = st.tuples(st.lists(sentence, min_size=2, max_size=2), st.lists(sentence, min_size=1, max_size=3))
batches = st.lists(example, min_size=1, max_size=4)


def tensor(sentences, count, longest=10):
    """(count, longest): words, EOS, PAD; missing sentences are PAD alone."""
    lines = [[*words, EOS, *[PAD] * (longest - 1 - len(words))] for words in sentences]
    return torch.tensor(lines + [[PAD] * longest] * (count - len(lines)))


def tensors(batch):
    """``hypotheses`` (B, 2, T) and ``references`` (B, 3, U), with other T than U."""
    hypotheses = torch.stack([tensor(hypotheses, 2) for hypotheses, _ in batch])
    return hypotheses, torch.stack([tensor(references, 3, longest=12) for _, references in batch])


def text(words):
    return " ".join(str(word) for word in (*words, EOS))


def each(batch, reward):
    """``reward`` of every sentence with its references, (B, 2), one at a time."""
    return torch.tensor([[reward(one, references) for one in hypotheses] for hypotheses, references in batch])


def ngrams(words, orders=(1, 2, 3, 4)):
    line = (*words, EOS)
    return Counter(line[i : i + n] for n in orders for i in range(len(line) - n + 1))


def gleu_by_hand(hypotheses, references):
    best = 0.0
    for reference in references:
        own_ngrams, reference_ngrams = ngrams(hypotheses), ngrams(reference)
        matched = sum((own_ngrams & reference_ngrams).values())
        best = max(best, min(matched / sum(own_ngrams.values()), matched / sum(reference_ngrams.values())))
    return best


@given(batches)
def test_gleu_is_the_smaller_of_precision_and_recall(batch):
    torch.testing.assert_close(gleu(*tensors(batch)), each(batch, gleu_by_hand))


def sacrebleu_of(hypotheses, references):
    found = sacrebleu.sentence_bleu(text(hypotheses), [text(words) for words in references], tokenize="none")
    return found.score / 100


@given(batches)
def test_bleu_is_sacrebleus_of_a_sentence(batch):
    torch.testing.assert_close(bleu(*tensors(batch)), each(batch, sacrebleu_of), rtol=1e-5, atol=1e-6)


def test_bleu_without_a_common_word_is_zero():
    hypotheses = torch.tensor([[[4, 5, 6]]])
    assert bleu(hypotheses, torch.tensor([[[7, 8]]])).item() == 0


def cider_by_coco(batch, corpus):
    """pycocoevalcap's CIDEr-D of each sentence, with the document frequencies of ``corpus``."""
    scorer = CiderScorer()
    for references in corpus:
        scorer += ("", [text(words) for words in references])
    scorer.compute_doc_freq()
    frequency, scores = scorer.document_frequency, []
    for hypotheses, references in batch:
        for one in hypotheses:
            single = CiderScorer()
            single += (text(one), [text(words) for words in references])
            single.document_frequency = frequency.copy()
            # The scorer takes the number of documents from its own list; only this example is to be scored.
            single.crefs = single.crefs * len(corpus)
            scores.append(single.compute_cider()[0])
    return torch.tensor(scores, dtype=torch.float).view(-1, 2)


@given(batches, st.lists(st.lists(sentence, min_size=1, max_size=3), min_size=1, max_size=5))
def test_cider_d_is_pycocoevalcaps_with_the_corpus_frequencies(batch, corpus):
    tokens = torch.cat([tensor(references, len(references)) for references in corpus])
    numbers = torch.tensor([number for number, references in enumerate(corpus) for _ in references])
    found = CiderD(tokens, numbers)(*tensors(batch))
    torch.testing.assert_close(found, cider_by_coco(batch, corpus), rtol=1e-4, atol=1e-4)


def test_cider_d_by_hand():
    # Three pictures; 4 is said of two, 5 of one, EOS of all. Of unigrams only 5 counts beside 4, and "4 EOS", "4 5",
    # "5 EOS", "4 5 EOS" are one picture's own. The sentence equals its one reference: every cosine is 1, but for
    # 4-grams, of which there is none.
    corpus = torch.tensor([[4, 5, EOS], [4, EOS, PAD], [6, EOS, PAD]])
    cider = CiderD(corpus, torch.arange(3))
    assert cider(corpus[None, :1], corpus[None, :1]).item() == pytest.approx(10 * 3 / 4)
    # "4 EOS" has of "4 5 EOS" the unigram 4 with idf log 3/2; the others have log 3. A word is missing.
    two, one = math.log(3 / 2), math.log(3)
    expected = two**2 / (two * math.hypot(two, one)) / 4 * 10 * math.exp(-1 / 72)
    assert cider(corpus[None, 1:2], corpus[None, :1]).item() == pytest.approx(expected, rel=1e-5)


def test_a_corpus_without_references_is_refused():
    with pytest.raises(ValueError, match="no references"):
        CiderD(torch.zeros(0, 4, dtype=torch.long), torch.zeros(0, dtype=torch.long))


@pytest.mark.parametrize("reward", [gleu, bleu, CiderD(tensor([[4, 5], [6]], 2), torch.tensor([0, 1]))])
def test_without_a_reference_there_is_no_reward(reward):
    hypotheses = tensor([[4, 5], [6]], 2).repeat(2, 1, 1)
    references = hypotheses.clone()
    references[1] = PAD
    found = reward(hypotheses, references)
    assert (found[0] > 0).all()
    assert (found[1] == 0).all()
