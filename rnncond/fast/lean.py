"""Weights in the form by which decoding is fastest: packed by oneDNN, in bfloat16, or in int8.

``lean(model, precision)`` is a copy of a model that encodes and steps. It shares the weights; each gets its form once,
at the first product. Attention's own matrices stay in float32, since their product enters an exponential. int8 is for
the output layer alone. With fewer bits than float32's the output layer's best words are computed again
(``screen``).
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from rnncond.attention import AdditiveAttention, DotAttention
from rnncond.contract import System
from rnncond.fast.kernels import Kernel
from rnncond.fast.onednn import Product, packed, packed_rows
from rnncond.fast.output_layer import output_product

Precision = Literal["float32", "bfloat16", "int8"]
Form = Callable[[Tensor, Tensor | None], Product]

COMPILED = 2**16
"""Products of numbers, of the words that are computed again, from which a compiled loop is worth it."""
TABLE = 2**25
"""The most numbers (128 MB) of a table of products: 10,000 words times the gates of an LSTM of 800."""
ROWS_AT_ONCE = 512
"""Of a table, while it is made."""


def supported(precision: Precision, device: torch.device) -> bool:
    """Whether ``device`` multiplies faster in ``precision`` than in float32; without instructions for it a CPU does
    not, and decodes in float32 instead."""
    if precision == "bfloat16":
        return device.type == "cuda" or (device.type == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported())
    if precision == "int8":
        return device.type == "cpu" and torch.backends.quantized.engine in ("x86", "fbgemm", "onednn")
    return True


def lean(model: System, precision: Precision) -> System:
    """A copy of ``model`` for decoding, which multiplies in ``precision``, where its device does so faster.

    It has the model's weights, not copies; change neither while it is in use.
    """
    device = next(model.parameters()).device
    precision = precision if supported(precision, device) else "float32"
    if precision == "float32" and packed_rows(device) == 0:
        return model
    exact = {
        id(weight)
        for module in model.modules()
        if isinstance(module, AdditiveAttention | DotAttention)
        for weight in module.parameters()
    }
    forms: dict[int, Any] = {
        id(weight): LeanWeight(weight.data, "float32" if id(weight) in exact else precision)
        if weight.ndim == 2
        else weight
        for weight in model.parameters()
    }
    return copy.deepcopy(model, forms | {id(buffer): buffer for buffer in model.buffers()})


class LeanWeight(nn.Parameter):
    """A matrix that ``functional.linear`` multiplies by in a lean form; to all else it is what it is. The products of
    words can come from a table.

    Parts cut out of it are matrices of the same kind, each made once.
    """

    precision: Precision
    form: tuple[Tensor | None, Product] | None
    table: tuple[LeanWeight, Tensor | None, Tensor] | None
    seen: int
    parts: dict[str, Any]

    def __new__(cls, values: Tensor, precision: Precision) -> LeanWeight:
        weight = cast(LeanWeight, super().__new__(cls, values, requires_grad=False))
        weight.precision, weight.form, weight.parts = precision, None, {}
        weight.table, weight.seen = None, 0
        return weight

    @classmethod
    def __torch_function__(
        cls,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Any = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        own = args[0] if args and isinstance(args[0], LeanWeight) else None
        if own is not None and function in (Tensor.split, Tensor.__getitem__):
            key = f"{args[1:]} {kwargs}"
            if key not in own.parts:
                with torch._C.DisableTorchFunctionSubclass():
                    cut = function(*args, **(kwargs or {}))
                many = isinstance(cut, tuple)
                made = [LeanWeight(part, own.precision) for part in (cut if many else [cut])]
                own.parts[key] = tuple(made) if many else made[0]
            return own.parts[key]
        with torch._C.DisableTorchFunctionSubclass():
            if function is functional.linear:
                x, weight, bias = _operands(*args, **(kwargs or {}))
                if isinstance(weight, LeanWeight):
                    rows = x if x.ndim == 2 else x.flatten(0, -2)
                    return weight.by_rows(rows, bias, _words_of(x)).view(*x.shape[:-1], len(weight))
            result = function(*args, **(kwargs or {}))
            if function is functional.embedding and isinstance(args[1], LeanWeight) and args[0].ndim == 1:
                result.words = args[0], args[1]
            return result

    @property
    def in_bfloat16(self) -> bool:
        """Whether a layer of the encoder, which multiplies by itself, is to do so in bfloat16."""
        half = self.precision == "bfloat16" or (self.precision == "int8" and has_bfloat16())
        return half and self.device.type == "cpu"

    def by_rows(self, x: Tensor, bias: Tensor | None, words: tuple[Tensor, LeanWeight] | None) -> Tensor:
        """``product``, of rows of an embedding's matrix out of a table once it pays: ``words`` are their places (N,)
        there, and the matrix.

        The table has the product of every row, (V, O); it is made when as many rows have been multiplied.
        """
        if words is None or not self.fits(words[1]):
            return self.product(x, bias)
        ids, embedding = words
        if self.table is None or self.table[0] is not embedding or self.table[1] is not bias:
            self.seen += len(x)
            if self.seen < len(embedding):
                return self.product(x, bias)
            parts = [self.product(part, bias) for part in embedding.data.split(ROWS_AT_ONCE)]
            self.table = embedding, bias, torch.cat(parts)
        return self.table[2].index_select(0, ids)

    def fits(self, embedding: Tensor) -> bool:
        """Whether a table of products is small enough; on a GPU it would save nothing."""
        return self.device.type == "cpu" and len(embedding) * len(self) <= TABLE

    def product(self, x: Tensor, bias: Tensor | None, forms: Mapping[Precision, Form] | None = None) -> Tensor:
        """x W^T + b in float32, for ``x`` (N, I)."""
        if self.form is None or self.form[0] is not bias:
            self.form = bias, (forms or FORMS)[self.precision](self.data, bias)
        return self.form[1](x)

    def logits(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """``product`` as the output layer's: in fewer bits than float32's the logits have ``exact_of``."""
        return self.product(x, bias, OUTPUT_FORMS)


def _operands(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor | None]:
    """What ``functional.linear`` was given, by place or by its names."""
    return input, weight, bias


def _words_of(x: Tensor) -> tuple[Tensor, LeanWeight] | None:
    """The words and the lean embedding whose rows ``x`` is, as they are; None if it is something else."""
    return getattr(x, "words", None)


def in_float32(weight: Tensor, bias: Tensor | None) -> Product:
    """By oneDNN for as many rows as it is the faster one for."""
    most, multiply = packed_rows(weight.device), plain(weight, bias)
    if not most or weight.dtype is not torch.float32:
        return multiply
    by_onednn = packed(weight, bias)
    return lambda x: by_onednn(x) if len(x) <= most else multiply(x)


def plain(weight: Tensor, bias: Tensor | None) -> Product:
    """By torch's own product."""
    if bias is not None:
        return lambda x: output_product(x, weight, bias)
    return lambda x: functional.linear(x, weight, bias)


