"""Sentences, scores and attention read back from the steps of a search."""

from __future__ import annotations

import torch

from rnncond.search import SearchOptions
from rnncond.search.backpointers import Backpointers
from rnncond.text.special_tokens import BOS, EOS, PAD, UNK
from tests.worlds import search as world


def test_hypotheses_by_hand():
    """Two examples with a beam of two. In the first the rows swap: "4 6 EOS" and "5 7 EOS" end in the third step, the
    second place continuing the first. The other example ends with EOS at once, and leaves: its later steps are PAD."""
    both, first = torch.tensor([0, 1]), torch.tensor([0])
    pointers = Backpointers(2, 2, torch.device("cpu"))
    pointers.record(both, torch.tensor([[4, 5], [EOS, 9]]), torch.zeros(2, 2, dtype=torch.long))
    nothing = -torch.inf
    pointers.record_ends(both, *[torch.tensor([[nothing, nothing], [-0.5, nothing]])] * 2)
    pointers.record_attention(both, torch.tensor([[[0.1], [0.2]], [[0.3], [0.4]]]))
    pointers.record(first, torch.tensor([[7, 6]]), torch.tensor([[1, 0]]))
    pointers.record_attention(first, torch.tensor([[[0.5], [0.6]]]))
    pointers.record(first, torch.tensor([[EOS, EOS]]), torch.tensor([[1, 0]]))
    pointers.record_ends(first, torch.tensor([[-2.0, -1.0]]), torch.tensor([[-6.0, -3.0]]))
    pointers.record_attention(first, torch.tensor([[[0.7], [0.8]]]))
    hypotheses = pointers.hypotheses(2)
    assert hypotheses.tokens.tolist() == [[[5, 7, EOS], [4, 6, EOS]], [[EOS, PAD, PAD], [PAD, PAD, PAD]]]
    assert hypotheses.lengths.tolist() == [[3, 3], [1, 0]]
    assert hypotheses.scores.tolist() == [[-1, -2], [-0.5, nothing]]
    assert hypotheses.log_probs.tolist() == [[-3, -6], [-0.5, nothing]]
    expected = torch.tensor([[[0.2, 0.5, 0.8], [0.1, 0.6, 0.7]], [[0.3, 0, 0], [0, 0, 0]]])
    torch.testing.assert_close(hypotheses.attention[..., 0], expected)


def test_the_earlier_is_first_among_equals():
    pointers = Backpointers(1, 2, torch.device("cpu"))
    for words in ([EOS, 4], [EOS, EOS]):
        pointers.record(torch.tensor([0]), torch.tensor([words]), torch.tensor([[0, 1]]))
        scores = torch.where(torch.tensor([words]) == EOS, -1.0, -torch.inf)
        pointers.record_ends(torch.tensor([0]), scores, scores)
    assert pointers.hypotheses(3).lengths.tolist() == [[1, 2, 2]]


def test_attention_is_that_of_the_step_which_chose_the_word():
    found = world.run(SearchOptions(beam=3, nbest=3, max_length=5, attention=True))
    for number, example in enumerate(world.EXAMPLES):
        for place, words in enumerate(world.sentences(found, number)):
            expected = torch.tensor([world.log_probs_after(example, words[:t])[1] for t in range(len(words))])
            torch.testing.assert_close(found.attention[number, place, : len(words)], expected, rtol=1e-4, atol=1e-5)
            assert not found.attention[number, place, len(words) :].any()


def test_attention_is_kept_only_when_asked_for():
    assert world.run(SearchOptions()).attention is None


def test_sentences_end_with_eos_and_padding():
    found = world.run(SearchOptions(beam=4, nbest=4, max_length=5))
    for line, length in zip(found.tokens.flatten(0, 1).tolist(), found.lengths.flatten().tolist(), strict=True):
        assert line[length - 1] == EOS
        assert not {PAD, BOS, EOS, UNK} & set(line[: length - 1])
        assert set(line[length:]) <= {PAD}
