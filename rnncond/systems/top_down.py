"""Bottom-up and top-down attention: one LSTM looks, another speaks (Anderson et al. 2018).

v_i are the features of L regions, a different L for every picture; y_t the last word; E_t its embedding W_e y_t.

    h1_t, c1_t = LSTM([h2_{t-1}; mean_i v_i; E_t], h1_{t-1}, c1_{t-1})      (equations 1, 2)
    a_{t,i} = w . tanh(W_va v_i + W_ha h1_t),  alpha_t = softmax(a_t)       (equations 3, 4)
    v_t = sum_i alpha_{t,i} v_i                                             (equation 5)
    h2_t, c2_t = LSTM([v_t; h1_t], h2_{t-1}, c2_{t-1})                      (equation 6)
    p(y) = softmax(W_p h2_t + b_p)                                          (equation 7)

Departures: dropout, which the paper does not mention, is on the word embeddings and on h2_t where the output reads it;
set it to 0 for the paper's model. Features are standardised (``rnncond.standardise``). A grid does in place of regions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from rnncond.attention import AdditiveAttention, cheaper_projected, mean_place
from rnncond.contract import Memory, Source, State, Step, System, Unrolled, check_sizes, per_row
from rnncond.fast.fused import StepProducts, lstm_cell, lstm_gates
from rnncond.fast.output_layer import OutputLayer
from rnncond.standardise import Standardise
from rnncond.text.special_tokens import PAD


@dataclass(frozen=True, kw_only=True)
class Config:
    """Sizes; the defaults are the paper's.

    Attributes:
        vocab_size: V, words of the vocabulary.
        feature_size: D, width of a region's feature.
        embedding: E, width of the word vectors.
        hidden: H, width of the state of both LSTMs.
        attention: A, width of the layer that compares regions with the first LSTM's state.
        dropout: rate on the words and on the second LSTM's output h2, in training.
    """

    vocab_size: int
    feature_size: int
    embedding: int = 1000
    hidden: int = 1000
    attention: int = 512
    dropout: float = 0.5

    def __post_init__(self) -> None:
        check_sizes(self)


class Model(System):
    takes = ("regions", "grid")

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.standardise = Standardise(config.feature_size)
        hidden, size = config.hidden, config.feature_size
        self.embed = nn.Embedding(config.vocab_size, config.embedding, padding_idx=PAD)
        self.attention_cell = nn.LSTMCell(hidden + size + config.embedding, hidden)
        self.attend = AdditiveAttention(hidden, size, config.attention)
        self.language_cell = nn.LSTMCell(size + hidden, hidden)
        self.output = OutputLayer(hidden, config.vocab_size)
        self.dropout = nn.Dropout(config.dropout)

    def encode(self, source: Source) -> Memory:
        """The regions (B, L, D), their keys (B, L, A), what their mean adds to the gates (B, 4H), and the mask."""
        cell = self.attention_cell
        values = self.standardise(source.values)
        memory = {
            "values": values,
            "keys": self.attend.keys(values),
            "gates": functional.linear(
                mean_place(values, source.mask), self.input_weights()[1], cell.bias_ih + cell.bias_hh
            ),
        }
        return memory if source.mask is None else {**memory, "mask": source.mask}

    def init_state(self, memory: Memory) -> State:
        zeros = memory["gates"].new_zeros(len(memory["gates"]), self.config.hidden)
        return dict.fromkeys(("h1", "c1", "h2", "c2"), zeros)

    def step(self, tokens: Tensor, state: State, memory: Memory) -> Step:
        from_h2, _, from_word = self.input_weights()
        gates = functional.linear(self.dropout(self.embed(tokens)), from_word)
        gates = gates + functional.linear(state["h2"], from_h2) + per_row(memory["gates"], len(tokens))
        gates = gates + functional.linear(state["h1"], self.attention_cell.weight_hh)
        h1, c1 = lstm_gates(gates, state["c1"])
        context, weights = self.attend(h1, memory["keys"], memory["values"], memory.get("mask"))
        h2, c2 = lstm_cell(torch.cat([context, h1], 1), state["h2"], state["c2"], *self.language_cell.parameters())
        return Step(self.project(self.dropout(h2)), {"h1": h1, "c1": c1, "h2": h2, "c2": c2}, weights)

    def unroll(self, memory: Memory, inputs: Tensor) -> Unrolled:
        values, weight = memory["values"], self.language_cell.weight_ih[:, : self.config.feature_size]
        (examples, places, size), width = values.shape, 4 * self.config.hidden
        # Where that costs less, every place is multiplied once by what v_t meets, rather than every v_t.
        projected = cheaper_projected(places, size, width, inputs.numel() // examples)
        if projected:
            values = functional.linear(values, weight)
        first, query, second = self.products(memory, inputs, with_context=not projected)
        attend = self.attend.over(memory["keys"], values, memory.get("mask"))
        h1 = c1 = h2 = c2 = memory["gates"].new_zeros(len(inputs), self.config.hidden)
        outputs, looks = [], []
        for _ in range(inputs.shape[1]):
            h1, c1 = lstm_gates(first(torch.cat([h2, h1], 1)), c1)
            context, weights = attend(query(h1))
            if projected:
                h2, c2 = lstm_gates(second(torch.cat([h1, h2], 1)) + context, c2)
            else:
                h2, c2 = lstm_gates(second(torch.cat([context, h1, h2], 1)), c2)
            outputs.append(h2)
            looks.append(weights)
        return Unrolled(self.dropout(torch.stack(outputs, 1)), torch.stack(looks, 1))

    def project(self, readout: Tensor) -> Tensor:
        logits: Tensor = self.output(readout)
        return logits

    def products(
        self, memory: Memory, inputs: Tensor, with_context: bool
    ) -> tuple[StepProducts, StepProducts, StepProducts]:
        """What every step computes: the first LSTM's gates from [h2; h1], the query, the second's from [v; h1; h2], or
        from [h1; h2] without ``with_context``."""
        from_h2, _, from_word = self.input_weights()
        words = functional.linear(self.dropout(self.embed(inputs)), from_word)
        known = words + per_row(memory["gates"], len(inputs))[:, None]
        cell, second = self.attention_cell, self.language_cell
        known_later = second.weight_ih if with_context else second.weight_ih[:, self.config.feature_size :]
        no_bias = words.new_zeros(self.config.attention)
        return (
            StepProducts(torch.cat([from_h2, cell.weight_hh], 1), known),
            StepProducts(self.attend.query.weight, no_bias.expand(*inputs.shape, -1)),
            StepProducts(
                torch.cat([known_later, second.weight_hh], 1),
                (second.bias_ih + second.bias_hh).expand(*inputs.shape, -1),
            ),
        )

    def input_weights(self) -> tuple[Tensor, ...]:
        """The first LSTM's input weights apart: for h2 (4H, H), the mean region (4H, D) and the word (4H, E)."""
        config = self.config
        sizes = [config.hidden, config.feature_size, config.embedding]
        return tuple(self.attention_cell.weight_ih.split(sizes, 1))
