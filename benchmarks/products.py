"""The matrix products of a decoder by MKL, by oneDNN, and by MKL into rows that begin at cache lines, in GFLOP/s.

    python benchmarks/products.py [--threads 2] [--rounds 9] [--out benchmarks/results]

The best of all turns, which they take by turns. MKL is what ``torch.nn.functional.linear`` uses; ``rows at lines`` is
``rnncond.products.output_product``, for the output layer alone. oneDNN is not used: it is the faster one on some
processors and the slower one on others, and keeps memory for every shape it has met.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from record import cpu, save, seconds
from torch.nn import functional

from rnncond.fast.output_layer import output_product

SHAPES = [(50, 1024, 2048), (50, 3072, 2048), (800, 1024, 2048), (50, 512, 9487), (250, 512, 9487), (800, 512, 9487)]
"""Rows, inputs, outputs: a step's gates, those of all steps, and the output layer's."""
VOCAB = 9487


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, help="folder for the result as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"{cpu()}, {torch.backends.cpu.get_cpu_capability()}, {arguments.threads} threads")
    results = []
    for rows, inputs, outputs in SHAPES:
        x, weight, grad = torch.randn(rows, inputs), torch.randn(outputs, inputs), torch.randn(rows, outputs)
        bias = torch.randn(outputs)
        for name, works in ways(x, weight, bias, grad).items():
            turns = [{way: seconds(work) for way, work in works.items()} for _ in range(arguments.rounds + 1)][1:]
            amount = 2e-9 * rows * inputs * outputs
            speeds = {way: round(amount / min(turn[way] for turn in turns), 1) for way in works}
            results.append({"rows": rows, "inputs": inputs, "outputs": outputs, "product": name, **speeds})
            print(f"{rows:>5}{inputs:>6}{outputs:>6}  {name:<10}" + "".join(f"  {k} {v}" for k, v in speeds.items()))
    if arguments.out:
        print(save(arguments.out, __doc__, arguments, results, capability=torch.backends.cpu.get_cpu_capability()))


def ways(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, grad: torch.Tensor) -> dict:
    forward = {"MKL": lambda: functional.linear(x, weight, bias), "oneDNN": lambda: onednn(x, weight, bias)}
    if len(weight) == VOCAB:
        forward["rows at lines"] = lambda: output_product(x, weight, bias)
    return {
        "forward": forward,
        "to input": {"MKL": lambda: grad @ weight, "oneDNN": lambda: onednn(grad, weight.t())},
        "to weight": {"MKL": lambda: grad.t() @ x, "oneDNN": lambda: onednn(grad.t(), x.t())},
    }


def onednn(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


if __name__ == "__main__":
    main()
