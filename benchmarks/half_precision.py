"""What training in half precision keeps and takes, with a step's weight cast once and with it cast at every word.

    python benchmarks/half_precision.py [--threads 2] [--rounds 5] [--dtype bfloat16] [--out benchmarks/results]

Sizes: each paper's own, 10 rows of 20 words, V = 1000. ``kept`` is what a forward pass keeps for the backward pass
beside the model's own weights, in MiB: in float32, cast at every word (as autocast by itself does), and cast once.
``ratio`` is the time of a forward and backward pass cast once over that cast at every word; both work by turns in one
run, and it is the middle of all turns.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from record import compare, save

from rnncond import systems
from rnncond.contract import Source
from rnncond.fast import fused
from rnncond.losses import TeacherForcing

ROWS, WORDS, VOCAB = 10, 20, 1000
PLACES = {"show_attend_tell": (196, 512), "top_down": (36, 2048)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtype", choices=("bfloat16", "float16"), default="bfloat16")
    parser.add_argument("--systems", nargs="+", choices=PLACES, default=list(PLACES))
    parser.add_argument("--out", type=Path, help="folder for the results as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    dtype = getattr(torch, arguments.dtype)
    results = {}
    for name in arguments.systems:
        torch.manual_seed(0)
        model = TeacherForcing(
            systems.build(name, {"vocab_size": VOCAB, "feature_size": PLACES[name][-1], "dropout": 0.0})
        ).train()
        source, tokens = Source(torch.randn(ROWS, *PLACES[name])), torch.randint(4, VOCAB, (ROWS, WORDS + 1))
        once, each = update(model, source, tokens, dtype), casting_at_every_word(update(model, source, tokens, dtype))
        kept = {
            "float32": mebibytes(model, update(model, source, tokens, None)),
            "every word": mebibytes(model, each),
            "once": mebibytes(model, once),
        }
        # ``compare`` divides the second's time by the first's; both do the same words.
        row = compare(ROWS * WORDS, each, once, arguments.rounds)
        results[name] = {"kept_mib": kept, **row}
        sizes = ", ".join(f"{way} {size:.0f}" for way, size in kept.items())
        spread = f"{row['lowest']:.2f} to {row['highest']:.2f}"
        print(f"{name:<18} kept MiB: {sizes}; time once / every word: {row['ratio']:.2f} ({spread})", flush=True)
    if arguments.out:
        print(save(arguments.out, __doc__, arguments, results))


def update(
    model: TeacherForcing, source: Source, tokens: torch.Tensor, dtype: torch.dtype | None
) -> Callable[[], None]:
    def work() -> None:
        with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
            sums = model(source, tokens)
        sums.objective.backward()
        model.zero_grad()

    return work


def casting_at_every_word(work: Callable[[], None]) -> Callable[[], None]:
    """``work`` as it is without ``as_autocast``."""

    def so() -> None:
        mended, fused.as_autocast = fused.as_autocast, lambda x: x
        try:
            work()
        finally:
            fused.as_autocast = mended

    return so


def mebibytes(model: TeacherForcing, work: Callable[[], None]) -> float:
    """What ``work`` keeps for its backward pass, beside the model's own tensors."""
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    sizes, held = {}, []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes()
            held.append(storage)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        work()
    return round(sum(sizes.values()) / 2**20, 1)


if __name__ == "__main__":
    main()
