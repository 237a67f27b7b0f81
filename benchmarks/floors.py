"""The least time that the works of peers.py can take on this processor, and how far rnncond is from it.

    python benchmarks/floors.py PEERS.json [--threads 2] [--out benchmarks/results]

``PEERS.json`` is what peers.py has found on the same machine. The floor of a work is its multiplications, of all
matrices that the equations of its model have, at the best speed that oneDNN reaches for the output layers' shapes, and
one pass over the logits of all words at the speed of a maximum. Left out are activations, attention's scores, the
choice of words, Adam, and all that calls them. A training step multiplies three times: forth, for the gradient of what
was read, and for that of the weight; features have no gradient. In bfloat16 and int8 the products are those of
``rnncond.fast.lean``: under int8 the output layer is in int8 and all others in bfloat16, but for attention's in the
search, in float32; training multiplies by all matrices in bfloat16.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import NamedTuple

import torch
from peers import SHORTEST
from record import cpu, save, seconds
from step_profile import CAPTIONS, FEATURES, IMAGES, PICTURES, WIDTH, WORDS
from step_profile import VOCAB as VOCABS
from translation_decoder import PAIRS, SIZE, SOURCE, STEPS, VOCAB

from rnncond.fast.lean import in_bfloat16, in_int8
from rnncond.fast.onednn import Product, packed

ROWS = (320, 1280)
PRECISIONS = {"rnncond": "float32", "rnncond, bfloat16": "bfloat16", "rnncond, int8": "int8"}


class Work(NamedTuple):
    """A call: its sentences or words, as peers.py counts them, and its billions of multiply-adds; ``logits`` in
    millions."""

    amount: float
    output: float
    attention: float
    others: float
    logits: float


def translation(beam: int) -> Work:
    """Words are read from a table of products, so that their product with the gates costs nothing."""
    rows = PAIRS * (1 + beam * (STEPS - 1))
    source = PAIRS * SOURCE * SIZE**2
    attention = PAIRS * SOURCE * 2 * SIZE**2 + rows * (SIZE**2 + SOURCE * SIZE)
    others = source * (16 + 2) + rows * 9 * SIZE**2
    return Work(PAIRS, rows * VOCAB * SIZE / 1e9, attention / 1e9, others / 1e9, rows * VOCAB / 1e6)


def training_translation() -> Work:
    words, steps = PAIRS * (SHORTEST + STEPS) / 2, PAIRS * STEPS
    attention = steps * SOURCE * SIZE
    others = PAIRS * SOURCE * 20 * SIZE**2 + steps * 14 * SIZE**2
    return Work(words, 3 * words * VOCAB * SIZE / 1e9, 3 * attention / 1e9, 3 * others / 1e9, words * VOCAB / 1e6)


def captions(beam: int) -> Work:
    size, vocab, (places, depth) = WIDTH["pictures"], VOCABS["pictures"], FEATURES["top_down"]
    rows = IMAGES * (1 + beam * WORDS)
    attention = IMAGES * places * depth * size + rows * (size**2 + places * depth)
    others = IMAGES * depth * 4 * size + rows * (16 * size**2 + depth * 4 * size)
    return Work(IMAGES, rows * vocab * size / 1e9, attention / 1e9, others / 1e9, rows * vocab / 1e6)


def training_captions() -> Work:
    """Places are multiplied by what the context meets once, as they are fewer than the words of a picture."""
    size, vocab, (places, depth) = WIDTH["pictures"], VOCABS["pictures"], FEATURES["top_down"]
    words = PICTURES * CAPTIONS * WORDS
    attention = 3 * words * places * 4 * size
    others = 2 * PICTURES * (places * 5 + 4) * depth * size + 3 * words * 21 * size**2
    return Work(words, 3 * words * vocab * size / 1e9, attention / 1e9, others / 1e9, words * vocab / 1e6)


WORKS = {
    "translation: training, target words/s": training_translation(),
    "translation: beam 5, sentences/s": translation(5),
    "translation: greedy, sentences/s": translation(1),
    "captions: training, words/s": training_captions(),
    "captions: beam 5, captions/s": captions(5),
    "captions: greedy, captions/s": captions(1),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("peers", type=Path, help="what peers.py has found on this machine")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="folder for the result as JSON")
    arguments = parser.parse_args()
    found = json.loads(arguments.peers.read_text())
    if found["machine"]["cpu"] != cpu():
        parser.error(f"{arguments.peers} is of another processor, {found['machine']['cpu']}; this is {cpu()}")
    torch.set_num_threads(arguments.threads)
    speeds = peaks()
    print("GFLOP/s and, of logits, millions/s:", ", ".join(f"{name} {speed:,.0f}" for name, speed in speeds.items()))
    results = {name: rows(found["results"][name], work, speeds) for name, work in WORKS.items()}
    print("| work | precision | ms | floor | of which output layer | floor / ms | to the peer | at the floor |")
    print("|---" * 8 + "|")
    for name, lines in results.items():
        for precision, row in lines.items():
            times = f"{row['ms']:.1f} | {row['floor']:.1f} | {row['output']:.1f} | {row['floor'] / row['ms']:.2f}"
            print(f"| {name} | {precision} | {times} | {row['peer']:.2f} | {row['peer at the floor']:.1f} |")
    if arguments.out:
        print(save(arguments.out, __doc__, arguments, results, speeds=speeds))


@torch.no_grad()
def peaks() -> dict[str, float]:
    """GFLOP/s of each precision's product, the best of the shapes; millions of logits a second through a maximum."""
    weight, bias = torch.randn(VOCAB, WIDTH["pictures"]), torch.randn(VOCAB)
    forms = {"float32": packed, "bfloat16": in_bfloat16, "int8": in_int8}
    speeds = {}
    for name, form in forms.items():
        multiply = form(weight, bias)
        best = [(2e-9 * rows * weight.numel()) / fastest(multiply, torch.randn(rows, weight.shape[1])) for rows in ROWS]
        speeds[name] = max(best)
    logits = torch.randn(ROWS[0], VOCAB)
    return speeds | {"logits": logits.numel() / 1e6 / fastest(lambda x: x.amax(1), logits)}


def fastest(work: Product, x: torch.Tensor) -> float:
    return min(seconds(lambda: work(x)) for _ in range(30))


def rows(found: dict[str, dict[str, float]], work: Work, speeds: dict[str, float]) -> dict[str, dict[str, float]]:
    """For each precision milliseconds now and at the floor, and the ratios to the first peer."""
    peer = next(row for name, row in found.items() if name not in PRECISIONS)["rate"]
    results = {}
    for name, precision in PRECISIONS.items():
        if name not in found:
            continue
        below = "float32" if precision == "float32" else "bfloat16"
        output = 2 * work.output / speeds[precision] * 1e3
        rest = 2 * work.attention / speeds["float32"] + 2 * work.others / speeds[below] + work.logits / speeds["logits"]
        now, floor = work.amount / found[name]["rate"] * 1e3, output + rest * 1e3
        results[precision] = {
            "ms": now, "floor": floor, "output": output,
            "peer": found[name]["rate"] / peer, "peer at the floor": work.amount / floor * 1e3 / peer,
        }  # fmt: skip
    return results


if __name__ == "__main__":
    main()
