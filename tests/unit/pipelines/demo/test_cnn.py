"""The demo's CNN: labels of a scene, what the loss counts, and that training lowers it."""

from __future__ import annotations

import random

import pytest
import torch

from pipelines.demo import cnn, world
from pipelines.demo.cnn import CELLS, FIELDS, NO_LABEL, Heads, draw_all, label
from pipelines.features import backbones


def test_labels_say_what_is_at_each_place():
    scene = world.scene(random.Random(3), held_out=False, groups=(2,))
    labels = label(scene)
    assert len(labels) == len(world.POSITIONS)
    shown = {group.position: group for group in scene}
    for place, row in zip(world.POSITIONS, labels, strict=True):
        told = dict(zip(FIELDS, row, strict=True))
        if place in shown:
            assert {field: FIELDS[field][index] for field, index in told.items()} == {
                field: getattr(shown[place], field) for field in FIELDS
            }
        else:
            assert told["number"] == 0 and set(list(told.values())[1:]) == {NO_LABEL}
    assert list(CELLS) == list(world.POSITIONS), "the heads look at the places in the labels' order"


def test_what_has_no_label_adds_nothing_to_the_loss():
    torch.manual_seed(0)
    heads, grid = Heads(8), torch.randn(2, 8, 5, 5)
    empty = torch.tensor([[[0] + [NO_LABEL] * (len(FIELDS) - 1)] * len(CELLS)] * 2)
    before = [logits.shape for logits in heads(grid)]
    assert before == [(2, len(CELLS), len(values)) for values in FIELDS.values()]
    full = empty.clone()
    full[:, :, 1:] = 0
    one = full.clone()
    one[0, 1:, 1:] = one[1, :, 1:] = NO_LABEL  # of one place alone every field is told

    def of(index: int, rows: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(heads(grid)[index][rows], labels)

    first = torch.zeros(2, len(CELLS), dtype=torch.bool)
    first[0, 0] = True
    numbers = torch.nn.functional.cross_entropy(heads(grid)[0].flatten(0, 1), torch.zeros(2 * len(CELLS)).long())
    cells = heads.cell(grid.flatten(2).mT).flatten(0, 1)
    where = torch.nn.functional.cross_entropy(cells, torch.arange(25).repeat(2))
    others = sum(of(index, first, torch.zeros(1).long()) for index in range(1, len(FIELDS)))
    torch.testing.assert_close(heads.loss(grid, one), numbers + where + others)
    assert torch.isfinite(heads.loss(grid, full))


@pytest.mark.heavy
def test_training_writes_weights_that_the_backbone_takes(tmp_path):
    share = cnn.train(tmp_path / "a" / "cnn.safetensors", seed=1, pictures=16, epochs=1, batch=8)
    assert 0 <= share <= 1
    network = backbones.load(cnn.BACKBONE, str(tmp_path / "a" / "cnn.safetensors"))
    assert network.shapes["grid"] == (5, 5, 256)


def test_pictures_depend_on_the_seed_alone():
    network = backbones.load(cnn.BACKBONE, "random")
    inputs, labels = draw_all(network, "x", 3)
    again, _ = draw_all(network, "x", 3)
    other, _ = draw_all(network, "y", 3)
    assert inputs.dtype == torch.uint8 and labels.shape == (3, len(CELLS), len(FIELDS))
    assert torch.equal(inputs, again) and not torch.equal(inputs, other)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_accuracy_is_the_share_of_pictures_without_a_mistake(share, monkeypatch):
    network = backbones.load(cnn.BACKBONE, "random")
    inputs, labels = draw_all(network, "x", 2)
    wanted = labels.where(labels != NO_LABEL, torch.zeros_like(labels))
    wanted = wanted if share else (wanted + 1) % 2
    heads = Heads(network.shapes["grid"][-1])
    logits = [
        torch.nn.functional.one_hot(wanted[..., i], len(values)).float() for i, values in enumerate(FIELDS.values())
    ]
    monkeypatch.setattr(heads, "forward", lambda grid: tuple(logits))
    assert cnn.accuracy(network, heads, inputs, labels) == share