def in_bfloat16(weight: Tensor, bias: Tensor | None) -> Product:
    """Products of bfloat16, summed in float32."""
    half, added = weight.bfloat16(), None if bias is None else bias.bfloat16()
    by_onednn = weight.device.type == "cpu" and supported("bfloat16", weight.device)
    multiply = packed(half, added) if by_onednn else plain(half, added)
    return lambda x: multiply(x.bfloat16()).float()


def screened(form: Form) -> Form:
    """``form`` as the output layer's. bfloat16 alone would leave equals among the best words of most rows."""

    def make(weight: Tensor, bias: Tensor | None) -> Product:
        multiply = form(weight, bias)
        return lambda x: screen(multiply(x), x, weight, bias)

    return make


def screen(logits: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``logits`` (N, V), nearly x W^T + b for ``x`` (N, R) and ``weight`` (V, R), with the way to the exact ones.

    An output layer in int8 is off by a hundredth or so. The log-sum-exp over all words averages that out, but two words
    of nearly the same probability may change places, so the search computes again those among which it chooses.
    """

    def exact(words: Tensor) -> Tensor:
        values = products_of.if_worth(words.numel() * x.shape[1] >= COMPILED, _products_of, x, weight, words)
        return values if bias is None else values + bias[words]

    logits.exact = exact  # type: ignore[attr-defined]  # to all but the search these are logits like others
    return logits


def _products_of(x: Tensor, weight: Tensor, words: Tensor) -> Tensor:
    """The products of ``x`` (N, R) with some rows of ``weight`` (V, R), by ``words`` (N, M)."""
    return torch.einsum("nr,nmr->nm", x, weight[words])


@Kernel
def products_of(x: Tensor, weight: Tensor, words: Tensor) -> Tensor:
    """``_products_of`` in one loop, without copies of the rows."""
    return (x[:, None] * weight[words]).sum(-1)


def in_int8(weight: Tensor, bias: Tensor | None) -> Product:
    """Dynamic quantization: a scale for every row of W, and at each product one for x, by its largest value.

    With VNNI it is oneDNN's, which takes half the time of torch's default for many rows.
    """
    scales = weight.abs().amax(1).clamp_min(1e-9) / 127
    with warnings.catch_warnings():
        # torch will take these tensors away once there is another product of int8 as fast without AVX-512.
        warnings.filterwarnings("ignore", "torch.quantize_per_tensor")
        zeros = torch.zeros(len(weight), dtype=torch.int64)
        quantized = torch.quantize_per_channel(weight.contiguous(), scales, zeros, 0, torch.qint8)
        vnni = torch.cpu._is_vnni_supported()
        with engine("onednn") if vnni else nullcontext():
            form = torch.ops.quantized.linear_prepack(quantized, bias)
    # Without VNNI two products are summed in 16 bits, which must not overflow: x has 7 bits then.
    return lambda x: cast(Tensor, torch.ops.quantized.linear_dynamic(x.contiguous(), form, not vnni))


@contextmanager
def engine(name: str) -> Iterator[None]:
    """Weights are packed for the engine ``name`` of torch's quantized products, which they then stay with."""
    quantized = torch.backends.quantized
    before = quantized.engine
    quantized.engine = name
    try:
        yield
    finally:
        quantized.engine = before


def beside_int8(weight: Tensor, bias: Tensor | None) -> Product:
    """All but the output layer, under int8: in bfloat16 where the processor has instructions for it, else in float32.

    An error of the state stays for all words that follow. In int8, with the seven bits that x has without VNNI, it
    changes a sentence in ten; bfloat16 errs a tenth of that.
    """
    return (in_bfloat16 if has_bfloat16() else in_float32)(weight, bias)


def has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 faster than float32."""
    return torch.cpu._is_avx512_bf16_supported()


FORMS: dict[Precision, Form] = {"float32": in_float32, "bfloat16": in_bfloat16, "int8": beside_int8}
OUTPUT_FORMS: dict[Precision, Form] = FORMS | {"bfloat16": screened(in_bfloat16), "int8": screened(in_int8)}
