"""Detectors: pictures in, ``regions`` out, as many as the picture has things in it (Anderson et al. 2018, section 3.1).

torchvision/fasterrcnn_* (Ren et al. 2015) finds the boxes; those that non-maximum suppression leaves are pooled again
from the feature maps, and what the box head makes of them is the regions' features (L, D), D = 1024.

A picture is not cropped. It is resized as the detector's own configuration says (the shorter side to 800 pixels, unless
the longer one passes 1333), with antialiasing, and goes through the network alone: beside others it would be padded to
their size, which changes its numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.errors import UserError
from pipelines.features import decode
from pipelines.features.preprocess import Fit
from pipelines.features.weights import (
    as_json,
    download,
    fingerprint_weights,
    load_strictly,
    read_weights,
    release_of,
    seeded,
)

if TYPE_CHECKING:
    from torchvision.models.detection import FasterRCNN

VERSION = 1
"""Of the code between pixels and regions: part of every fingerprint, raised when a change alters the numbers."""

OUTPUTS = ("regions",)
COLUMNS = ("regions", "boxes", "scores", "classes")
CLASSES = "roi_heads.box_predictor.cls_score.weight"
"""The weights whose first axis is the classes, background included."""


@dataclass(frozen=True)
class Regions:
    """Which detections of a picture are kept, best first.

    Attributes:
        most: so many at most.
        fewest: so many at least, even if their scores are low; fewer only where the detector finds fewer.
        threshold: beyond ``fewest``, the score that a detection must exceed.

    Raises:
        UserError: the three do not fit together.
    """

    most: int = 36
    fewest: int = 10
    threshold: float = 0.2

    def __post_init__(self) -> None:
        if not 1 <= self.fewest <= self.most:
            raise UserError(
                f"regions: at least {self.fewest} and at most {self.most} were asked for; expected 1 or more, and no "
                "more of the first than of the second (--regions-min, --regions-max)"
            )
        if not 0 <= self.threshold < 1:
            raise UserError(f"regions: the score threshold is {self.threshold}; expected 0 or more, and less than 1")


class Detector:
    """A detector with its weights, ready to compute; used as a ``Backbone`` is. Gives ``regions`` alone.

    Attributes:
        weights: as of a ``Backbone``.
        batch: pictures to have ready at once. Each goes through the network alone, and they are large.
        shapes: of one region: regions (D,).
        row_bytes: what an image takes at most.
    """

    outputs = OUTPUTS
    weights: str

    def __init__(self, name: str, network: FasterRCNN, regions: Regions) -> None:
        self.name, self.regions = name, regions
        self.network: FasterRCNN = network.eval().requires_grad_(False)
        network.roi_heads.detections_per_img = regions.most
        resize = network.transform
        self.preprocess = Fit(min(resize.min_size), resize.max_size, tuple(resize.image_mean), tuple(resize.image_std))
        self.to("cpu")
        # torchvision infers the maps' scales from the first picture it sees, which a strip would mislead.
        self.shapes = {"regions": self(self.example(1))["regions"][0].shape[1:]}
        self.row_bytes = regions.most * (2 * self.shapes["regions"][0] + 24)
        self.recipe: dict[str, Any] = {
            "backbone": name,
            "weights": fingerprint_weights(network.state_dict()),
            "preprocessing": as_json(asdict(self.preprocess)),
            "regions": asdict(regions),
            "outputs": as_json(self.shapes),
            "dtype": "float16",
            "version": {"images": decode.VERSION, "detectors": VERSION},
        }

    def to(self, device: torch.device | str) -> Detector:
        self.device = torch.device(device)
        self.batch = {"cpu": 1, "cuda": 8}[self.device.type]
        self.network.to(self.device)
        return self

    def example(self, count: int) -> list[np.ndarray]:
        """Black pictures, to learn shapes and to warm up."""
        return [np.zeros((self.preprocess.shorter, self.preprocess.shorter, 3), np.uint8)] * count

    def __call__(self, pictures: Sequence[np.ndarray]) -> dict[str, list[np.ndarray]]:
        """Pictures (height, width, 3) uint8, each of its own size, to lists with an array for each: ``regions`` (L, D)
        float16, ``boxes`` (L, 4) x1, y1, x2, y2 as parts of width and height, ``scores`` (L,), ``classes`` (L,)."""
        detections = [self.look(picture) for picture in pictures]
        return {name: [values[n].cpu().numpy() for values in detections] for n, name in enumerate(COLUMNS)}

    @torch.inference_mode()
    def look(self, picture: np.ndarray) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What is kept of one picture."""
        network, heads = self.network, self.network.roi_heads
        pixels = torch.from_numpy(picture.copy()).to(self.device).permute(2, 0, 1).float().div_(255)
        inputs, _ = network.transform([pixels])
        # Coordinates need more than float16: only the trunk, which is most of the work, computes in it.
        with torch.autocast(self.device.type, torch.float16, enabled=self.device.type == "cuda"):
            maps = network.backbone(inputs.tensors)
        maps = {name: values.float() for name, values in (maps if isinstance(maps, dict) else {"0": maps}).items()}
        proposals, _ = network.rpn(inputs, maps)
        logits, moves = heads.box_predictor(heads.box_head(heads.box_roi_pool(maps, proposals, inputs.image_sizes)))
        boxes, scores, classes = self.choose(logits, moves, proposals, inputs.image_sizes)
        features = heads.box_head(heads.box_roi_pool(maps, [boxes], inputs.image_sizes))
        height, width = inputs.image_sizes[0]
        return features.half(), boxes / boxes.new_tensor([width, height, width, height]), scores, classes.int()

    def choose(
        self, logits: Tensor, moves: Tensor, proposals: list[Tensor], sizes: list[tuple[int, int]]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes (L, 4), scores and classes (L,) of the detections that are kept. A detection never suppresses one with
        a better score, so a lower threshold adds some and changes none."""
        heads, regions = self.network.roi_heads, self.regions
        for threshold in (regions.threshold, 0):
            heads.score_thresh = threshold
            detections = heads.postprocess_detections(logits, moves, proposals, sizes)
            boxes, scores, classes = (part[0] for part in detections)
            if len(boxes) >= regions.fewest:
                break
        if not len(boxes):  # the whole picture, of no class
            height, width = sizes[0]
            return boxes.new_tensor([[0, 0, width, height]]), scores.new_zeros(1), classes.new_zeros(1)
        kept = max(regions.fewest, int((scores > regions.threshold).sum()))
        return boxes[:kept], scores[:kept], classes[:kept]


def names() -> list[str]:
    from torchvision import models

    return [name for name in models.list_models(module=models.detection) if name.startswith("fasterrcnn_")]


def load(name: str, weights: str, regions: Regions) -> Detector:
    """``torchvision/NAME`` with ``weights`` as in ``backbones.load``; a file may be of any number of classes.

    Raises:
        UserError: no such file, no network to download from, or weights of another network.
    """
    from torchvision import models

    model = name.partition("/")[2]
    if weights == "random":
        return Detector(name, seeded(lambda: build(model)), regions)
    if weights == "pretrained":
        release = release_of(models.get_model_weights(model), weights)
        state = download(model, lambda: release.get_state_dict(progress=False, check_hash=True))
    else:
        state = read_weights(weights)
    network = build(model, len(state[CLASSES])) if CLASSES in state else build(model)
    load_strictly(network, state, set(network.state_dict()), name, weights)
    if model == "fasterrcnn_resnet50_fpn":  # as torchvision does with the weights of that name
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = 0.0
    return Detector(name, network, regions)


def build(model: str, classes: int | None = None) -> FasterRCNN:
    """An untrained network; ``classes`` includes the background."""
    from torchvision import models

    return models.get_model(model, weights=None, weights_backbone=None, num_classes=classes)
