"""MKL or oneDNN for the matrix products of a decoder, forward and both ways back, in GFLOP/s.

    python benchmarks/products.py [--threads 2] [--rounds 9]

The better of all turns, MKL and oneDNN by turns; oneDNN is ``rnncond.products.linear``.
"""

from __future__ import annotations

import argparse

import torch
from record import cpu, seconds

from rnncond.products import linear

SHAPES = [(50, 1024, 2048), (50, 3072, 2048), (800, 1024, 2048), (50, 512, 9487), (250, 512, 9487), (800, 512, 9487)]
"""Rows, inputs, outputs: a step's gates, those of all steps, and the output layer's."""


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"{cpu()}, {arguments.threads} threads")
    print(f"{'rows':>5}{'in':>6}{'out':>6}  {'product':<10}{'MKL':>6}{'oneDNN':>8}")
    for rows, inputs, outputs in SHAPES:
        x, weight, grad = torch.randn(rows, inputs), torch.randn(outputs, inputs), torch.randn(rows, outputs)
        products = {
            "forward": (lambda x=x, w=weight: x @ w.t(), lambda x=x, w=weight: linear(x, w)),
            "to input": (lambda g=grad, w=weight: g @ w, lambda g=grad, w=weight: linear(g, w.t())),
            "to weight": (lambda g=grad, x=x: g.t() @ x, lambda g=grad, x=x: linear(g.t(), x.t())),
        }
        for name, pair in products.items():
            turns = [[seconds(work) for work in pair] for _ in range(arguments.rounds + 1)][1:]
            mkl, onednn = (2e-9 * rows * inputs * outputs / min(times) for times in zip(*turns, strict=True))
            print(f"{rows:>5}{inputs:>6}{outputs:>6}  {name:<10}{mkl:>6.0f}{onednn:>8.0f}")


if __name__ == "__main__":
    main()
