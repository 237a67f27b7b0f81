"""Encoder-decoder with a bidirectional encoder: every source word is seen in its whole context.

With ``score="additive"`` this is RNNsearch (Bahdanau, Cho and Bengio 2015, appendix A.2):

    h_i = [->h_i; <-h_i]                          one GRU layer in each direction, H each
    s_0 = tanh(W_s <-h_1)
    e_{t,i} = v . tanh(W s_{t-1} + U h_i)
    alpha_t = softmax(e_t),  c_t = sum_i alpha_{t,i} h_i
    s_t = GRU([E y_{t-1}; c_t], s_{t-1})
    p(y_t) = softmax(W_o maxout(U_o s_t + V_o E y_{t-1} + C_o c_t))

``score="general"`` and ``"concat"`` keep the encoder and take the decoder of Luong, Pham and Manning (2015), which
moves first and feeds what it saw to the next step:

    s_t = GRU([E y_{t-1}; h~_{t-1}], s_{t-1})     with input feeding; else E y_{t-1} alone
    e_{t,i} = s_t . W h_i  or  v . tanh(W_a [s_t; h_i])
    h~_t = tanh or maxout of W_c [c_t; s_t],  p(y_t) = softmax(W_s h~_t)

The decoders are those of ``rnncond.decoders``.

Departures: the paper's readout takes s_{t-1}, here s_t. W_s has a bias, and an LSTM's c_0 a matrix of its own. Torch's
GRU applies the reset gate after the recurrent product.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from rnncond.cells import PARTS, make_layer, real_lengths, run_layer
from rnncond.contract import Memory, Source
from rnncond.decoders import AttentiveConfig, AttentiveModel, make_decoder


@dataclass(frozen=True, kw_only=True)
class Config(AttentiveConfig):
    """Sizes and kinds as in AttentiveConfig, whose defaults are RNNsearch's; dot is no score for annotations of 2H."""


class Model(AttentiveModel):
    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.encoder = make_layer(config.cell, config.embedding, config.hidden, bidirectional=True)
        self.start = nn.Linear(config.hidden, len(PARTS[config.cell]) * config.hidden)
        self.decoder = make_decoder(config)
        self.dropout = nn.Dropout(config.dropout)

    def encode(self, source: Source) -> Memory:
        words = self.dropout(self.words.source(source.values))
        outputs, backward = run_layer(self.encoder, words, lengths=real_lengths(source.mask))
        start = torch.tanh(self.start(backward["h"]))[:, None].chunk(len(backward), -1)
        return self.decoder.precompute(outputs, source.mask, dict(zip(backward, start, strict=True)))
