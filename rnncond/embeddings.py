"""Words in and out of a translator: source and target embeddings and the output layer, which may share matrices."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rnncond.fast.output_layer import OutputLayer, output_product
from rnncond.text.special_tokens import PAD


def check_words(config: Any, readout: int) -> None:
    """Refuse a translator's Config that shares matrices of different shapes; ``readout`` is its R.

    Raises:
        ValueError: names both sizes and what to change.
    """
    if config.share_embeddings and config.source_vocab_size != config.vocab_size:
        raise ValueError(
            f"share_embeddings needs one joint vocabulary, but source_vocab_size is {config.source_vocab_size} "
            f"and vocab_size is {config.vocab_size}; use a joint vocabulary or separate embeddings"
        )
    if config.tie_embeddings and config.embedding != readout:
        raise ValueError(
            f"tie_embeddings needs embeddings as wide as what the output layer reads, but embedding is "
            f"{config.embedding} and the readout has {readout} values; make them equal or untie"
        )
    if config.scale_embeddings and not config.tie_embeddings:
        raise ValueError(
            "scale_embeddings is true and tie_embeddings false, but only tied embeddings start small; "
            "leave scale_embeddings out, or tie them"
        )


class Words(nn.Module):
    """The matrices of a vocabulary's size: (source_vocab_size, E), (V, E) and (V, R).

    With ``share_embeddings`` source and target words have the same embedding; with ``tie_embeddings`` the output layer
    scores a word by its target embedding (Press and Wolf 2017). A shared matrix is one parameter with one name, so
    that a saved model holds it once. The tied matrix starts small, for the logits' sake; ``scale_embeddings`` gives
    what the layers read of it unit variance again (Vaswani et al. 2017, section 3.4), which deep stacks need to learn.
    """

    def __init__(self, config: Any, readout: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.vocab_size, config.embedding, padding_idx=PAD)
        if not config.share_embeddings:
            self.source_embedding = nn.Embedding(config.source_vocab_size, config.embedding, padding_idx=PAD)
        if config.tie_embeddings:
            # Unit variance would make the first logits as large as R ** 0.5.
            nn.init.normal_(self.embedding.weight, std=config.embedding**-0.5)
            self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        else:
            self.output = OutputLayer(readout, config.vocab_size)
        self.shared, self.tied = config.share_embeddings, config.tie_embeddings
        self.scale = config.embedding**0.5 if config.scale_embeddings else 1.0

    def source(self, tokens: Tensor) -> Tensor:
        """Source ``tokens`` (...) int64 to (..., E)."""
        if self.shared:
            return self.target(tokens)
        embedded: Tensor = self.source_embedding(tokens)
        return embedded

    def target(self, tokens: Tensor) -> Tensor:
        """Target ``tokens`` (...) int64 to (..., E)."""
        embedded: Tensor = self.embedding(tokens)
        return embedded if self.scale == 1 else self.scale * embedded

    def project(self, readout: Tensor) -> Tensor:
        """``readout`` (..., R) to logits (..., V)."""
        if self.tied:
            return output_product(readout, self.embedding.weight, self.bias)
        logits: Tensor = self.output(readout)
        return logits
