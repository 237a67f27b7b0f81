from types import SimpleNamespace

import pytest
import torch

from rnncond.embeddings import Words, check_words

CONFIG = {"source_vocab_size": 9, "vocab_size": 9, "embedding": 4, "share_embeddings": False, "tie_embeddings": False,
          "scale_embeddings": False}  # fmt: skip


def words(**options) -> Words:
    return Words(SimpleNamespace(**{**CONFIG, **options}), readout=4)


def count(model) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_apart_each_has_a_matrix():
    assert count(words()) == 9 * 4 + 9 * 4 + (9 * 4 + 9)


def test_shared_source_words_are_target_words():
    model = words(share_embeddings=True)
    assert count(model) == 9 * 4 + (9 * 4 + 9)
    tokens = torch.tensor([[5, 3]])
    assert torch.equal(model.source(tokens), model.target(tokens))


def test_tied_a_word_scores_by_its_embedding():
    model = words(tie_embeddings=True)
    assert count(model) == 9 * 4 + 9 * 4 + 9
    model.bias.data[7] = 0.5
    readout = torch.randn(3, 4)
    expected = (readout * model.target(torch.tensor(7))).sum(-1) + 0.5
    torch.testing.assert_close(model.project(readout)[:, 7], expected)


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("share", [True, False])
def test_scaled_each_word_is_read_with_unit_variance_and_scores_by_what_is_stored(share, side):
    torch.manual_seed(0)
    large = {"vocab_size": 2000, "source_vocab_size": 2000, "embedding": 64}
    options = {"share_embeddings": share, "tie_embeddings": True, "scale_embeddings": True}
    model = Words(SimpleNamespace(**{**CONFIG, **large, **options}), 64)
    tokens = torch.arange(4, 2000)
    assert getattr(model, side)(tokens).var().item() == pytest.approx(1, rel=0.05)
    read = model.target(tokens)
    torch.testing.assert_close(read, 8 * model.embedding.weight[4:])
    torch.testing.assert_close(model.project(torch.eye(64)), model.embedding.weight.t())


def test_what_does_not_start_small_is_not_scaled():
    with pytest.raises(ValueError, match="only tied embeddings start small"):
        check_words(SimpleNamespace(**{**CONFIG, "scale_embeddings": True}), 4)


@pytest.mark.parametrize("options", [{}, {"share_embeddings": True, "tie_embeddings": True}])
def test_no_two_names_share_memory(options):
    """A checkpoint of safetensors keeps each tensor once."""
    tensors = words(**options).state_dict()
    assert len({tensor.data_ptr() for tensor in tensors.values()}) == len(tensors)
