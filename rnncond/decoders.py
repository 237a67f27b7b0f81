"""What the translators of one attention share: their Config, their steps, and two decoders to choose from.

``ContextDecoder`` (Bahdanau, Cho and Bengio 2015) looks before it moves: the context enters the cell.
``AttentionalDecoder`` (Luong, Pham and Manning 2015) looks after: the context meets the state in the readout, and
input feeding tells the next step what was looked at.

Both read the annotations h_i through matrices of their own, W c_t with c_t = sum_i alpha_{t,i} h_i. As W c_t =
sum_i alpha_{t,i} W h_i, ``precompute`` computes W h_i once per source and a step only takes the mean.

Shapes: words (N, E) or (N, T, E), annotations (B, S, D), readout (N, R) or (N, T, R), weights (N, S) or (N, T, S).
State is that of ``rnncond.cells.Stack``, (N, layers, H), and ``readout`` (N, R) with input feeding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from rnncond.attention import AdditiveAttention, DotAttention, GeneralAttention, mix
from rnncond.cells import (
    Cell,
    FeedbackCell,
    Stack,
    advance,
    check_cell,
    layer_state,
    prepend_layer,
    upper_state,
)
from rnncond.contract import Memory, State, Step, System, Unrolled, check_sizes, per_row
from rnncond.embeddings import Words, check_words
from rnncond.fast.fused import StepProducts

Score = Literal["additive", "dot", "general", "concat"]


@dataclass(frozen=True, kw_only=True)
class AttentiveConfig:
    """What the translators of one attention have in common; the defaults are RNNsearch's (Bahdanau et al. 2015).

    Attributes:
        source_vocab_size: words of the source's vocabulary.
        vocab_size: V, words of the target's vocabulary.
        embedding: E, width of the word vectors.
        hidden: H, width of the state of the decoder and of each direction of the encoder.
        attention: A, width of the layer in which the scores additive and concat compare source words with the decoder's
            state.
        readout: R, width of what the output layer reads.
        cell: the kind of each layer, lstm or gru.
        score: how source words are compared with the decoder's state: additive (Bahdanau's decoder); dot, general or
            concat (Luong's). dot needs annotations as wide as the state (H).
        input_feeding: Luong's decoder reads its last readout; additive always feeds the context.
        maxout: the readout is the larger of pairs; else tanh.
        dropout: on the words and the layers below that each layer reads, and on the readout, in training.
        share_embeddings: one embedding for source and target (a joint vocabulary).
        tie_embeddings: the output layer scores words by their embedding; embedding (E) must equal readout (R).
        scale_embeddings: what is read of a word is its embedding times sqrt(E), the root of its width.
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

    directions: ClassVar[int] = 2
    """In which the encoder reads: the annotations have ``directions`` H values."""

    def __post_init__(self) -> None:
        """Raises ValueError naming the value found and what it may be."""
        check_sizes(self)
        check_cell(self.cell)
        if self.score not in get_args(Score):
            raise ValueError(f"score is {self.score!r}; it must be one of {', '.join(get_args(Score))}")
        if self.score == "dot" and self.directions > 1:
            raise ValueError(
                f"score 'dot' compares a state of {self.hidden} values with annotations of "
                f"{self.directions * self.hidden}; use 'general', which has a matrix between them"
            )
        if self.score == "additive" and not self.input_feeding:
            raise ValueError(
                "score 'additive' always feeds its context to the cell; leave input_feeding on or use 'concat'"
            )
        check_words(self, self.readout)


class AttentiveModel(System):
    """A translator of one attention but for its encoder: ``words``, and a ``decoder`` that the subclass makes last."""

    takes = ("tokens",)
    decoder: ContextDecoder | AttentionalDecoder

    def __init__(self, config: AttentiveConfig) -> None:
        super().__init__(config)
        self.words = Words(config, config.readout)

    def init_state(self, memory: Memory) -> State:
        return self.decoder.start(memory)

    def step(self, tokens: Tensor, state: State, memory: Memory) -> Step:
        readout, state, weights = self.decoder.step(self.words.target(tokens), state, memory)
        return Step(self.project(readout), state, weights)

    def unroll(self, memory: Memory, inputs: Tensor) -> Unrolled:
        return Unrolled(*self.decoder.unroll(self.words.target(inputs), memory))

    def project(self, readout: Tensor) -> Tensor:
        return self.words.project(readout)


def make_decoder(config: AttentiveConfig, layers: int = 1) -> ContextDecoder | AttentionalDecoder:
    """The decoder that ``config.score`` asks for: ``additive`` is Bahdanau's, the other scores are Luong's."""
    kind = ContextDecoder if config.score == "additive" else AttentionalDecoder
    return kind(config, config.directions * config.hidden, layers)


class Readout(nn.Module):
    """f(W_s s + W_y y + what the context adds): tanh, or maxout over pairs (Goodfellow et al. 2013).

    Unit j is paired with unit j + R instead of its neighbour, which only numbers the units differently.
    """

    def __init__(self, state: int, words: int, size: int, maxout: bool) -> None:
        super().__init__()
        self.maxout, self.width = maxout, 2 * size if maxout else size
        self.state = nn.Linear(state, self.width)
        self.words = nn.Linear(words, self.width, bias=False) if words else None

    def forward(self, state: Tensor, words: Tensor | None, context: Tensor) -> Tensor:
        """``state`` is W_s s and ``context`` what the context adds, (..., width) both; words (..., E)."""
        total = state + context
        if self.words is not None:
            total = total + self.words(words)
        return torch.maximum(*total.chunk(2, -1)) if self.maxout else total.tanh()


class Decoder(nn.Module):
    """What both decoders share: the memory of a source, and the state that it starts from."""

    context: nn.Linear
    fed: int | None = None

    def precompute(self, annotations: Tensor, mask: Tensor | None, state: State) -> Memory:
        """What decoding needs of the source; ``state`` (B, layers, H) is the one to start from."""
        memory = {"readouts": self.context(annotations), **{f"start_{name}": part for name, part in state.items()}}
        return memory if mask is None else {**memory, "mask": mask}

    def start(self, memory: Memory) -> State:
        """The state before the first word, of B rows."""
        return {name: memory[f"start_{name}"] for name in ("h", "c") if f"start_{name}" in memory}

    def start_rows(self, memory: Memory, rows: int) -> State:
        """The same of N rows."""
        return {name: per_row(part, rows) for name, part in self.start(memory).items()}


class ContextCell(nn.Module):
    """A layer that looks at the source and then moves: its last output asks, and the context enters with the word.

    e_{t,i} = v . tanh(W s_{t-1} + U h_i),  c_t = sum_i alpha_{t,i} h_i,  s_t = cell([E y_{t-1}; c_t], s_{t-1})
    """

    def __init__(self, config: Any, annotation_size: int) -> None:
        super().__init__()
        self.attention = AdditiveAttention(config.hidden, annotation_size, config.attention)
        self.cell = FeedbackCell(config.cell, config.embedding, annotation_size, config.hidden, config.dropout)

    def precompute(self, annotations: Tensor) -> Memory:
        """The keys (B, S, A) of ``annotations`` (B, S, D), and what each adds to the gates (B, S, G)."""
        return {"keys": self.attention.keys(annotations), "gates": self.cell.feedback(annotations)}

    def step(self, words: Tensor, state: State, memory: Memory) -> tuple[State, Tensor]:
        """The next state (N, H) and the weights."""
        fed, weights = self.attention(state["h"], memory["keys"], memory["gates"], memory.get("mask"))
        return advance(self.cell.read(words) + fed, self.cell.recurrent(state["h"]), state), weights

    def run(self, words: Tensor, state: State, memory: Memory) -> tuple[Tensor, Tensor]:
        """All steps: outputs (N, T, H) and the weights."""
        look = self.attention.over(memory["keys"], memory["gates"], memory.get("mask"))
        reads = products([self.cell.recurrent, self.attention.query], words.shape[:2])
        outputs, looks = [], []
        for gates in self.cell.read(words).unbind(1):
            recurrent, query = reads(state["h"]).split([gates.shape[1], self.attention.query.out_features], 1)
            fed, weights = look(query)
            state = advance(gates + fed, recurrent, state)
            outputs.append(state["h"])
            looks.append(weights)
        return torch.stack(outputs, 1), torch.stack(looks, 1)


def products(layers: list[nn.Linear], shape: torch.Size) -> StepProducts:
    """The outputs of ``layers``, side by side, for one input (N, I) at each of the N x T steps of ``shape``."""
    biases: list[Tensor] = [
        layer.weight.new_zeros(layer.out_features) if layer.bias is None else layer.bias for layer in layers
    ]
    weights: list[Tensor] = [layer.weight for layer in layers]
    return StepProducts(torch.cat(weights), torch.cat(biases).expand(*shape, -1))


class ContextDecoder(Decoder):
    """Bahdanau's decoder (appendix A.2.2): a ContextCell, then

        readout_t = maxout or tanh of U_o s_t + V_o E y_{t-1} + C_o c_t

    Layers above the first, which the paper has not, read s_t. As only the first attends, they run over all steps at
    once.
    """

    def __init__(self, config: AttentiveConfig, annotation_size: int, layers: int) -> None:
        super().__init__()
        hidden = config.hidden
        self.bottom = ContextCell(config, annotation_size)
        self.upper = Stack(config.cell, hidden, hidden, layers - 1, dropout=config.dropout)
        self.readout = Readout(hidden, config.embedding, config.readout, config.maxout)
        self.context = nn.Linear(annotation_size, self.readout.width, bias=False)
        self.dropout = nn.Dropout(config.dropout)

    def precompute(self, annotations: Tensor, mask: Tensor | None, state: State) -> Memory:
        return super().precompute(annotations, mask, state) | self.bottom.precompute(annotations)

    def step(self, words: Tensor, state: State, memory: Memory) -> tuple[Tensor, State, Tensor]:
        """One step: words (N, E) to the readout (N, R), the next state and the weights (N, S)."""
        bottom, weights = self.bottom.step(words, layer_state(state, 0), memory)
        top, upper = self.upper.step(bottom["h"], upper_state(state))
        readout = self.readout(self.readout.state(top), words, mix(weights, memory["readouts"]))
        return self.dropout(readout), prepend_layer(bottom, upper), weights

    def unroll(self, words: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """All steps from the memory's state: words (N, T, E) to readouts (N, T, R) and the weights (N, T, S)."""
        state = self.start_rows(memory, len(words))
        outputs, weights = self.bottom.run(words, layer_state(state, 0), memory)
        top, _ = self.upper.run(outputs, upper_state(state))
        readout = self.readout(self.readout.state(top), words, mix(weights, memory["readouts"]))
        return self.dropout(readout), weights


class AttentionalDecoder(Decoder):
    """Luong's decoder (sections 3.1 and 3.3).

        s_t = stack([E y_{t-1}; readout_{t-1}], s_{t-1}), without readout_{t-1} if nothing is fed
        e_{t,i} = s_t . h_i (dot), s_t . W h_i (general) or v . tanh(W_a [s_t; h_i]) (concat)
        readout_t = tanh (or maxout) of W_c [c_t; s_t]

    W_a [s; h] is W s + U h: concat is the additive score, asked by another state.
    """

    def __init__(self, config: AttentiveConfig, annotation_size: int, layers: int) -> None:
        super().__init__()
        hidden, dropout = config.hidden, config.dropout
        self.attention: DotAttention | AdditiveAttention
        if config.score == "dot":
            self.attention = DotAttention()
        elif config.score == "general":
            self.attention = GeneralAttention(hidden, annotation_size)
        else:
            self.attention = AdditiveAttention(hidden, annotation_size, config.attention)
        if config.input_feeding:
            self.fed = config.readout
            self.cell = FeedbackCell(config.cell, config.embedding, config.readout, hidden, dropout)
            self.upper = Stack(config.cell, hidden, hidden, layers - 1, dropout=dropout)
        else:
            self.stack = Stack(config.cell, config.embedding, hidden, layers, dropout=dropout)
        self.readout = Readout(hidden, 0, config.readout, config.maxout)
        self.context = nn.Linear(annotation_size, self.readout.width, bias=False)
        self.dropout = nn.Dropout(dropout)

    def precompute(self, annotations: Tensor, mask: Tensor | None, state: State) -> Memory:
        return super().precompute(annotations, mask, state) | {"keys": self.attention.keys(annotations)}

    def start(self, memory: Memory) -> State:
        state = super().start(memory)
        return state if self.fed is None else {**state, "readout": state["h"].new_zeros(len(state["h"]), self.fed)}

    def step(self, words: Tensor, state: State, memory: Memory) -> tuple[Tensor, State, Tensor]:
        """One step: words (N, E) to the readout (N, R), the next state and the weights (N, S)."""
        if self.fed is None:
            top, state = self.stack.step(words, state)
        else:
            recurrent = {name: part for name, part in state.items() if name != "readout"}
            bottom = layer_state(recurrent, 0)
            gates = self.cell.read(words) + self.cell.feedback(state["readout"])
            bottom = advance(gates, self.cell.recurrent(bottom["h"]), bottom)
            top, upper = self.upper.step(bottom["h"], upper_state(recurrent))
            state = prepend_layer(bottom, upper)
        readout, weights = self.look(top, memory)
        if self.fed is not None:
            state["readout"] = readout
        return self.dropout(readout), state, weights

    def unroll(self, words: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """All steps from the memory's state: words (N, T, E) to readouts (N, T, R) and the weights (N, T, S)."""
        state = self.start_rows(memory, len(words))
        if self.fed is None:
            top, _ = self.stack.run(words, state)
            readout, weights = (part.unflatten(0, words.shape[:2]) for part in self.look(top.flatten(0, 1), memory))
        else:
            readout, weights = self.feed(words, state, memory)
        return self.dropout(readout), weights

    def look(self, top: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """The attentional vectors of states ``top``: (rows, H) to (rows, R), and the weights (rows, S)."""
        context, weights = self.attention(top, memory["keys"], memory["readouts"], memory.get("mask"))
        return self.readout(self.readout.state(top), None, context), weights

    def feed(self, words: Tensor, state: State, memory: Memory) -> tuple[Tensor, Tensor]:
        """All steps with input feeding: readouts (N, T, R) and the weights."""
        readout, shape = state.pop("readout"), words.shape[:2]
        bottom, upper = layer_state(state, 0), upper_state(state)
        gates = StepProducts(self.cell.feedback.weight, self.cell.read(words))
        recurrent = products([self.cell.recurrent], shape)
        asks = [self.attention.query] if isinstance(self.attention, AdditiveAttention) else []
        reads = products([self.readout.state, *asks], shape)
        look = self.attention.over(memory["keys"], memory["readouts"], memory.get("mask"))
        upper_step = self.upper.steps(*shape)
        readouts, looks = [], []
        for _ in range(shape[1]):
            bottom = advance(gates(readout), recurrent(bottom["h"]), bottom)
            top, upper = upper_step(bottom["h"], upper)
            part, query = reads(top).tensor_split([self.readout.width], 1)
            context, weights = look(query if asks else top)
            readout = self.readout(part, None, context)
            readouts.append(readout)
            looks.append(weights)
        return torch.stack(readouts, 1), torch.stack(looks, 1)
