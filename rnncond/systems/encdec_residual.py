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
from torch import Tensor, nn

from rnncond.cells import PARTS, Cell, check_cell, make_layer, real_lengths, run_layer
from rnncond.contract import Memory, Source, State, Step, System, Unrolled, check_sizes
from rnncond.decoders import Score, check_decoder, make_decoder
from rnncond.embeddings import Words, check_words


@dataclass(frozen=True, kw_only=True)
class Config:
    """Sizes.

    Attributes:
        source_vocab_size, vocab_size: of the source, and V.
        embedding, hidden: E, and H of each direction and of the decoder.
        layers: the encoder's depth; the decoder has one layer.
        attention: A, of the scores additive and concat.
        readout: R, what the output layer reads.
        cell: lstm or gru.
        score: additive (Bahdanau's decoder); general or concat (Luong's).
        input_feeding: Luong's decoder reads its last readout; additive always feeds the context.
        maxout: the readout is the larger of pairs; else tanh.
        dropout: on the words and the layers below that each layer reads, and on the readout, in training.
        share_embeddings: one embedding for source and target (a joint vocabulary).
        tie_embeddings: the output layer scores words by their embedding; E = R.
        scale_embeddings: what is read of a word is its embedding times sqrt(E).
    """

    source_vocab_size: int
    vocab_size: int
    embedding: int = 620
    hidden: int = 1000
    layers: int = 4
    attention: int = 1000
    readout: int = 500
    cell: Cell = "gru"
    score: Score = "additive"
    input_feeding: bool = True
    maxout: bool = True
    dropout: float = 0.0
    share_embeddings: bool = False
    tie_embeddings: bool = False
    scale_embeddings: bool = False

    def __post_init__(self) -> None:
        check_sizes(self)
        check_cell(self)
        check_decoder(self, annotation_size=2 * self.hidden)
        check_words(self, self.readout)


class Model(System):
    takes = ("tokens",)

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.words = Words(config, config.readout)
        widths = [config.embedding, *[2 * config.hidden] * (config.layers - 1)]
        self.encoder = nn.ModuleList(
            make_layer(config.cell, width, config.hidden, bidirectional=True) for width in widths
        )
        self.start = nn.Linear(config.hidden, len(PARTS[config.cell]) * config.hidden)
        self.decoder = make_decoder(config, 2 * config.hidden)
        self.dropout = nn.Dropout(config.dropout)

    def encode(self, source: Source) -> Memory:
        lengths = real_lengths(source.mask)
        x = self.words.source(source.values)
        for depth, layer in enumerate(self.encoder):
            outputs, backward = run_layer(layer, self.dropout(x), lengths=lengths)
            x = outputs + x if depth else outputs
        start = torch.tanh(self.start(backward["h"]))[:, None].chunk(len(backward), -1)
        return self.decoder.precompute(x, source.mask, dict(zip(backward, start, strict=True)))

    def init_state(self, memory: Memory) -> State:
        return self.decoder.start(memory)

    def step(self, tokens: Tensor, state: State, memory: Memory) -> Step:
        readout, state, weights = self.decoder.step(self.words.target(tokens), state, memory)
        return Step(self.project(readout), state, weights)

    def unroll(self, memory: Memory, inputs: Tensor) -> Unrolled:
        return Unrolled(*self.decoder.unroll(self.words.target(inputs), memory))

    def project(self, readout: Tensor) -> Tensor:
        return self.words.project(readout)
