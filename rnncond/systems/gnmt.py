"""Google's neural machine translation: deep LSTMs with residuals, and attention from the bottom layer (Wu et al. 2016).

Encoder (section 3.1): the first layer reads in both directions; from the third on, a layer's input is added to its
output (equation 6):

    x^1 = [->LSTM_1(E x); <-LSTM_1(E x)],  x^2 = LSTM_2(x^1),  x^l = LSTM_l(x^{l-1}) + x^{l-1}  for l >= 3

Decoder (sections 3 and 3.1): the context comes from the first layer's last output and enters every layer, so that the
layers above never wait for one another's attention:

    e_{t,i} = v . tanh(W s^1_{t-1} + U x^L_i),  alpha_t = softmax(e_t),  a_t = sum_i alpha_{t,i} x^L_i      (equation 4)
    s^1_t = LSTM_1([E y_{t-1}; a_t], s^1_{t-1})
    z^1 = s^1,  z^2 = LSTM_2([z^1; a]),  z^l = LSTM_l([z^{l-1}; a]) + z^{l-1}  for l >= 3
    p(y_t) = softmax(W z^L_t)

Departures: the paper does not say where the decoder starts; here layer l starts from the final state of the encoder's
layer l, of the first layer's backward direction. Gradients and activations are not clipped for quantised inference.
``cell="gru"`` is not the paper's.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from rnncond.attention import mix
from rnncond.cells import (
    PARTS,
    Cell,
    Stack,
    check_cell,
    layer_state,
    make_layer,
    prepend_layer,
    real_lengths,
    run_layer,
    upper_state,
)
from rnncond.contract import Memory, Source, State, Step, System, Unrolled, check_sizes, per_row
from rnncond.decoders import ContextCell
from rnncond.embeddings import Words, check_words


@dataclass(frozen=True, kw_only=True)
class Config:
    """Sizes; the defaults are the paper's.

    Attributes:
        source_vocab_size: words of the source's vocabulary.
        vocab_size: V, words of the target's vocabulary.
        embedding: E, width of the word vectors.
        hidden: H, width of each layer's state.
        attention: A, width of the layer that compares source words with the decoder's state.
        layers: the depth of encoder and decoder, at least 2.
        cell: the kind of each layer, lstm or gru.
        dropout: on the words and the layers below that each layer reads, and on the readout, in training.
        share_embeddings: one embedding for source and target (a joint vocabulary).
        tie_embeddings: the output layer scores words by their embedding; embedding (E) must equal hidden (H).
        scale_embeddings: what is read of a word is its embedding times sqrt(E), the root of its width.
    """

    source_vocab_size: int
    vocab_size: int
    embedding: int = 1024
    hidden: int = 1024
    attention: int = 1024
    layers: int = 8
    cell: Cell = "lstm"
    dropout: float = 0.2
    share_embeddings: bool = False
    tie_embeddings: bool = False
    scale_embeddings: bool = False

    def __post_init__(self) -> None:
        check_sizes(self)
        check_cell(self.cell)
        if self.layers < 2:
            raise ValueError(f"layers is {self.layers}; gnmt has at least 2, the first of them bidirectional")
        check_words(self, self.hidden)


class Model(System):
    takes = ("tokens",)

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        cell, hidden, dropout = config.cell, config.hidden, config.dropout
        # Layer 3 of the model is the second of those above the first.
        above = config.layers - 1
        self.words = Words(config, hidden)
        self.encoder = make_layer(cell, config.embedding, hidden, bidirectional=True)
        self.upper_encoder = Stack(cell, 2 * hidden, hidden, above, dropout=dropout, residual_from=2)
        self.decoder = ContextCell(config, hidden)
        self.upper_decoder = Stack(cell, hidden, hidden, above, dropout=dropout, residual_from=2, context=hidden)
        self.dropout = nn.Dropout(dropout)

    def encode(self, source: Source) -> Memory:
        """Annotations (B, S, H), their keys (B, S, A), what they add to the decoder's first layer (B, S, G), states."""
        lengths = real_lengths(source.mask)
        outputs, bottom = run_layer(self.encoder, self.dropout(self.words.source(source.values)), lengths=lengths)
        annotations, upper = self.upper_encoder.run(outputs, lengths=lengths)
        memory = {
            "annotations": annotations,
            **self.decoder.precompute(annotations),
            **prepend_layer(bottom, upper),
        }
        return memory if source.mask is None else {**memory, "mask": source.mask}

    def init_state(self, memory: Memory) -> State:
        return {part: memory[part] for part in PARTS[self.config.cell]}

    def step(self, tokens: Tensor, state: State, memory: Memory) -> Step:
        bottom, weights = self.decoder.step(self.words.target(tokens), layer_state(state, 0), memory)
        context = self.upper_decoder.context_gates(mix(weights, memory["annotations"]))
        top, upper = self.upper_decoder.step(bottom["h"], upper_state(state), context)
        return Step(self.project(self.dropout(top)), prepend_layer(bottom, upper), weights)

    def unroll(self, memory: Memory, inputs: Tensor) -> Unrolled:
        """Only the first layer goes step by step: those above know all contexts once it is through."""
        words = self.words.target(inputs)
        state = {name: per_row(part, len(words)) for name, part in self.init_state(memory).items()}
        outputs, weights = self.decoder.run(words, layer_state(state, 0), memory)
        context = mix(weights, memory["annotations"])
        top, _ = self.upper_decoder.run(outputs, upper_state(state), context=context)
        return Unrolled(self.dropout(top), weights)

    def project(self, readout: Tensor) -> Tensor:
        return self.words.project(readout)
