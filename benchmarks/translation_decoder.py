"""How much of a translator's time is arithmetic: training and search against the bare products of the same shapes.

    python benchmarks/translation_decoder.py [--threads 2] [--rounds 9] [--out benchmarks/results]

``encdec_bidirectional`` with one LSTM layer, 256 per direction, additive scores and input feeding (``concat``), E = A =
R = 256, V = 10,000, float32 on the CPU: 64 pairs of 14 source words, 20 forced steps, no padding. Search: beam 5 and
greedy over the same 64 sentences, 20 words each (EOS is blocked until then, so that no early end helps).

``bare`` for training is every matrix product of the paper's equations, forward and twice backward (a weight's
gradient for all steps at once), the attention's tanh, softmax and sums, and the same Adam update; no gates of the
cells, no softmax over words, no loss. For search it is the forward part with the gates and the log-softmax; no choice
of words and no beams to re-order. Own and bare work by turns in one run; the ratio is bare time / own time, the middle
of all turns.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from record import compare, save, seconds, updates
from torch import Tensor, nn

from rnncond import systems
from rnncond.contract import Source
from rnncond.losses import TeacherForcing
from rnncond.search import SearchOptions, search

PAIRS, SOURCE, STEPS, VOCAB, SIZE = 64, 14, 20, 10_000, 256
CONFIG = {
    "source_vocab_size": VOCAB, "vocab_size": VOCAB, "embedding": SIZE, "hidden": SIZE, "attention": SIZE,
    "readout": SIZE, "cell": "lstm", "score": "concat", "input_feeding": True, "maxout": False,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, help="folder for the result as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    words = PAIRS * STEPS
    results = {"training target words/s": compare(words, training(), bare_training(), arguments.rounds)}
    for beam in (5, 1):
        name = f"beam {beam} sentences/s"
        results[name] = compare(PAIRS, decoding(beam), bare_decoding(beam), arguments.rounds)
    print(f"{'':<26}{'own':>9}{'bare':>9}{'ratio':>8}{'spread':>16}")
    for name, row in results.items():
        spread = f"{row['lowest']:.2f} to {row['highest']:.2f}"
        print(f"{name:<26}{row['own']:>9.1f}{row['bare']:>9.1f}{row['ratio']:>8.2f}{spread:>16}")
    if arguments.out:
        shapes = {"pairs": PAIRS, "source": SOURCE, "steps": STEPS}
        speed = round(gigaflops(), 1)
        print(
            save(
                arguments.out, __doc__, arguments, results, shapes=shapes, config=CONFIG, gigaflops_of_2048_cubed=speed
            )
        )


def training() -> Callable[[], None]:
    update = trainer()
    source = Source(torch.randint(4, VOCAB, (PAIRS, SOURCE)))
    tokens = torch.randint(4, VOCAB, (PAIRS, STEPS + 1))
    return lambda: update(source, tokens)


def trainer(dtype: torch.dtype | None = None) -> Callable[[Source, Tensor], None]:
    """A model, and the update of it by a batch, in ``dtype`` if one is given."""
    return updates(TeacherForcing(systems.build("encdec_bidirectional", CONFIG)).train(), dtype)


def decoding(beam: int) -> Callable[[], None]:
    model = systems.build("encdec_bidirectional", CONFIG).eval()
    source = Source(torch.randint(4, VOCAB, (PAIRS, SOURCE)))
    options = SearchOptions(beam=beam, max_length=STEPS - 1, min_length=STEPS - 1)

    @torch.no_grad()
    def decode() -> None:
        memory = model.encode(source)
        found = search(model.step, memory, model.init_state(memory), options)
        assert (found.lengths == STEPS).all()

    return decode


class Product:
    """x W^T for a weight (G, I), and the two products of its backward pass."""

    def __init__(self, inputs: int, outputs: int) -> None:
        self.weight = nn.Parameter(torch.randn(outputs, inputs) * 0.02)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.t()

    def to_input(self, grad: Tensor) -> Tensor:
        return grad @ self.weight

    def to_weight(self, grad: Tensor, x: Tensor) -> None:
        self.weight.grad = grad.t() @ x


def products() -> dict[str, Product]:
    """The weights of one LSTM layer in each direction, of the attention, the decoder and the output."""
    gates = 4 * SIZE
    return {
        "read": Product(SIZE, 2 * gates), "forth": Product(SIZE, gates), "back": Product(SIZE, gates),
        "key": Product(2 * SIZE, SIZE), "word": Product(SIZE, gates), "cell": Product(2 * SIZE, gates),
        "query": Product(SIZE, SIZE), "look": Product(3 * SIZE, SIZE), "output": Product(SIZE, VOCAB),
    }  # fmt: skip


@torch.no_grad()
def bare_training() -> Callable[[], None]:
    part = products()
    embeddings = [nn.Parameter(torch.randn(VOCAB, SIZE)) for _ in range(2)]
    parameters = [*embeddings, *(product.weight for product in part.values())]
    for table in embeddings:
        table.grad = torch.zeros_like(table)
    optimizer = torch.optim.Adam(parameters, fused=True)
    energy = torch.randn(SIZE)
    once = {name: torch.randn(PAIRS * SOURCE, product.weight.shape[1]) for name, product in part.items()}
    every = {name: torch.randn(PAIRS * STEPS, product.weight.shape[1]) for name, product in part.items()}
    row = {name: torch.randn(PAIRS, product.weight.shape[1]) for name, product in part.items()}
    out = {name: torch.randn(PAIRS, product.weight.shape[0]) for name, product in part.items()}
    values, grad_context = torch.randn(PAIRS, SOURCE, 2 * SIZE), torch.randn(PAIRS, 1, 2 * SIZE)

    def whole(name: str, x: Tensor) -> Tensor:
        """A product over all words at once, with its backward."""
        y = part[name].forward(x)
        part[name].to_weight(y, x)
        part[name].to_input(y)
        return y

    def steps(name: str, count: int, x: Tensor) -> None:
        """A product word by word, but for the weight's gradient."""
        for _ in range(count):
            part[name].forward(row[name])
            part[name].to_input(out[name])
        part[name].to_weight(torch.empty(len(x), part[name].weight.shape[0]).fill_(0.1), x)

    def attention(keys: Tensor) -> None:
        grad_keys, grad_values = torch.zeros_like(keys), torch.zeros_like(values)
        for _ in range(STEPS):
            tanh = (keys + row["query"][:, None]).tanh_()
            weights = (tanh @ energy).softmax(-1)
            torch.bmm(weights[:, None], values)
            grad_values.baddbmm_(weights[..., None], grad_context)
            grad = torch.bmm(grad_context, values.mT)[:, 0] * weights
            slope = tanh.mul_(tanh).neg_().add_(1).mul_(energy).mul_(grad[..., None])
            grad_keys += slope
            slope.sum(1)

    @torch.no_grad()
    def update() -> None:
        whole("read", once["read"])
        steps("forth", SOURCE, once["forth"])
        steps("back", SOURCE, once["back"])
        keys = whole("key", once["key"]).view(PAIRS, SOURCE, SIZE)
        whole("word", every["word"])
        for name in ("cell", "query", "look"):
            steps(name, STEPS, every[name])
        attention(keys)
        whole("output", every["output"])
        optimizer.step()

    return update


