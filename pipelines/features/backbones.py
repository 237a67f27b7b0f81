"""Convolutional networks without their classifiers: pictures in, ``pooled`` and ``grid`` features out.

==================================  ============================  ==============================================
torchvision/NAME                    grid (rows, columns, D)       pooled (D,)
==================================  ============================  ==============================================
resnet*, resnext*, wide_resnet*     layer4                        mean over the grid
vgg*                                last convolution and its      fc7 after its ReLU, 4096
                                    ReLU, before the last pool
alexnet                             as vgg*                       as vgg*
googlenet                           inception5b                   mean over the grid
squeezenet*                         features                      mean over the grid
mobilenet*, efficientnet*, ...      last feature map              mean over the grid
==================================  ============================  ==============================================

With timm/NAME the grid is ``forward_features`` (the patch tokens of a transformer, in their places) and pooled is
what timm hands to the classifier, ``forward_head(pre_logits=True)``.

torchvision/fasterrcnn_* are detectors, which give ``regions``: ``pipelines.features.detectors``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from pipelines.errors import UserError
from pipelines.features import decode, detectors
from pipelines.features.detectors import Detector
from pipelines.features.preprocess import Preprocess
from pipelines.features.weights import (
    as_json,
    download,
    fingerprint_weights,
    load_strictly,
    read_weights,
    release_of,
    seeded,
)
from pipelines.files.atomic import write_whole
from rnncond.contract import to_device

VERSION = 1
"""Of the code between pixels and features: part of every fingerprint, raised when a change alters the numbers."""

OUTPUTS = ("pooled", "grid")

BODIES = {
    r"(wide_)?resnet\d.*|resnext.*": "conv1 bn1 relu maxpool layer1 layer2 layer3 layer4",
    r"vgg.*|alexnet": "features",
    r"googlenet": "conv1 maxpool1 conv2 conv3 maxpool2 inception3a inception3b maxpool3 inception4a inception4b "
    "inception4c inception4d inception4e maxpool4 inception5a inception5b",
    r"squeezenet.*|mobilenet.*|efficientnet.*|convnext.*": "features",
    r"shufflenet.*": "conv1 maxpool stage2 stage3 stage4 conv5",
    r"regnet.*": "stem trunk_output",
    r"mnasnet.*": "layers",
}
"""The torchvision families (as patterns of names) and the modules that lead to their last feature map."""


class Backbone:
    """A network with its weights, ready to compute; can be pickled, and moved with ``to``.

    Attributes:
        weights: the name of their file, ``pretrained`` or ``random``.
        preprocess: from a picture to this network's input.
        batch: pictures a forward pass; beyond these, a CPU core falls out of its cache and a GPU gains nothing.
        shapes: of one image's outputs: pooled (D,), grid (rows, columns, D).
        row_bytes: what an image's outputs take.
        recipe: everything that the numbers depend on; the fingerprint of a set of features is its hash. A GPU
            computes in float16, to which features are rounded anyway, so the device is no part of it.
    """

    weights: str

    def __init__(
        self, name: str, trunk: Trunk, preprocess: Preprocess, outputs: tuple[str, ...], size: int | None = None
    ) -> None:
        own, size = min(preprocess.crop), size or min(preprocess.crop)
        self.name, self.preprocess, self.outputs = name, preprocess.scaled(size / own), outputs
        self.trunk = trunk.eval().requires_grad_(False)
        self.to("cpu")
        try:
            self.shapes = {output: array.shape[1:] for output, array in self(self.example(1)).items()}
        except (AssertionError, RuntimeError) as error:
            if size == own:
                raise
            reason = str(error).strip().partition("\n")[0]
            raise UserError(
                f"size: {name} takes no pictures of {size}x{size} pixels ({reason}); its own is {own}"
            ) from error
        self.row_bytes = 2 * sum(prod(shape) for shape in self.shapes.values())
        self.recipe: dict[str, Any] = {
            "backbone": name,
            "weights": fingerprint_weights(trunk.network.state_dict()),
            "preprocessing": as_json(asdict(self.preprocess)),
            "outputs": as_json(self.shapes),
            "dtype": "float16",
            "version": {"images": decode.VERSION, "backbones": VERSION},
        }
        self.recipe |= {"size": size} if size != own else {}

    def to(self, device: torch.device | str) -> Backbone:
        self.device = torch.device(device)
        self.batch = {"cpu": 8, "cuda": 128}[self.device.type]
        # Twice as fast as the default layout for some networks on a CPU, and what tensor cores want.
        self.trunk.to(self.device).to(memory_format=torch.channels_last)
        self.mean = torch.tensor(self.preprocess.mean, device=self.device).mul(255).view(1, 3, 1, 1)
        self.std = torch.tensor(self.preprocess.std, device=self.device).mul(255).view(1, 3, 1, 1)
        return self

    def example(self, count: int) -> list[np.ndarray]:
        """A batch of black pictures, to learn shapes and to warm up."""
        return [np.zeros((*self.preprocess.crop, 3), np.uint8)] * count

    def as_input(self, pictures: Tensor) -> Tensor:
        """(B, height, width, 3) uint8, on its device, to what the network reads: (B, 3, height, width)."""
        return pictures.permute(0, 3, 1, 2).float().sub_(self.mean).div_(self.std)

    def save(self, path: Path) -> None:
        """Write the network's weights as a file that ``load`` reads (.safetensors)."""
        state = self.trunk.network.state_dict()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, safetensors.torch.save({name: x.cpu().contiguous() for name, x in state.items()}))

    @torch.inference_mode()
    def __call__(self, pictures: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """B of (height, width, 3) uint8 to float16: ``pooled`` (B, D) and ``grid`` (B, rows, columns, D)."""
        inputs = self.as_input(to_device(torch.from_numpy(np.stack(pictures)), self.device))
        with torch.autocast(self.device.type, torch.float16, enabled=self.device.type == "cuda"):
            grid, pooled = self.trunk(inputs)
        computed = {"pooled": pooled, "grid": grid.permute(0, 2, 3, 1)}
        return {output: computed[output].half().contiguous().cpu().numpy() for output in self.outputs}


def load(
    name: str,
    weights: str = "pretrained",
    outputs: tuple[str, ...] | None = None,
    regions: Mapping[str, Any] | None = None,
    size: int | None = None,
) -> Backbone | Detector:
    """Build a backbone.

    Args:
        name: ``timm/NAME`` or ``torchvision/NAME``.
        weights: a file (.safetensors, or .pth, .pt with tensors only), ``pretrained`` (downloaded by name) or
            ``random`` (the same random numbers each time).
        outputs: any of ``pooled`` and ``grid``, or ``regions`` of a detector; None for all that the network gives.
            What is not asked for is not computed.
        regions: fields of ``detectors.Regions`` that are not as by default; of a detector only.
        size: pixels of the shorter side of what the network sees; None for its own. A picture is resized and cropped
            in the same proportions, and the grid has more or fewer places. Not of a detector.

    Raises:
        UserError: no such name or file, no network to download from, weights of another network, or outputs that
            this network does not give, or a size that it does not take.
    """
    network = build(name, weights, outputs, regions, size)
    network.weights = Path(weights).name
    return network


def build(
    name: str, weights: str, outputs: tuple[str, ...] | None, regions: Mapping[str, Any] | None, size: int | None
) -> Backbone | Detector:
    """``load``, without the name of the weights."""
    library, _, model = name.partition("/")
    if library == "torchvision" and model in detectors.names():
        check_outputs(outputs, detectors.OUTPUTS, name)
        if size:
            raise UserError(f"size: {name} is a detector, which sees whole pictures as large as it was trained on")
        return detectors.load(name, weights, detectors.Regions(**(regions or {})))
    outputs = check_outputs(outputs, OUTPUTS, name)
    builder = builder_of(library, model)
    if builder is None:
        raise UserError(_no_such_backbone(name))
    if regions:
        raise UserError(f"backbone: {name} is no detector, and has no regions to choose from; {DETECTORS}")
    trunk, preprocess = builder(model, weights, outputs)
    return Backbone(name, trunk, preprocess, outputs, size)


DETECTORS = "regions are of a detector, such as torchvision/fasterrcnn_resnet50_fpn_v2"


def check_outputs(outputs: tuple[str, ...] | None, there: tuple[str, ...], name: str) -> tuple[str, ...]:
    """The outputs asked for, once each and in the order of ``there``, which are those of the network ``name``."""
    outputs = there if outputs is None else outputs
    if wrong := sorted(set(outputs) - set(there)):
        hint = f"; {DETECTORS}" if "regions" in wrong else ""
        raise UserError(f"outputs: {', '.join(wrong)!r} is not among {', '.join(there)}, which {name} gives{hint}")
    if not outputs:
        raise UserError(f"outputs: none given; choose from {', '.join(there)}")
    return tuple(output for output in there if output in outputs)


# torchvision


class TorchvisionTrunk(nn.Module):
    """A torchvision classifier, cut: (B, 3, height, width) to grid (B, D, rows, columns) and pooled (B, D)."""

    network: Any  # an nn.Module, whose parts have the names that its family gives them

    def __init__(self, name: str, network: Any, outputs: tuple[str, ...]) -> None:
        super().__init__()
        self.network = network
        body = next(body for pattern, body in BODIES.items() if re.fullmatch(pattern, name))
        self.body = body.split()
        self.has_fc7 = bool(re.fullmatch(r"vgg.*|alexnet", name))
        self.pools = "pooled" in outputs
        for head in ("fc", "classifier"):
            if self.has_fc7 and self.pools:
                network.classifier[-1] = nn.Identity()
            elif hasattr(network, head):
                setattr(network, head, nn.Identity())

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor | None]:
        network = self.network
        if getattr(network, "transform_input", False):
            pictures = network._transform_input(pictures)
        if not self.has_fc7:
            grid = pictures
            for module in self.body:
                grid = getattr(network, module)(grid)
            return grid, grid.mean((2, 3)) if self.pools else None
        grid = network.features[:-1](pictures)
        if not self.pools:
            return grid, None
        return grid, network.classifier(network.avgpool(network.features[-1](grid)).flatten(1))


