"""Encoder-decoder: a sentence becomes one vector, and the vector a sentence.

x_i are the source words, y_{t-1} the last target word.

Sequence to sequence learning (Sutskever, Vinyals and Le 2014), ``feed_context=False``:

    h_i = LSTM(E x_i, h_{i-1})              four layers; with ``reverse_source`` over x_S .. x_1
    s_0 = h_S                               h and c of each layer
    s_t = LSTM(E y_{t-1}, s_{t-1})
    p(y_t) = softmax(W s_t)

RNN encoder-decoder (Cho et al. 2014, appendix A), ``feed_context=True``, ``cell="gru"``, ``layers=1``:

    c = tanh(V h_S)
    s_0 = tanh(V' c)
    s_t = GRU([E y_{t-1}; c], s_{t-1})
    p(y_t) = softmax(W maxout(O_h s_t + O_y E y_{t-1} + O_c c))      pairs: R = H / 2

Departures: with several layers, c is fed to each, and an LSTM's c_0 has a V' of its own. Cho's output matrix is a
product of two, of rank 100; here it is one. Cho's reset gate acts on all that the new state has from before,
tanh(W x + r * (U s_{t-1} + C c)); torch's GRU applies it after the recurrent product and to that alone,
tanh(W x + C c + r * (U s_{t-1} + b)), so that c enters the new state ungated. Reversal includes the source's EOS, which
is then read first.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rnncond.cells import PARTS, Cell, Stack, check_cell, real_lengths, reverse
from rnncond.contract import Memory, Source, State, Step, System, Unrolled, check_sizes, per_row
from rnncond.embeddings import Words, check_words


@dataclass(frozen=True, kw_only=True)
class Config:
    """Sizes; the defaults are Sutskever's. Cho's: cell gru, layers 1, embedding 100, feed_context, no reversal.

    Attributes:
        source_vocab_size: words of the source's vocabulary.
        vocab_size: V, words of the target's vocabulary.
        embedding: E, width of the word vectors.
        hidden: H, width of each layer's state.
        layers: the depth of encoder and decoder.
        cell: the kind of each layer, lstm or gru.
        reverse_source: read the source from its last word to its first.
        feed_context: Cho's decoder, which reads the source's vector at every step and not only at the first.
        dropout: on the words and the layers below that each layer reads, and on the readout, in training.
        share_embeddings: one embedding for source and target (a joint vocabulary).
        tie_embeddings: the output layer scores words by their embedding; embedding (E) must equal hidden (H), or
            half of it with feed_context.
        scale_embeddings: what is read of a word is its embedding times sqrt(E), the root of its width.
    """

    source_vocab_size: int
    vocab_size: int
    embedding: int = 1000
    hidden: int = 1000
    layers: int = 4
    cell: Cell = "lstm"
    reverse_source: bool = True
    feed_context: bool = False
    dropout: float = 0.0
    share_embeddings: bool = False
    tie_embeddings: bool = False
    scale_embeddings: bool = False

    def __post_init__(self) -> None:
        check_sizes(self)
        check_cell(self.cell)
        if self.feed_context and self.hidden % 2:
            raise ValueError(f"hidden is {self.hidden}; feed_context takes the larger of pairs, so it must be even")
        check_words(self, self.readout)

    @property
    def readout(self) -> int:
        """R."""
        return self.hidden // 2 if self.feed_context else self.hidden


class Model(System):
    takes = ("tokens",)

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        hidden, layers, dropout = config.hidden, config.layers, config.dropout
        fed = hidden if config.feed_context else 0
        self.words = Words(config, config.readout)
        self.encoder = Stack(config.cell, config.embedding, hidden, layers, dropout=dropout)
        self.decoder = Stack(config.cell, config.embedding, hidden, layers, dropout=dropout, context=fed)
        self.dropout = nn.Dropout(dropout)
        if config.feed_context:
            self.summary = nn.Linear(hidden, hidden)
            self.start = nn.Linear(hidden, len(PARTS[config.cell]) * layers * hidden)
            self.deep_state = nn.Linear(hidden, hidden)
            self.deep_word = nn.Linear(config.embedding, hidden, bias=False)
            self.deep_context = nn.Linear(hidden, hidden, bias=False)

    def encode(self, source: Source) -> Memory:
        """The decoder's first state (B, layers, H) and, of a fed context, c (B, H) and what it adds everywhere."""
        lengths = real_lengths(source.mask)
        tokens = reverse(source.values, lengths) if self.config.reverse_source else source.values
        _, final = self.encoder.run(self.words.source(tokens), lengths=lengths)
        if not self.config.feed_context:
            return final
        context = torch.tanh(self.summary(final["h"][:, -1]))
        start = torch.tanh(self.start(context)).unflatten(-1, (-1, self.config.layers, self.config.hidden))
        return {
            **dict(zip(PARTS[self.config.cell], start.unbind(1), strict=True)),
            "context": context,
            "gates": self.decoder.context_gates(context),
            "deep": self.deep_context(context),
        }

    def init_state(self, memory: Memory) -> State:
        return {part: memory[part] for part in PARTS[self.config.cell]}

    def step(self, tokens: Tensor, state: State, memory: Memory) -> Step:
        words, rows = self.words.target(tokens), len(tokens)
        gates = per_row(memory["gates"], rows) if self.config.feed_context else None
        top, state = self.decoder.step(words, state, gates)
        if self.config.feed_context:
            top = self.deep_output(top, words, per_row(memory["deep"], rows))
        return Step(self.project(self.dropout(top)), state, None)

    def unroll(self, memory: Memory, inputs: Tensor) -> Unrolled:
        words, (rows, steps) = self.words.target(inputs), inputs.shape
        state = {part: per_row(memory[part], rows) for part in PARTS[self.config.cell]}
        if not self.config.feed_context:
            return Unrolled(self.dropout(self.decoder.run(words, state)[0]))
        context = per_row(memory["context"], rows)[:, None].expand(-1, steps, -1)
        top, _ = self.decoder.run(words, state, context=context)
        return Unrolled(self.dropout(self.deep_output(top, words, per_row(memory["deep"], rows)[:, None])))

    def project(self, readout: Tensor) -> Tensor:
        return self.words.project(readout)

    def deep_output(self, top: Tensor, words: Tensor, context: Tensor) -> Tensor:
        """Maxout over pairs; unit j is paired with j + R instead of its neighbour, which only renumbers the units."""
        return torch.maximum(*(self.deep_state(top) + self.deep_word(words) + context).chunk(2, -1))
