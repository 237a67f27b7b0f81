"""How much of a caption's time is arithmetic: search against the bare products of the same shapes, in the same run.

    python benchmarks/search.py [--threads 2] [--rounds 5] [--out benchmarks/results]

Sizes: H = E = A = 512, V = 9487, 50 images, 16 words and EOS, float32 on the CPU. The models are untrained and EOS is
blocked until the last step, so every caption has all its words and no early end helps.

``bare`` is, step by step, what the papers' equations need: embedding rows, the cells' matrix products, tanh(keys +
query) and its product with the energy vector, softmax, the weighted mean, the output product, and log-softmax; no
choice of words, no beams to re-order, and the attention's keys once per image. The ratio is bare time / search time:
above 1 where the system does with less than its equations (tanh of a sum by two exponentials).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from record import compare, save
from torch.nn import functional

from rnncond import systems
from rnncond.contract import Source
from rnncond.search import SearchOptions, search

VOCAB, SIZE, IMAGES, WORDS = 9487, 512, 50, 16
PLACES = {"show_tell": None, "show_attend_tell": (196, 512), "top_down": (36, 2048)}
POOLED = 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="folder for the result as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    rows = [measure(name, beam, arguments.rounds) for name in PLACES for beam in (5, 1)]
    print(f"{'system':<18}{'beam':>5}{'captions/s':>12}{'bare/s':>10}{'ratio':>8}{'spread':>16}")
    for row in rows:
        spread = f"{row['lowest']:.2f} to {row['highest']:.2f}"
        print(f"{row['system']:<18}{row['beam']:>5}{row['own']:>12.1f}"
              f"{row['bare']:>10.1f}{row['ratio']:>8.2f}{spread:>16}")  # fmt: skip
    if arguments.out:
        shapes = {
            "images": IMAGES,
            "words": WORDS,
            "vocabulary": VOCAB,
            "size": SIZE,
            "places": PLACES,
            "pooled": POOLED,
        }
        print(save(arguments.out, __doc__, arguments, rows, shapes=shapes))


@torch.no_grad()
def measure(name: str, beam: int, rounds: int) -> dict:
    """Search and bare arithmetic by turns; the ratio of each turn, and the middle one."""
    sizes = {"embedding": SIZE, "hidden": SIZE, "dropout": 0.0}
    if PLACES[name]:
        sizes["attention"] = SIZE
    feature_size = PLACES[name][1] if PLACES[name] else POOLED
    model = systems.build(name, {"vocab_size": VOCAB, "feature_size": feature_size, **sizes}).eval()
    values = torch.randn(IMAGES, *(PLACES[name] or (POOLED,)))
    options = SearchOptions(beam=beam, max_length=WORDS, min_length=WORDS)

    def decode():
        memory = model.encode(Source(values))
        found = search(model.step, memory, model.init_state(memory), options)
        assert (found.lengths == WORDS + 1).all()

    bare = bare_step(name, values)

    def arithmetic():
        step = bare()
        for t in range(WORDS + 1):
            step(IMAGES * (beam if t else 1))

    return {"system": name, "beam": beam, **compare(IMAGES, decode, arithmetic, rounds)}


def bare_step(name: str, values: torch.Tensor) -> Callable[[], Callable[[int], None]]:
    """The arithmetic of one batch: a function that does the encoder's part and returns that of a step of N rows."""
    size, depth = SIZE, values.shape[-1]
    weight = {key: torch.randn(shape) * 0.02 for key, shape in shapes(name, depth).items()}
    embedding, state = torch.randn(VOCAB, size), torch.randn(5 * IMAGES, size)

    def cell(gates: torch.Tensor) -> torch.Tensor:
        i, f, g, o = gates.chunk(4, 1)
        return o.sigmoid() * (f.sigmoid() * state[: len(gates)] + i.sigmoid() * g.tanh()).tanh()

    def attend(query: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        queries = functional.linear(query, weight["query"]).view(IMAGES, -1, 1, size)
        scores = (keys[:, None] + queries).tanh_() @ weight["energy"]
        return torch.bmm(scores.softmax(-1), values).flatten(0, 1)

    def begin() -> Callable[[int], None]:
        keys = functional.linear(values, weight["key"]) if "key" in weight else None
        if name == "show_tell":
            cell(functional.linear(functional.linear(values, weight["image"]), weight["cell"][:, :size]))

        def step(rows: int) -> None:
            words, h = functional.embedding(torch.arange(rows), embedding), state[:rows]
            if name == "show_tell":
                read = cell(functional.linear(torch.cat([words, h], 1), weight["cell"]))
            elif name == "show_attend_tell":
                z = attend(h, keys)
                h = cell(functional.linear(torch.cat([words, z, h], 1), weight["cell"]))
                read = words + functional.linear(torch.cat([h, z], 1), weight["deep"])
            else:
                h = cell(functional.linear(torch.cat([h, words, h], 1), weight["cell"]))
                z = attend(h, keys)
                read = cell(functional.linear(torch.cat([z, h, h], 1), weight["second"]))
            functional.linear(read, weight["output"]).log_softmax(-1)

        return step

    return begin


def shapes(name: str, depth: int) -> dict[str, tuple[int, ...]]:
    """Weights of the products that a step needs; top_down's mean region, once per image, is left out."""
    attention = {"query": (SIZE, SIZE), "key": (SIZE, depth), "energy": (SIZE,)}
    return {
        "show_tell": {"image": (SIZE, depth), "cell": (4 * SIZE, 2 * SIZE)},
        "show_attend_tell": {**attention, "cell": (4 * SIZE, 2 * SIZE + depth), "deep": (SIZE, SIZE + depth)},
        "top_down": {**attention, "cell": (4 * SIZE, 3 * SIZE), "second": (4 * SIZE, 2 * SIZE + depth)},
    }[name] | {"output": (VOCAB, SIZE)}


if __name__ == "__main__":
    main()
