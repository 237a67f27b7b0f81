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

from rnncond.cells import Stack, real_lengths
from rnncond.contract import Memory, Source
from rnncond.decoders import AttentiveConfig, AttentiveModel, make_decoder


@dataclass(frozen=True, kw_only=True)
class Config(AttentiveConfig):
    """Sizes and kinds as in AttentiveConfig, whose defaults are Bahdanau's, and the depth.

    Luong's: cell lstm, layers 4, embedding, hidden and readout 1000, score dot, general or concat, no maxout.

    Attributes:
        layers: the depth of encoder and decoder.
    """

    layers: int = 1

    directions = 1


class Model(AttentiveModel):
    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.encoder = Stack(config.cell, config.embedding, config.hidden, config.layers, dropout=config.dropout)
        self.decoder = make_decoder(config, config.layers)

    def encode(self, source: Source) -> Memory:
        outputs, final = self.encoder.run(self.words.source(source.values), lengths=real_lengths(source.mask))
        return self.decoder.precompute(outputs, source.mask, final)
