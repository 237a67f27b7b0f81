"""Recurrent layers: stacks that run over all steps at once or one at a time, a layer with feedback, masked encoders.

LSTM (Hochreiter and Schmidhuber 1997, with forget gates) and GRU (Cho et al. 2014) are torch's: two biases, and the
GRU's reset gate acts after the recurrent product instead of before it, so that all gates come from one product.

A layer's state is a dict of ``h`` and, for an LSTM, ``c``: (N, H) of one layer, (N, layers, H) of a stack.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from rnncond.contract import State
from rnncond.fast.fused import StepProducts, gru_gates, lstm_gates
from rnncond.fast.output_layer import LSTM

Cell = Literal["lstm", "gru"]
PARTS = {"lstm": ("h", "c"), "gru": ("h",)}
GATES = {"lstm": 4, "gru": 3}
Product = Callable[[Tensor], Tensor]
"""What a weight makes of a step's input: (N, I) to (N, G)."""


def check_cell(cell: str) -> None:
    """Refuse a ``cell`` of neither kind.

    Raises:
        ValueError: says what was found and what there is.
    """
    if cell not in PARTS:
        raise ValueError(f"cell is {cell!r}; it must be one of {', '.join(PARTS)}")


def make_layer(cell: Cell, inputs: int, hidden: int, bidirectional: bool = False) -> nn.LSTM | nn.GRU:
    """A layer of torch's, (N, T, inputs) to (N, T, hidden), or (N, T, 2 hidden) of both directions."""
    kind = LSTM if cell == "lstm" else nn.GRU
    return kind(inputs, hidden, batch_first=True, bidirectional=bidirectional)


def advance(gates: Tensor, recurrent: Tensor, state: State) -> State:
    """One step of a layer, given W x + b (N, G) and U h + b (N, G); G is 4H for an LSTM and 3H for a GRU."""
    if "c" in state:
        h, c = lstm_gates(gates + recurrent, state["c"])
        return {"h": h, "c": c}
    return {"h": gru_gates(gates, recurrent, state["h"])}


def run_layer(
    layer: nn.LSTM | nn.GRU, x: Tensor, state: State | None = None, lengths: Tensor | None = None
) -> tuple[Tensor, State]:
    """All steps of a layer: ``x`` (N, T, I) to outputs (N, T, H or 2H) and the final state.

    The state of a bidirectional layer is the backward direction's: it has read the whole sentence, first word last.
    ``lengths`` (N,) on the CPU are the real steps of each row (None: all); outputs behind them are zero.
    """
    lstm = isinstance(layer, nn.LSTM)
    start = None
    if state is not None:
        h = state["h"][None].contiguous()
        start = (h, state["c"][None].contiguous()) if lstm else h
    if lengths is None:
        outputs, final = layer(x, start)
    else:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        outputs, final = layer(packed, start)
        outputs, _ = pad_packed_sequence(outputs, batch_first=True, total_length=x.shape[1])
    return outputs, {"h": final[0][-1], "c": final[1][-1]} if lstm else {"h": final[-1]}