def bare_decoding(beam: int) -> Callable[[], None]:
    part = products()
    energy, table = torch.randn(SIZE), torch.randn(VOCAB, SIZE)
    values = torch.randn(PAIRS, SOURCE, 2 * SIZE)
    state = torch.randn(PAIRS * beam, SIZE)

    def cell(gates: Tensor) -> Tensor:
        i, f, g, o = gates.chunk(4, 1)
        return o.sigmoid() * (f.sigmoid() * state[: len(gates)] + i.sigmoid() * g.tanh()).tanh()

    @torch.no_grad()
    def decode() -> None:
        read = part["read"].forward(table[: PAIRS * SOURCE]).view(PAIRS, SOURCE, 2, -1)
        for step in range(SOURCE):
            for direction, name in enumerate(("forth", "back")):
                cell(read[:, step, direction] + part[name].forward(state[:PAIRS]))
        keys = part["key"].forward(values.flatten(0, 1)).view(PAIRS, 1, SOURCE, SIZE)
        for step in range(STEPS):
            rows = PAIRS * (beam if step else 1)
            h = state[:rows]
            h = cell(part["word"].forward(table[:rows]) + part["cell"].forward(torch.cat([h, h], 1)))
            query = part["query"].forward(h).view(PAIRS, -1, 1, SIZE)
            weights = ((keys + query).tanh_() @ energy).softmax(-1)
            context = torch.bmm(weights, values).flatten(0, 1)
            readout = part["look"].forward(torch.cat([context, h], 1)).tanh()
            part["output"].forward(readout).log_softmax(-1)

    return decode


def gigaflops() -> float:
    a = torch.randn(2048, 2048)
    return 2 * 2048**3 / min(seconds(lambda: a @ a) for _ in range(5)) / 1e9


if __name__ == "__main__":
    main()
