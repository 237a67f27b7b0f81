"""Ids of the special tokens, the same in every vocabulary. Known without torch, which takes seconds to import."""

PAD, BOS, EOS, UNK = 0, 1, 2, 3