class Stack(nn.Module):
    """Layers of LSTM or GRU, one upon another; ``layers`` may be 0.

    Dropout acts on what each layer reads, never on its recurrence (Zaremba, Sutskever and Vinyals 2014).

    Args:
        inputs: width of what the first layer reads.
        residual_from: from this layer on (the first is 1), a layer's input is added to its output; None for nowhere.
        context: width of a vector that every layer reads beside its input.
    """

    def __init__(
        self,
        cell: Cell,
        inputs: int,
        hidden: int,
        layers: int,
        *,
        dropout: float = 0.0,
        residual_from: int | None = None,
        context: int = 0,
    ) -> None:
        super().__init__()
        widths = [inputs, *[hidden] * (layers - 1)][:layers]
        self.layers = nn.ModuleList(make_layer(cell, width + context, hidden) for width in widths)
        self.widths = widths
        self.residual_from = layers if residual_from is None else residual_from - 1
        self.dropout = nn.Dropout(dropout)

    def run(
        self, x: Tensor, state: State | None = None, lengths: Tensor | None = None, context: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """All steps of all layers: ``x`` (N, T, inputs) to outputs (N, T, H) and the final state (N, layers, H).

        ``state`` is None for zeros; ``context`` is (N, T, context).
        """
        if not self.layers:
            return x, state or {}
        finals = []
        for index, layer in enumerate(recurrent(self.layers)):
            inputs = self.dropout(x)
            if context is not None:
                inputs = torch.cat([inputs, context], -1)
            start = None if state is None else layer_state(state, index)
            outputs, final = run_layer(layer, inputs, start, lengths)
            x = outputs + x if index >= self.residual_from else outputs
            finals.append(final)
        return x, stack_states(finals)

    def step(self, x: Tensor, state: State, context_gates: Tensor | None = None) -> tuple[Tensor, State]:
        """One step: ``x`` (N, inputs) to the output (N, H) and the next state; ``context_gates`` as below."""
        products = [partial(functional.linear, weight=weight, bias=bias) for weight, bias in self.weights()]
        return self._step(products, x, state, context_gates)

    def steps(self, rows: int, steps: int) -> Callable[[Tensor, State], tuple[Tensor, State]]:
        """``step`` as a function of ``x`` and the state that training calls ``steps`` times, for N = ``rows``."""
        products = [StepProducts(weight, bias.expand(rows, steps, -1)) for weight, bias in self.weights()]
        return lambda x, state: self._step(products, x, state, None)

    def weights(self) -> list[tuple[Tensor, Tensor]]:
        """Weight and bias of each layer's product with its input, without the context's part, and with its state."""
        pairs: list[tuple[Tensor, Tensor]] = []
        for layer, width in zip(recurrent(self.layers), self.widths, strict=True):
            weight_ih, weight_hh, bias_ih, bias_hh = layer.parameters()
            # A part of a parameter would be cast at every step under autocast, which keeps the cast of a whole one.
            weight = weight_ih if width == layer.input_size else weight_ih[:, :width]
            pairs += [(weight, bias_ih), (weight_hh, bias_hh)]
        return pairs

    def _step(
        self, products: Sequence[Product], x: Tensor, state: State, context: Tensor | None
    ) -> tuple[Tensor, State]:
        if not self.layers:
            return x, state
        states = []
        for index, (read, recur) in enumerate(zip(products[::2], products[1::2], strict=True)):
            before = layer_state(state, index)
            gates = read(self.dropout(x))
            if context is not None:
                gates = gates + context[:, index]
            after = advance(gates, recur(before["h"]), before)
            x = after["h"] + x if index >= self.residual_from else after["h"]
            states.append(after)
        return x, stack_states(states)

    def context_gates(self, context: Tensor) -> Tensor:
        """What ``context`` (N, C) adds to the gates of each layer, (N, layers, G)."""
        parts = zip(recurrent(self.layers), self.widths, strict=True)
        weights = [next(layer.parameters())[:, width:] for layer, width in parts]
        return torch.stack([functional.linear(context, weight) for weight in weights], 1)


class FeedbackCell(nn.Module):
    """One LSTM or GRU layer that reads a word and something known only step by step: a context, or the last readout.

    gates = W_y y + W_f f + U h, with the three products apart: the words' for all steps at once, and the feedback's
    wherever it is cheapest (an attention's mean may be taken after the product, over a memory projected once).
    """

    def __init__(self, cell: Cell, words: int, feedback: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        gates = GATES[cell] * hidden
        self.words = nn.Linear(words, gates)
        self.feedback = nn.Linear(feedback, gates, bias=False)
        self.recurrent = nn.Linear(hidden, gates)
        self.dropout = nn.Dropout(dropout)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(hidden**-0.5), hidden**-0.5)

    def read(self, words: Tensor) -> Tensor:
        """The words' part of the gates: (..., E) to (..., G)."""
        gates: Tensor = self.words(self.dropout(words))
        return gates


def recurrent(layers: nn.ModuleList) -> list[nn.LSTM | nn.GRU]:
    """``layers`` of ``make_layer``, by their type."""
    return cast("list[nn.LSTM | nn.GRU]", list(layers))


def layer_state(state: State, index: int) -> State:
    """One layer of a stack's state: (N, layers, H) to (N, H)."""
    return {name: part[:, index] for name, part in state.items()}


def stack_states(states: list[State]) -> State:
    """The state of a stack from those of its layers: (N, H) each to (N, layers, H)."""
    return {name: torch.stack([state[name] for state in states], 1) for name in states[0]}


def upper_state(state: State) -> State:
    """A stack's state without its first layer's."""
    return {name: part[:, 1:] for name, part in state.items()}


def prepend_layer(bottom: State, upper: State) -> State:
    """The state of a stack from its first layer's (N, H) and that of the layers above (N, layers - 1, H)."""
    if not any(part.shape[1] for part in upper.values()):
        return {name: part[:, None] for name, part in bottom.items()}
    return {name: torch.cat([bottom[name][:, None], upper[name]], 1) for name in bottom}


def real_lengths(mask: Tensor | None) -> Tensor | None:
    """The words of each source sentence, (B,) on the CPU; None where nothing is padding.

    Raises:
        ValueError: a sentence has no words, or padding stands before a word.
    """
    if mask is None:
        return None
    mask = mask.cpu()
    lengths = mask.sum(1)
    if not torch.equal(mask, torch.arange(mask.shape[1]) < lengths[:, None]):
        raise ValueError("a source sentence has padding before a word; pad on the right")
    if not lengths.all():
        row = int(lengths.argmin())
        raise ValueError(f"source sentence {row} of the batch has no words; a source holds at least EOS")
    return None if int(lengths.min()) == mask.shape[1] else lengths


def reverse(tokens: Tensor, lengths: Tensor | None) -> Tensor:
    """The real words of each sentence (B, S) in reverse, padding left where it is."""
    if lengths is None:
        return tokens.flip(1)
    places = torch.arange(tokens.shape[1])
    mirrored = lengths[:, None] - 1 - places
    return tokens.gather(1, torch.where(mirrored >= 0, mirrored, places).to(tokens.device))
