"""Show, Attend and Tell: an LSTM that looks at one part of the picture for each word (Xu et al. 2015).

a_i are the L annotation vectors, the values of all feature maps at one place; y_{t-1} the last word.

    h_0 = tanh(W_h mean_i a_i),  c_0 = tanh(W_c mean_i a_i)      (section 3.1.2)
    e_{t,i} = v . tanh(W_a a_i + U_a h_{t-1}),  alpha_t = softmax(e_t)      (equations 4, 5)
    beta_t = sigmoid(f_beta(h_{t-1}))                            (section 4.2.1)
    z_t = beta_t sum_i alpha_{t,i} a_i                           (equation 13; soft)
    z_t = beta_t a_{s_t},  s_t drawn from alpha_t                (equations 8, 9; hard)
    h_t, c_t = LSTM([E y_{t-1}; z_t], h_{t-1}, c_{t-1})          (equations 1 to 3)
    p(y_t) = softmax(L_o (E y_{t-1} + L_h h_t + L_z z_t))        (equation 7)

Soft attention adds lambda sum_i (1 - sum_t alpha_{t,i})^2 to the loss of a caption (equation 14), t over its words and
EOS. Hard attention draws places in training only, and adds to the loss of a caption what has the gradient

    -lambda_r (log p(y | s) - b) d log p(s) - lambda_e d H[s]    (section 4.1)

with the baseline b <- 0.9 b + 0.1 log p(y | s), averaged over the captions of a step, however many batches and ranks
share it; for half of the captions the expectation takes the place of the drawn places. Decoding and evaluation use the
expectation, so that they are deterministic: it is the normalised weighted geometric mean that approximates the marginal
over places (section 4.2).

The scale of lambda_r and lambda_e: here both weigh against the cross-entropy of the same caption, summed over its
words, and all three are divided by the words of the batch. The authors' code (``capgen.py``) divides otherwise: the
cross-entropy by the B captions of a batch, and the terms of the places by nothing, where log p(y | s) and b are means
over the T words of a caption, and are divided by 10. A caption of theirs so has lambda_r = B / (10 T) of the scale here
(0.6 for 64 captions of 11 words), and its lambda_e of 0.002 is 0.002 B here (0.13). The defaults here are 0.1 and 0.02:
on Flickr8k the estimator harms at 1, and up to 0.1 it does not (docs/results.md).

Departures: h_0 and c_0 come from one layer each; the gate is there for hard attention too. Dropout is on h_t, where the
deep output reads it, and on the deep output's sum, as in the authors' code, which also gives the sizes that the paper
leaves out. Features are standardised (``rnncond.standardise``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from rnncond.attention import AdditiveAttention, cheaper_projected, mean_place
from rnncond.contract import Memory, Source, State, Step, System, Unrolled, check_sizes, draw, per_row
from rnncond.fast.fused import StepProducts, lstm_cell, lstm_gates
from rnncond.fast.output_layer import OutputLayer
from rnncond.standardise import Standardise
from rnncond.text.special_tokens import PAD

EXPECTED = 0.5
"""Share of captions that hard attention trains on the expectation."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Sizes; the defaults are those of the authors' MS COCO model.

    Attributes:
        vocab_size: V, words of the vocabulary.
        feature_size: D, width of an annotation vector: the image's features at one place.
        embedding: E, width of the word vectors.
        hidden: H, width of the LSTM's state.
        attention: A, width of the layer that compares places with the decoder's state.
        dropout: rate on the LSTM's output h_t and on the deep output, in training.
        attention_kind: ``soft`` reads the mean of all places, ``hard`` one place that is drawn.
        doubly_stochastic: lambda, weight of soft attention's penalty on places that get too much or too little of it.
        reinforce: lambda_r, weight of hard attention's REINFORCE term against the caption's cross-entropy.
        entropy: lambda_e, weight of the entropy of hard attention's places, likewise.
    """

    vocab_size: int
    feature_size: int
    embedding: int = 512
    hidden: int = 1800
    attention: int = 512
    dropout: float = 0.5
    attention_kind: Literal["soft", "hard"] = "soft"
    doubly_stochastic: float = 1.0
    reinforce: float = 0.1
    entropy: float = 0.02

    def __post_init__(self) -> None:
        check_sizes(self)
        if self.attention_kind not in ("soft", "hard"):
            raise ValueError(f"attention_kind is {self.attention_kind!r}; it must be soft or hard")
        for name in ("doubly_stochastic", "reinforce", "entropy"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 0 or more")


class Model(System):
    takes = ("grid", "regions")
    baseline: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.standardise = Standardise(config.feature_size)
        self.embed = nn.Embedding(config.vocab_size, config.embedding, padding_idx=PAD)
        self.init_h = nn.Linear(config.feature_size, config.hidden)
        self.init_c = nn.Linear(config.feature_size, config.hidden)
        self.attend = AdditiveAttention(config.hidden, config.feature_size, config.attention, bias=True)
        self.gate = nn.Linear(config.hidden, 1)
        self.cell = nn.LSTMCell(config.embedding + config.feature_size, config.hidden)
        self.deep_h = nn.Linear(config.hidden, config.embedding)
        self.deep_z = nn.Linear(config.feature_size, config.embedding, bias=False)
        self.output = OutputLayer(config.embedding, config.vocab_size)
        self.dropout = nn.Dropout(config.dropout)
        if config.attention_kind == "hard":
            self.register_buffer("baseline", torch.zeros(()))
            self.sentence_sums: Tensor | None = None

    def encode(self, source: Source) -> Memory:
        """The annotations (B, L, D), their keys (B, L, A), h_0 and c_0 (B, H), and the mask (B, L) if there is one."""
        values = self.standardise(source.values)
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
        words, h = self.embed(tokens), state["h"]
        context, weights = self.attend(h, memory["keys"], memory["values"], memory.get("mask"))
        z = torch.sigmoid(self.gate(h)) * context
        h, c = lstm_cell(torch.cat([words, z], 1), h, state["c"], *self.cell.parameters())
        return Step(self.project(self.deep_output(words, h, self.deep_z(z))), {"h": h, "c": c}, weights)

    def unroll(self, memory: Memory, inputs: Tensor) -> Unrolled:
        words = self.embed(inputs)
        h, c = (per_row(memory[name], len(inputs)) for name in ("h", "c"))
        values, split = memory["values"], self.projects(memory["values"], inputs)
        if split:
            values = functional.linear(values, torch.cat([self.context_weight(), self.deep_z.weight]))
        reads, gates = self.products(words, with_context=not split)
        attend = self.attend.over(memory["keys"], values, memory.get("mask"))
        draws = Draws(values, len(inputs)) if self.draws_places else None
        steps = []
        for _ in range(inputs.shape[1]):
            query, gate = reads(h).split([self.config.attention, 1], 1)
            context, weights = attend(query)
            if draws is not None:
                context = draws(context, weights)
            z = torch.sigmoid(gate) * context
            if split:
                added, z = z.split(split, 1)
                h, c = lstm_gates(gates(h) + added, c)
            else:
                h, c = lstm_gates(gates(torch.cat([z, h], 1)), c)
            steps.append((h, z, weights))
        h, z, weights = (torch.stack(tensors, dim=1) for tensors in zip(*steps, strict=True))
        extras = {"mask": memory["mask"]} if "mask" in memory else {}
        if draws is not None:
            extras |= draws.extras(weights)
        return Unrolled(self.deep_output(words, h, z if split else self.deep_z(z)), weights, extras)

    def project(self, readout: Tensor) -> Tensor:
        logits: Tensor = self.output(readout)
        return logits

    def regulariser(self, unrolled: Unrolled, log_probs: Tensor, mask: Tensor) -> Tensor:
        """The doubly stochastic term, or hard attention's estimator; over real words and real places."""
        if self.config.attention_kind == "soft":
            added: Tensor = self.config.doubly_stochastic * self.doubly_stochastic_penalty(unrolled, mask)
            return added
        if unrolled.extras is None or "drawn" not in unrolled.extras:
            return log_probs.new_zeros(())
        return self.estimator(unrolled.extras, log_probs.detach().sum(1), mask)

    @property
    def draws_places(self) -> bool:
        return self.training and self.config.attention_kind == "hard"

    def projects(self, values: Tensor, inputs: Tensor) -> list[int]:
        """Where it costs less to multiply every place once by all that z_t meets, rather than every z_t: the widths of
        the products, for the LSTM's gates and for the deep output; else empty."""
        (examples, places, size), widths = values.shape, [4 * self.config.hidden, self.config.embedding]
        return widths if cheaper_projected(places, size, sum(widths), inputs.numel() // examples) else []

    def context_weight(self) -> Tensor:
        """What multiplies z_t in the LSTM's gates, (4H, D)."""
        return self.cell.weight_ih[:, self.config.embedding :]

    def products(self, words: Tensor, with_context: bool) -> tuple[StepProducts, StepProducts]:
        """What every step computes: [query; gate] from h_{t-1}, and the LSTM's gates from [z_t; h_{t-1}], or from
        h_{t-1} alone without ``with_context``."""
        cell = self.cell
        no_bias = self.gate.bias.new_zeros(self.config.attention)
        reads = StepProducts(
            torch.cat([self.attend.query.weight, self.gate.weight]),
            torch.cat([no_bias, self.gate.bias]).expand(*words.shape[:2], -1),
        )
        gates = StepProducts(
            torch.cat([self.context_weight(), cell.weight_hh], 1) if with_context else cell.weight_hh,
            functional.linear(words, cell.weight_ih[:, : self.config.embedding], cell.bias_ih + cell.bias_hh),
        )
        return reads, gates

    def deep_output(self, words: Tensor, h: Tensor, from_z: Tensor) -> Tensor:
        """What p(y_t) is read from; ``from_z`` is L_z z_t."""
        total: Tensor = self.dropout(words + self.deep_h(self.dropout(h)) + from_z)
        return total

    def doubly_stochastic_penalty(self, unrolled: Unrolled, mask: Tensor) -> Tensor:
        """sum_i (1 - sum_t alpha_{t,i})^2 over the captions that have words."""
        weights, extras = unrolled.attention, unrolled.extras or {}
        assert weights is not None
        looked = torch.einsum("nt,ntl->nl", mask.to(weights.dtype), weights)
        counted = mask.any(1, keepdim=True)
        if "mask" in extras:
            counted = counted & per_row(extras["mask"], len(mask))
        return ((1 - looked) ** 2 * counted).sum()

    def estimator(self, extras: dict[str, Tensor], sentence: Tensor, mask: Tensor) -> Tensor:
        """Minus what hard attention gains from its places and their entropy; ``sentence`` (N,) is log p(y | s)."""
        gain = (sentence - self.baseline) * extras["drawn"]
        chosen = (gain * (extras["log_prob"] * mask).sum(1)).sum()
        entropy = (extras["entropy"] * mask).sum()
        sums = torch.stack([sentence.sum(), mask.any(1).sum()]).double()
        self.sentence_sums = sums if self.sentence_sums is None else self.sentence_sums + sums
        added: Tensor = -self.config.reinforce * chosen - self.config.entropy * entropy
        return added

    def running_sums(self) -> Tensor | None:
        """The log p(y | s) of the captions since the last call, summed, and how many they are: (2,) float64."""
        if self.config.attention_kind == "soft":
            return None
        sums, self.sentence_sums = self.sentence_sums, None
        return self.baseline.new_zeros(2, dtype=torch.float64) if sums is None else sums

    def update_running(self, sums: Tensor) -> None:
        """Move hard attention's baseline towards the mean log p(y | s) of a step's captions."""
        total, count = sums
        mean = torch.where(count > 0, total / count.clamp_min(1), self.baseline.double())
        self.baseline.lerp_(mean.to(self.baseline.dtype), 0.1)


class Draws:
    """Hard attention's places of one batch of captions, drawn step by step."""

    def __init__(self, values: Tensor, rows: int) -> None:
        self.values = values
        self.examples = torch.arange(rows, device=values.device) // (rows // len(values))
        self.drawn = torch.rand(rows, device=values.device) >= EXPECTED
        self.places: list[Tensor] = []

    def __call__(self, context: Tensor, weights: Tensor) -> Tensor:
        """The annotation of a place drawn from ``weights`` (N, L); ``context`` where the expectation is kept."""
        place = draw(weights.detach())
        self.places.append(place)
        return torch.where(self.drawn[:, None], self.values[self.examples, place], context)

    def extras(self, weights: Tensor) -> dict[str, Tensor]:
        """Which captions drew (N,), and of each step (N, T) the place's log-probability and the entropy."""
        logs = weights.clamp_min(torch.finfo(weights.dtype).tiny).log()
        log_prob = logs.gather(2, torch.stack(self.places, 1)[..., None])[..., 0]
        return {"drawn": self.drawn, "log_prob": log_prob, "entropy": -(weights * logs).sum(2)}
