"""The multimodal RNN: image and words meet after the recurrence, never inside it (Mao et al. 2014).

x_t is the last word, I the image's feature (AlexNet's fc7 in the first version).

    w_t = W_2 W_1 x_t                            (two embedding layers)
    r_t = ReLU(U r_{t-1} + w_t),  r_0 = 0        (equation 3)
    m_t = g(V_w w_t + V_r r_t + V_I I),  g(x) = 1.7159 tanh(2x/3)      (equations 4, 5)
    p(x_{t+1}) = softmax(W_o m_t)

Departures: U starts as the identity (Le, Jaitly and Hinton 2015), which lets a ReLU recurrence remember from the start;
dropout, at the default rate of 0.3, is on w_t where m_t reads it and on m_t; features are standardised
(``rnncond.standardise``).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rnncond.contract import Memory, Source, State, Step, System, Unrolled, check_sizes
from rnncond.fast.fused import StepProducts
from rnncond.fast.output_layer import OutputLayer
from rnncond.standardise import Standardise
from rnncond.text.special_tokens import PAD


@dataclass(frozen=True, kw_only=True)
class Config:
    """Sizes; the defaults are the paper's.

    Attributes:
        vocab_size: V, words of the vocabulary.
        feature_size: D, width of the image's pooled feature.
        embedding: E, width of the first word layer.
        hidden: H, width of the second word layer and of the recurrent layer.
        multimodal: R, width of the layer where words and image meet.
        dropout: rate on the words' and the multimodal layer, in training.
    """

    vocab_size: int
    feature_size: int
    embedding: int = 128
    hidden: int = 256
    multimodal: int = 512
    dropout: float = 0.3

    def __post_init__(self) -> None:
        check_sizes(self)


class Model(System):
    takes = ("pooled",)

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.standardise = Standardise(config.feature_size)
        self.embed = nn.Embedding(config.vocab_size, config.embedding, padding_idx=PAD)
        self.embed_again = nn.Linear(config.embedding, config.hidden)
        self.recurrent = nn.Linear(config.hidden, config.hidden, bias=False)
        self.from_words = nn.Linear(config.hidden, config.multimodal)
        self.from_recurrent = nn.Linear(config.hidden, config.multimodal, bias=False)
        self.from_image = nn.Linear(config.feature_size, config.multimodal, bias=False)
        self.output = OutputLayer(config.multimodal, config.vocab_size)
        self.dropout = nn.Dropout(config.dropout)
        nn.init.eye_(self.recurrent.weight)

    def encode(self, source: Source) -> Memory:
        """What the image adds to the multimodal layer, V_I I (B, R)."""
        return {"image": self.from_image(self.standardise(source.values))}

    def init_state(self, memory: Memory) -> State:
        return {"r": memory["image"].new_zeros(len(memory["image"]), self.config.hidden)}

    def step(self, tokens: Tensor, state: State, memory: Memory) -> Step:
        words = self.embed_again(self.embed(tokens))
        r = torch.relu(self.recurrent(state["r"]) + words)
        readout = self.meet(words[:, None], r[:, None], memory["image"])[:, 0]
        return Step(self.project(readout), {"r": r}, None)

    def unroll(self, memory: Memory, inputs: Tensor) -> Unrolled:
        words = self.embed_again(self.embed(inputs))
        products = StepProducts(self.recurrent.weight, words)
        r, states = words.new_zeros(len(inputs), self.config.hidden), []
        for _ in range(inputs.shape[1]):
            r = torch.relu(products(r))
            states.append(r)
        return Unrolled(self.meet(words, torch.stack(states, 1), memory["image"]))

    def project(self, readout: Tensor) -> Tensor:
        logits: Tensor = self.output(readout)
        return logits

    def meet(self, words: Tensor, r: Tensor, image: Tensor) -> Tensor:
        """The multimodal layer (N, T, R) of ``words`` and ``r`` (N, T, H) and ``image`` (B, R)."""
        from_sentence = self.from_words(self.dropout(words)) + self.from_recurrent(r)
        total = from_sentence.view(len(image), -1, from_sentence.shape[-1]) + image[:, None]
        met: Tensor = self.dropout(1.7159 * torch.tanh(total * (2 / 3)))
        return met.view_as(from_sentence)
