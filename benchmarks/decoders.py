"""How much of a captioner's training is arithmetic: an update against the bare products of the same shapes.

    python benchmarks/decoders.py [--threads 2] [--rounds 9] [--out benchmarks/results]

Sizes: H = E = A = 512, V = 9487, float32 on the CPU, 16 steps, no padding: 50 images with a caption each, and 10 images
with five. show_tell reads 2048 pooled values, show_attend_tell 196 places of 512, top_down 36 places of 2048.

``own`` is what training does: teacher forcing, loss, backward and a fused Adam update. ``bare`` is every
matrix product of the paper's equations, forward and twice backward (a weight's gradient for all steps at once), the
attention's tanh, softmax and sums, and the same update; no gates of the cells, no softmax over words, no loss. Keys are
projected once per image. Own and bare work by turns in one run; the ratio is bare time / own time, the middle of all
turns. It can pass 1: additive attention here takes two exponentials in place of a tanh per pair.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from record import compare, save, updates
from torch import Tensor, nn
from translation_decoder import Product, gigaflops

from rnncond import systems
from rnncond.contract import Source
from rnncond.losses import TeacherForcing

ROWS, STEPS, VOCAB, SIZE = 50, 16, 9487, 512
SOURCES = {"show_tell": (2048,), "show_attend_tell": (196, 512), "top_down": (36, 2048)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--systems", nargs="+", choices=SOURCES, default=list(SOURCES))
    parser.add_argument("--out", type=Path, help="folder for the results as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    print(f"{'words per second':<32}{'own':>9}{'bare':>9}{'ratio':>8}{'spread':>16}")
    results = {}
    for name in arguments.systems:
        for images in (ROWS, ROWS // 5):
            row = compare(ROWS * STEPS, training(name, images), bare_training(name, images), arguments.rounds)
            spread = f"{row['lowest']:.2f} to {row['highest']:.2f}"
            label = f"{name}, {ROWS // images} per image"
            print(f"{label:<32}{row['own']:>9.0f}{row['bare']:>9.0f}{row['ratio']:>8.2f}{spread:>16}", flush=True)
            results[label] = row
    if arguments.out:
        shapes = {"rows": ROWS, "steps": STEPS, "vocabulary": VOCAB, "size": SIZE, "sources": SOURCES}
        speed = round(gigaflops(), 1)
        print(save(arguments.out, __doc__, arguments, results, shapes=shapes, gigaflops_of_2048_cubed=speed))


def training(name: str, images: int) -> Callable[[], None]:
    sizes = {"embedding": SIZE, "hidden": SIZE} | ({} if name == "show_tell" else {"attention": SIZE})
    config = {"vocab_size": VOCAB, "feature_size": SOURCES[name][-1], **sizes}
    model = TeacherForcing(systems.build(name, config)).train()
    source = Source(torch.randn(images, *SOURCES[name]))
    tokens = torch.randint(4, VOCAB, (ROWS, STEPS + 1))
    update = updates(model)
    return lambda: update(source, tokens)


SHAPES = {
    "show_tell": {"image": (2048, SIZE), "recurrent": (SIZE, 4 * SIZE)},
    "show_attend_tell": {"query": (SIZE, SIZE), "recurrent": (2 * SIZE, 4 * SIZE), "deep": (2 * SIZE, SIZE)},
    "top_down": {"image": (2048, 4 * SIZE), "recurrent": (2 * SIZE, 4 * SIZE), "query": (SIZE, SIZE),
                 "second": (2048 + 2 * SIZE, 4 * SIZE)},
}  # fmt: skip
"""Inputs and outputs of the products that each system has beside the words', the keys' and the output layer's."""


@torch.no_grad()
def bare_training(name: str, images: int) -> Callable[[], None]:
    depth = SOURCES[name][-1]
    shapes = {**SHAPES[name], "words": (SIZE, 4 * SIZE), "key": (depth, SIZE), "output": (SIZE, VOCAB)}
    part = {key: Product(*shape) for key, shape in shapes.items()}
    table = nn.Parameter(torch.randn(VOCAB, SIZE))
    table.grad = torch.zeros_like(table)
    optimizer = torch.optim.Adam([table, *(product.weight for product in part.values())], fused=True)
    values = torch.randn(images, *SOURCES[name])
    energy = torch.randn(SIZE)

    def whole(key: str, x: Tensor, to_input: bool = True) -> Tensor:
        """A product over all words or places at once, with its backward."""
        y = part[key].forward(x)
        part[key].to_weight(y, x)
        if to_input:
            part[key].to_input(y)
        return y

    def step_by_step(key: str) -> None:
        """A product word by word, but for the weight's gradient."""
        outputs, inputs = part[key].weight.shape
        x, y = torch.randn(ROWS, inputs), torch.randn(ROWS, outputs)
        for _ in range(STEPS):
            part[key].forward(x)
            part[key].to_input(y)
        part[key].to_weight(y.repeat(STEPS, 1), x.repeat(STEPS, 1))

    def attention(keys: Tensor) -> None:
        grad_keys = torch.zeros_like(keys)
        queries = torch.randn(images, ROWS // images, 1, SIZE)
        grad_context = torch.randn(images, ROWS // images, depth)
        for _ in range(STEPS):
            tanh = (keys[:, None] + queries).tanh_()
            weights = (tanh @ energy).softmax(-1)
            torch.bmm(weights, values)
            grad = torch.bmm(grad_context, values.mT) * weights
            grad.flatten() @ tanh.flatten(0, 2)
            slope = tanh.mul_(tanh).neg_().add_(1).mul_(energy).mul_(grad[..., None])
            grad_keys += slope.sum(1)
            slope.sum(2)

    words = torch.randn(ROWS * STEPS, SIZE)
    deep = torch.randn(ROWS * STEPS, 2 * SIZE)

    @torch.no_grad()
    def update() -> None:
        if "image" in part:
            whole("image", values.view(images, -1, depth).mean(1), to_input=False)
        whole("words", words)
        for key in ("recurrent", "query", "second"):
            if key in part:
                step_by_step(key)
        if "query" in part:
            attention(whole("key", values.flatten(0, 1), to_input=False).view(images, -1, SIZE))
        if "deep" in part:
            whole("deep", deep)
        whole("output", words)
        optimizer.step()

    return update


if __name__ == "__main__":
    main()
