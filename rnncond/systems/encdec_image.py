"""The encoder-decoder with an image for its source: the image is the decoder's first state, and nothing else.

    h_0^l, c_0^l = tanh(W^l I + b^l)             for every layer l ("init-inject": Tanti, Gatt and Camilleri 2018)
    h_t = RNN(W_e y_t, h_{t-1})                  as the decoder of Sutskever, Vinyals and Le 2014
    p(y_{t+1}) = softmax(W h_t)

It is the baseline of the captioning systems: they differ from it in where and how often the image enters.

Departures: no paper fixes the sizes; the defaults are those of ``show_tell``, so that the two differ in where the image
enters and in nothing else. Features are standardised (``rnncond.standardise``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from rnncond.cells import PARTS, Stack, check_cell
from rnncond.contract import Memory, Source, State, Step, System, Unrolled, check_sizes, per_row
from rnncond.fast.output_layer import OutputLayer
from rnncond.standardise import Standardise
from rnncond.text.special_tokens import PAD


@dataclass(frozen=True, kw_only=True)
class Config:
    """Sizes.

    Attributes:
        vocab_size: V, words of the vocabulary.
        feature_size: D, width of the image's pooled feature.
        embedding: E, width of the word vectors.
        hidden: H, width of each layer's state.
        layers: the decoder's depth.
        cell: the kind of each layer, ``lstm`` or ``gru``.
        dropout: rate on what each layer and the output read, in training.
    """

    vocab_size: int
    feature_size: int
    embedding: int = 512
    hidden: int = 512
    layers: int = 1
    cell: Literal["lstm", "gru"] = "lstm"
    dropout: float = 0.3

    def __post_init__(self) -> None:
        check_sizes(self)
        check_cell(self.cell)


class Model(System):
    takes = ("pooled",)

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.standardise = Standardise(config.feature_size)
        self.parts = PARTS[config.cell]
        self.embed = nn.Embedding(config.vocab_size, config.embedding, padding_idx=PAD)
        self.image = nn.Linear(config.feature_size, len(self.parts) * config.layers * config.hidden)
        self.decoder = Stack(config.cell, config.embedding, config.hidden, config.layers, dropout=config.dropout)
        self.output = OutputLayer(config.hidden, config.vocab_size)
        self.dropout = nn.Dropout(config.dropout)

    def encode(self, source: Source) -> Memory:
        """The state that the image gives: h and, for an LSTM, c (B, layers, H)."""
        start = torch.tanh(self.image(self.standardise(source.values)))
        start = start.view(len(start), len(self.parts), self.config.layers, self.config.hidden)
        return dict(zip(self.parts, start.unbind(1), strict=True))

    def init_state(self, memory: Memory) -> State:
        return dict(memory)

    def step(self, tokens: Tensor, state: State, memory: Memory) -> Step:
        top, state = self.decoder.step(self.embed(tokens), state)
        return Step(self.project(self.dropout(top)), state, None)

    def unroll(self, memory: Memory, inputs: Tensor) -> Unrolled:
        state = {name: per_row(part, len(inputs)) for name, part in memory.items()}
        outputs, _ = self.decoder.run(self.embed(inputs), state)
        return Unrolled(self.dropout(outputs))

    def project(self, readout: Tensor) -> Tensor:
        logits: Tensor = self.output(readout)
        return logits
