"""Encoder-decoder with attention over a deep encoder: residual connections let depth train.

Every encoder layer is bidirectional, H in each direction, and from the second on its input is added to its output
(He et al. 2016 for pictures; Wu et al. 2016, equation 6, for recurrent layers):

    x_1 = [->RNN_1(E x); <-RNN_1(E x)]
    x_{l+1} = x_l + [->RNN_{l+1}(x_l); <-RNN_{l+1}(x_l)]

The annotations h_i are the sum x_L at each word, and <-h_1 is the top layer's backward output at the first. The
decoder is that of ``encdec_bidirectional``: for ``score="additive"``, of Bahdanau, Cho and Bengio (2015),

    s_0 = tanh(W_s <-h_1)
    e_{t,i} = v . tanh(W s_{t-1} + U h_i),  alpha_t = softmax(e_t),  c_t = sum_i alpha_{t,i} h_i
    s_t = GRU([E y_{t-1}; c_t], s_{t-1})
    p(y_t) = softmax(W_o maxout(U_o s_t + V_o E y_{t-1} + C_o c_t))

and for ``general`` and ``concat`` that of Luong, Pham and Manning (2015); see ``rnncond.decoders``.

Departures: no paper has just this model; the sizes are RNNsearch's and the depth that of Sutskever's encoder. The first
layer has no residual, as E is not 2H. Torch's GRU applies the reset gate after the recurrent product.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from rnncond.cells import PARTS, make_layer, real_lengths, recurrent, run_layer
from rnncond.contract import Memory, Source
from rnncond.decoders import AttentiveConfig, AttentiveModel, make_decoder


@dataclass(frozen=True, kw_only=True)
class Config(AttentiveConfig):
    """Sizes and kinds as in AttentiveConfig, and the depth. The score is not dot: annotations have 2H values.

    Attributes:
        layers: the encoder's depth; the decoder has one layer.
    """

    layers: int = 4


class Model(AttentiveModel):
    def __init__(self, config: Config) -> None:
        super().__init__(config)
        widths = [config.embedding, *[2 * config.hidden] * (config.layers - 1)]
        self.encoder = nn.ModuleList(
            make_layer(config.cell, width, config.hidden, bidirectional=True) for width in widths
        )
        self.start = nn.Linear(config.hidden, len(PARTS[config.cell]) * config.hidden)
        self.decoder = make_decoder(config)
        self.dropout = nn.Dropout(config.dropout)

    def encode(self, source: Source) -> Memory:
        lengths = real_lengths(source.mask)
        x = self.words.source(source.values)
        for depth, layer in enumerate(recurrent(self.encoder)):
            outputs, backward = run_layer(layer, self.dropout(x), lengths=lengths)
            x = outputs + x if depth else outputs
        start = torch.tanh(self.start(backward["h"]))[:, None].chunk(len(backward), -1)
        return self.decoder.precompute(x, source.mask, dict(zip(backward, start, strict=True)))
