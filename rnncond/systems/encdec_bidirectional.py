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
from torch import Tensor, nn

from rnncond.cells import PARTS, Cell, check_cell, make_layer, real_lengths, run_layer
from rnncond.contract import Memory, Source, State, Step, System, Unrolled, check_sizes
from rnncond.decoders import Score, check_decoder, make_decoder
from rnncond.embeddings import Words, check_words


@dataclass(frozen=True, kw_only=True)
class Config:
    """Sizes; the defaults are RNNsearch's.

    Attributes:
        source_vocab_size, vocab_size: of the source, and V.
        embedding, hidden: E, and H of each direction and of the decoder.
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
        self.encoder = make_layer(config.cell, config.embedding, config.hidden, bidirectional=True)
        self.start = nn.Linear(config.hidden, len(PARTS[config.cell]) * config.hidden)
        self.decoder = make_decoder(config, 2 * config.hidden)
        self.dropout = nn.Dropout(config.dropout)

    def encode(self, source: Source) -> Memory:
        words = self.dropout(self.words.source(source.values))
        outputs, backward = run_layer(self.encoder, words, lengths=real_lengths(source.mask))
        start = torch.tanh(self.start(backward["h"]))[:, None].chunk(len(backward), -1)
        return self.decoder.precompute(outputs, source.mask, dict(zip(backward, start, strict=True)))

    def init_state(self, memory: Memory) -> State:
        return self.decoder.start(memory)

    def step(self, tokens: Tensor, state: State, memory: Memory) -> Step:
        readout, state, weights = self.decoder.step(self.words.target(tokens), state, memory)
        return Step(self.project(readout), state, weights)

    def unroll(self, memory: Memory, inputs: Tensor) -> Unrolled:
        return Unrolled(*self.decoder.unroll(self.words.target(inputs), memory))

    def project(self, readout: Tensor) -> Tensor:
        return self.words.project(readout)