def torchvision_names() -> list[str]:
    from torchvision import models

    return [name for name in models.list_models(module=models) if any(re.fullmatch(body, name) for body in BODIES)]


def build_torchvision(name: str, weights: str, outputs: tuple[str, ...]) -> tuple[Trunk, Preprocess]:
    from torchvision import models

    # transform_input undoes the usual normalisation for weights that were trained with another.
    options = {"aux_logits": False, "init_weights": False, "transform_input": True} if name == "googlenet" else {}
    network = seeded(lambda: models.get_model(name, weights=None, **options))
    known = set(network.state_dict())
    trunk = TorchvisionTrunk(name, network, outputs)
    release = release_of(models.get_model_weights(name), weights)
    if weights != "random":
        if weights == "pretrained":
            state = download(name, lambda: release.get_state_dict(progress=False, check_hash=True))
        else:
            state = read_weights(weights)
        load_strictly(trunk.network, state, known | {"aux1", "aux2"}, f"torchvision/{name}", weights)
    transform = release.transforms()
    return trunk, Preprocess(
        crop=(transform.crop_size[0],) * 2,
        resize=(transform.resize_size[0],) * 2,
        interpolation=transform.interpolation.value,
        mean=tuple(transform.mean),
        std=tuple(transform.std),
    )


