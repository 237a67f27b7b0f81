"""Encoder-decoder with attention: the decoder looks back at every word of the source.

h_i are the outputs of the encoder's top layer, which reads from left to right; s_t is the decoder's state.

``score="additive"`` is Bahdanau, Cho and Bengio (2015), who look before the decoder moves:

    e_{t,i} = v . tanh(W s_{t-1} + U h_i)
    alpha_t = softmax(e_t),  c_t = sum_i alpha_{t,i} h_i
    s_t = GRU([E y_{t-1}; c_t], s_{t-1})
    p(y_t) = softmax(W_o maxout(U_o s_t + V_o E y_{t-1} + C_o c_t))

``score="dot"``, ``"general"`` and ``"concat"`` are Luong, Pham and Manning (2015), who look after it:

    s_t = LSTM([E y_{t-1}; h~_{t-1}], s_{t-1})      with input feeding; else E y_{t-1} alone
    e_{t,i} = s_t . h_i,  s_t . W h_i  or  v . tanh(W_a [s_t; h_i])
    h~_t = tanh(W_c [c_t; s_t])
    p(y_t) = softmax(W_s h~_t)

Either decoder (``rnncond.decoders``) starts from the encoder's final state, layer by layer.

Departures: Bahdanau's encoder is bidirectional (``encdec_bidirectional``); here it shows what attention brings by
itself. His s_0 is made of h_1 of the backward encoder, here it is the final state; his readout takes s_{t-1}, here s_t.
Luong's source is reversed, here it is not; his vectors may use maxout. Torch's GRU applies the reset gate after the
recurrent product.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rnncond.cells import Cell, Stack, check_cell, real_lengths
from rnncond.contract import Memory, Source, State, Step, System, Unrolled, check_sizes
from rnncond.decoders import Score, check_decoder, make_decoder
from rnncond.embeddings import Words, check_words


@dataclass(frozen=True, kw_only=True)
class Config:
    """Sizes; the defaults are Bahdanau's. Luong's: lstm, layers 4, embedding, hidden and readout 1000, no maxout.

    Attributes:
        source_vocab_size, vocab_size: of the source, and V.
        embedding, hidden, layers: E, H and the depth of encoder and decoder.
        attention: A, of the scores additive and concat.
        readout: R, what the output layer reads.
        cell: lstm or gru.
        score: additive (Bahdanau's decoder); dot, general or concat (Luong's).
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
    layers: int = 1
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
        check_decoder(self, annotation_size=self.hidden)
        check_words(self, self.readout)


class Model(System):
    takes = ("tokens",)

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.words = Words(config, config.readout)
        self.encoder = Stack(config.cell, config.embedding, config.hidden, config.layers, dropout=config.dropout)
        self.decoder = make_decoder(config, config.hidden, config.layers)

    def encode(self, source: Source) -> Memory:
        outputs, final = self.encoder.run(self.words.source(source.values), lengths=real_lengths(source.mask))
        return self.decoder.precompute(outputs, source.mask, final)

    def init_state(self, memory: Memory) -> State:
        return self.decoder.start(memory)

    def step(self, tokens: Tensor, state: State, memory: Memory) -> Step:
        readout, state, weights = self.decoder.step(self.words.target(tokens), state, memory)
        return Step(self.project(readout), state, weights)

    def unroll(self, memory: Memory, inputs: Tensor) -> Unrolled:
        return Unrolled(*self.decoder.unroll(self.words.target(inputs), memory))

    def project(self, readout: Tensor) -> Tensor:
        return self.words.project(readout)
