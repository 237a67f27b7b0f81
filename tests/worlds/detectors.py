"""A detector of random weights that is small enough for a test."""

from __future__ import annotations

import torch
from torch import nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign

CLASSES, SHORTER, LONGER, SIZE = 5, 64, 96, 1024


def tiny_network(model: str = "", classes: int | None = None) -> FasterRCNN:
    """In the place of ``detectors.build``."""
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Conv2d(3, 8, 5, 4, 2), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU())
    trunk.out_channels = 8
    return FasterRCNN(
        trunk,
        num_classes=classes or CLASSES,
        min_size=SHORTER,
        max_size=LONGER,
        rpn_anchor_generator=AnchorGenerator(((12, 24, 40),), ((0.5, 1.0, 2.0),)),
        box_roi_pool=MultiScaleRoIAlign(["0"], 3, 2),
        rpn_post_nms_top_n_test=60,
    )
