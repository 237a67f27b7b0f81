"""The special tokens have the same ids in each vocabulary, whatever its level."""

from typing import get_args

import pytest

from rnncond.text import Level, Vocabulary
from rnncond.text.special_tokens import BOS, EOS, PAD, UNK


@pytest.mark.parametrize("level", get_args(Level))
def test_every_level_has_them_at_these_ids(level):
    vocabulary = Vocabulary.train(["a dog and a cat", "a cat and a dog"], level=level, size=40)
    assert vocabulary.tokens([PAD, BOS, EOS, UNK]) == ["<pad>", "<s>", "</s>", "<unk>"]