# timm


class TimmTrunk(nn.Module):
    """A timm network without its classifier: (B, 3, height, width) to grid (B, D, rows, columns) and pooled (B, D)."""

    network: Any  # an nn.Module with timm's methods, which nn.Module does not declare

    def __init__(self, network: Any, outputs: tuple[str, ...]) -> None:
        super().__init__()
        self.network, self.pools = network, "pooled" in outputs
        network.reset_classifier(0)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor | None]:
        features = self.network.forward_features(pictures)
        pooled = self.network.forward_head(features, pre_logits=True) if self.pools else None
        if features.ndim == 3:
            tokens = features[:, getattr(self.network, "num_prefix_tokens", 0) :]
            grid = tokens.transpose(1, 2).unflatten(2, self.network.patch_embed.grid_size)
        elif getattr(self.network, "output_fmt", "NCHW") == "NHWC":
            grid = features.permute(0, 3, 1, 2)
        else:
            grid = features
        return grid, pooled


def build_timm(name: str, weights: str, outputs: tuple[str, ...]) -> tuple[Trunk, Preprocess]:
    import timm

    if weights == "pretrained":
        network = download(name, lambda: timm.create_model(name, pretrained=True))
    else:
        network = seeded(lambda: timm.create_model(name))
    data = timm.data.resolve_data_config({}, model=network)
    known = set(network.state_dict())
    trunk = TimmTrunk(network, outputs)
    if weights not in ("pretrained", "random"):
        load_strictly(trunk.network, read_weights(weights), known, f"timm/{name}", weights)
    if data["crop_mode"] not in ("center", "squash"):
        raise UserError(f"timm/{name} pads its pictures ({data['crop_mode']}), which is not supported; take another")
    height, width = data["input_size"][1:]
    return trunk, Preprocess(
        crop=(height, width),
        resize=(int(height / data["crop_pct"]), int(width / data["crop_pct"])),
        interpolation=data["interpolation"],
        mean=tuple(data["mean"]),
        std=tuple(data["std"]),
        fit="squash" if data["crop_mode"] == "squash" else "shorter",
    )


Trunk = TorchvisionTrunk | TimmTrunk


def builder_of(library: str, model: str) -> Callable[[str, str, tuple[str, ...]], tuple[Trunk, Preprocess]] | None:
    """What builds the network of that name from name, weights and outputs; None where the library has none."""
    if library == "torchvision" and model in torchvision_names():
        return build_torchvision
    if library == "timm":
        import timm

        if timm.is_model(model):
            return build_timm
    return None


def _no_such_backbone(name: str) -> str:
    import timm

    names = [f"torchvision/{model}" for model in torchvision_names() + detectors.names()] + [
        f"timm/{model}" for model in timm.list_models()
    ]
    model = name.rpartition("/")[2]
    near = [known for known in names if known.endswith("/" + model)]
    near = near or difflib.get_close_matches(name, names, n=4, cutoff=0.5)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    return f"backbone: there is no {name!r}; a name is timm/NAME or torchvision/NAME.{hint}"
