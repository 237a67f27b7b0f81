"""Show, Attend and Tell: an LSTM that looks at one part of the picture for each word (Xu et al. 2015).

a_i are the L annotation vectors, the values of all feature maps at one place; y_{t-1} the last word.

    h_0 = tanh(W_h mean_i a_i),  c_0 = tanh(W_c mean_i a_i)      (section 3.1.2)
    e_{t,i} = v . tanh(W_a a_i + U_a h_{t-1}),  alpha_t = softmax(e_t)      (equations 4, 5)
    beta_t = sigmoid(f_beta(h_{t-1}))                            (section 4.2.1)
    z_t = beta_t sum_i alpha_{t,i} a_i                           (equation 13)
    h_t, c_t = LSTM([E y_{t-1}; z_t], h_{t-1}, c_{t-1})          (equations 1 to 3)
    p(y_t) = softmax(L_o (E y_{t-1} + L_h h_t + L_z z_t))        (equation 7)

Soft attention adds lambda sum_i (1 - sum_t alpha_{t,i})^2 to the loss of a caption, t over its words and EOS.

Departures: h_0 and c_0 come from one layer each. Dropout is on h_t, where the deep output reads it, and on the deep
output's sum, as in the authors' code, which also gives the sizes that the paper leaves out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rnncond.attention import AdditiveAttention, mean_place
from rnncond.contract import PAD, Memory, Source, State, Step, System, Unrolled, check_sizes, per_row


@dataclass(frozen=True, kw_only=True)
class Config:
    """Sizes; the defaults are those of the authors' MS COCO model.

    Attributes:
        vocab_size: V.
        feature_size: D of an annotation vector.
        embedding, hidden, attention: E, H and A.
        dropout: rate on h_t and on the deep output, in training.
        doubly_stochastic: lambda, the weight of the penalty on places looked at too much or too little.
    """

    vocab_size: int
    feature_size: int
    embedding: int = 512
    hidden: int = 1800
    attention: int = 512
    dropout: float = 0.5
    doubly_stochastic: float = 1.0

    def __post_init__(self) -> None:
        check_sizes(self)
        if self.doubly_stochastic < 0:
            raise ValueError(f"doubly_stochastic is {self.doubly_stochastic}; it must be 0 or more")


class Model(System):
    takes = ("grid", "regions")

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.embed = nn.Embedding(config.vocab_size, config.embedding, padding_idx=PAD)
        self.init_h = nn.Linear(config.feature_size, config.hidden)
        self.init_c = nn.Linear(config.feature_size, config.hidden)
        self.attend = AdditiveAttention(config.hidden, config.feature_size, config.attention, bias=True)
        self.gate = nn.Linear(config.hidden, 1)
        self.cell = nn.LSTMCell(config.embedding + config.feature_size, config.hidden)
        self.deep_h = nn.Linear(config.hidden, config.embedding)
        self.deep_z = nn.Linear(config.feature_size, config.embedding, bias=False)
        self.output = nn.Linear(config.embedding, config.vocab_size)
        self.dropout = nn.Dropout(config.dropout)

    def encode(self, source: Source) -> Memory:
        """The annotations (B, L, D), their keys (B, L, A), h_0 and c_0 (B, H), and the mask (B, L) if there is one."""
        values = source.values.to(self.init_h.weight.dtype)
        mean = mean_place(values, source.mask)
        memory = {
            "values": values,
            "keys": self.attend.keys(values),
            "h": torch.tanh(self.init_h(mean)),
            "c": torch.tanh(self.init_c(mean)),
        }
        return memory if source.mask is None else {**memory, "mask": source.mask}

    def init_state(self, memory: Memory) -> State:
        return {"h": memory["h"], "c": memory["c"]}

    def step(self, tokens: Tensor, state: State, memory: Memory) -> Step:
        words = self.embed(tokens)
        h, c, z, weights = self.advance(words, state["h"], state["c"], memory)
        return Step(self.project(self.deep_output(words, h, z)), {"h": h, "c": c}, weights)

    def unroll(self, memory: Memory, inputs: Tensor) -> Unrolled:
        words = self.embed(inputs)
        h, c = (per_row(memory[name], inputs.shape[0]) for name in ("h", "c"))
        steps = []
        for word in words.unbind(1):
            h, c, z, weights = self.advance(word, h, c, memory)
            steps.append((h, z, weights))
        h, z, weights = (torch.stack(tensors, dim=1) for tensors in zip(*steps, strict=True))
        extras = {"mask": memory["mask"]} if "mask" in memory else None
        return Unrolled(self.deep_output(words, h, z), weights, extras)

    def project(self, readout: Tensor) -> Tensor:
        return self.output(readout)

    def regulariser(self, unrolled: Unrolled, log_probs: Tensor, mask: Tensor) -> Tensor:
        """Doubly stochastic attention (equation 14), over real words and real places."""
        looked = torch.einsum("nt,ntl->nl", mask.to(unrolled.attention.dtype), unrolled.attention)
        missed = (1 - looked) ** 2
        if unrolled.extras:
            missed = missed * per_row(unrolled.extras["mask"], len(missed))
        return self.config.doubly_stochastic * missed.sum()

    def advance(self, word: Tensor, h: Tensor, c: Tensor, memory: Memory) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Read a word's embedding (N, E): the next h and c (N, H), the gated context z (N, D), the weights (N, L)."""
        context, weights = self.attend(h, memory["keys"], memory["values"], memory.get("mask"))
        z = torch.sigmoid(self.gate(h)) * context
        h, c = self.cell(torch.cat([word, z], -1), (h, c))
        return h, c, z, weights

    def deep_output(self, words: Tensor, h: Tensor, z: Tensor) -> Tensor:
        return self.dropout(words + self.deep_h(self.dropout(h)) + self.deep_z(z))
