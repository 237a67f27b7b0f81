"""The CNN of the demo: a small network that learns to see ``pipelines.demo.world`` before there are words.

It takes the part that networks trained on ImageNet have for photographs. Its pictures are its own, drawn for it, with
labels of what was drawn; it reads no caption, and what the world holds out is held out here too. For every place of the
picture it learns to tell count, size, colour and shape from the features there, and for every cell of the grid where
that is: attention alone is blind to places. Both heads are then thrown away. The file has the network as timm knows it:

    rnncond features PICTURES --store STORE --backbone timm/test_byobnet --weights cnn.safetensors
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pipelines.console import Progress
from pipelines.demo import world
from pipelines.demo.world import COLOURS, COUNTS, POSITIONS, SHAPES, SIZES, Scene
from pipelines.features import backbones
from pipelines.features.backbones import Backbone

BACKBONE = "timm/test_byobnet"
"""Of timm's networks the fastest to train: 0.2 million weights, pictures of 160 pixels, a grid of 5 x 5 x 256."""

GROUPS = (2, 3, 4)
"""Groups a picture: fuller than in the world, since every group is a label."""

FIELDS = {"number": (0, *COUNTS), "size": tuple(SIZES), "colour": tuple(COLOURS), "shape": SHAPES}
"""Number 0 is a place without a group; there the others have no label."""
NO_LABEL = -100

CELLS = {
    "top left": (slice(0, 2), slice(0, 2)), "top right": (slice(0, 2), slice(3, 5)),
    "middle": (slice(2, 3), slice(2, 3)),
    "bottom left": (slice(3, 5), slice(0, 2)), "bottom right": (slice(3, 5), slice(3, 5)),
}  # fmt: skip
"""Rows and columns of the grid that lie under each place."""


def train(weights: Path, seed: int = 0, pictures: int = 2500, epochs: int = 4, batch: int = 32) -> float:
    """Train the CNN and write its ``weights``.

    Returns:
        Share of 200 fresh pictures of which every attribute of every place is told right.
    """
    network = backbones.load(BACKBONE, "random")
    assert isinstance(network, Backbone), "timm has no detectors"
    heads = Heads(network.shapes["grid"][-1])
    inputs, labels = draw_all(network, f"{seed}/cnn", pictures)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fit(network, heads, inputs, labels, epochs, batch)
    network.save(weights)
    return accuracy(network, heads, *draw_all(network, f"{seed}/cnn-check", 200))


def fit(
    network: Backbone, heads: Heads, inputs: Tensor, labels: Tensor, epochs: int, batch: int, rate: float = 4e-3
) -> None:
    trunk = network.trunk.train().requires_grad_(True)
    parameters = [*trunk.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, weight_decay=0.02)
    steps = epochs * (len(inputs) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.15)
    with Progress("CNN", "steps", steps) as progress:
        for _ in range(epochs):
            for rows in torch.randperm(len(inputs)).split(batch)[: len(inputs) // batch]:
                grid, _ = trunk(network.as_input(inputs[rows]))
                loss = heads.loss(grid, labels[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                progress.advance(1, note=f"loss {loss.item():.3f}")
    trunk.eval().requires_grad_(False)


class Heads(nn.Module):
    """What the features of a place, and of a cell, are asked for in training."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.fields = nn.Linear(features, sum(len(values) for values in FIELDS.values()))
        self.cell = nn.Linear(features, 25)

    def forward(self, grid: Tensor) -> tuple[Tensor, ...]:
        """grid (B, D, 5, 5) to the logits (B, places, values) of each field."""
        places = torch.stack([grid[:, :, rows, columns].mean((2, 3)) for rows, columns in CELLS.values()], 1)
        return self.fields(places).split([len(values) for values in FIELDS.values()], -1)

    def loss(self, grid: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of every field at ``labels`` (B, places, fields), and of which cell a cell is."""
        fields = (
            functional.cross_entropy(logits.flatten(0, 1), labels[..., index].flatten(), ignore_index=NO_LABEL)
            for index, logits in enumerate(self(grid))
        )
        cells = self.cell(grid.flatten(2).mT)
        return sum(fields) + functional.cross_entropy(cells.flatten(0, 1), torch.arange(25).repeat(len(grid)))


def draw_all(network: Backbone, seed: str, count: int) -> tuple[Tensor, Tensor]:
    """Pictures as the network takes them, uint8 (count, height, width, 3), and labels (count, places, fields)."""
    inputs, labels = [], []
    for number in range(count):
        rng = random.Random(f"{seed}/{number}")
        shown = world.scene(rng, held_out=False, groups=GROUPS)
        inputs.append(network.preprocess(world.draw(shown, rng)))
        labels.append(label(shown))
    return torch.from_numpy(np.stack(inputs)), torch.tensor(labels)


def label(scene: Scene) -> list[list[int]]:
    """For each place the index of every field's value."""
    groups = {group.position: group for group in scene}
    empty = [0] + [NO_LABEL] * (len(FIELDS) - 1)
    return [
        [values.index(getattr(groups[place], field)) for field, values in FIELDS.items()] if place in groups else empty
        for place in POSITIONS
    ]


@torch.no_grad()
def accuracy(network: Backbone, heads: Heads, inputs: Tensor, labels: Tensor) -> float:
    """Share of pictures of which every field of every place is right."""
    grids = [network.trunk(network.as_input(part))[0] for part in inputs.split(50)]
    told = torch.stack([logits.argmax(-1) for logits in heads(torch.cat(grids))], -1)
    return ((told == labels) | (labels == NO_LABEL)).flatten(1).all(1).float().mean().item()
