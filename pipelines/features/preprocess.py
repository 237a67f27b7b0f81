"""From a listed file to a network's input: read, decoded, then resized and cropped as the network's configuration says.

Nothing here loads torch, so that processes which only decode are small and begin soon.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from PIL import Image

from pipelines.features import decode
from pipelines.inputs.fetch import read


@dataclass(frozen=True)
class Preprocess:
    """From a picture to a network's input, as the backbone's own configuration says.

    Attributes:
        crop: (height, width) that the network takes, cut from the centre.
        resize: what the shorter side is resized to before (``fit`` "shorter"), or both sides are ("squash").
        interpolation: "bilinear", "bicubic" or "lanczos", always with antialiasing.
        mean, std: of RGB in [0, 1]; applied by the network, on its device.
    """

    crop: tuple[int, int]
    resize: tuple[int, int]
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    fit: Literal["shorter", "squash"] = "shorter"

    def scaled(self, ratio: float) -> Preprocess:
        """The same part of a picture, of ``ratio`` times as many pixels a side."""
        height, width = (round(side * ratio) for side in self.crop)
        resize = (round(self.resize[0] * ratio), round(self.resize[1] * ratio))
        return replace(self, crop=(height, width), resize=resize)

    @property
    def needed(self) -> int:
        """Pixels of the shorter side below which a picture would be enlarged."""
        return max(self.resize)

    @property
    def most_bytes(self) -> int:
        """Bytes of a network's input."""
        return 3 * self.crop[0] * self.crop[1]

    def __call__(self, image: Image.Image) -> np.ndarray:
        """Resize and crop RGB ``image`` to (height, width, 3) uint8.

        Only the part that the crop keeps is resized, with the result of resizing all of it: a strip of
        1 x 1,000,000 pixels would otherwise become one of 256 x 256,000,000.
        """
        width, height = image.size
        resized_width, resized_height = self.resized(width, height)
        crop_height, crop_width = self.crop
        left = max(round((resized_width - crop_width) / 2), 0) * width / resized_width
        top = max(round((resized_height - crop_height) / 2), 0) * height / resized_height
        box = (
            left,
            top,
            min(left + crop_width * width / resized_width, width),
            min(top + crop_height * height / resized_height, height),
        )
        method = Image.Resampling[self.interpolation.upper()]
        return np.asarray(image.resize((crop_width, crop_height), method, box=box))

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) of the whole picture after resizing."""
        if self.fit == "squash":
            return self.resize[1], self.resize[0]
        # Like torchvision: the shorter side exactly, the longer one truncated.
        if width <= height:
            return self.resize[1], int(self.resize[1] * height / width)
        return int(self.resize[0] * width / height), self.resize[0]


@dataclass(frozen=True)
class Fit:
    """From a picture to a detector's input: the whole picture, its shorter side resized to ``shorter`` pixels, or less
    where the longer one would pass ``longer``. ``mean`` and ``std`` of RGB in [0, 1] are applied by the network."""

    shorter: int
    longer: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bilinear"

    @property
    def needed(self) -> int:
        """Pixels of the shorter side below which a picture would be enlarged."""
        return self.shorter

    @property
    def most_bytes(self) -> int:
        """Bytes of a network's input, at the most."""
        return 3 * self.shorter * self.longer

    def __call__(self, image: Image.Image) -> np.ndarray:
        """RGB ``image`` as (height, width, 3) uint8."""
        scale = min(self.shorter / min(image.size), self.longer / max(image.size))
        width, height = (max(round(side * scale), 1) for side in image.size)
        return np.asarray(image.resize((width, height), Image.Resampling[self.interpolation.upper()]))


@dataclass(frozen=True)
class Loaded:
    """An image ready for the network: ``pixels`` (height, width, 3) uint8, preprocessed, none once the
    features are there; ``width`` and ``height`` of the picture. Decoding it took ``cpu`` seconds of a processor."""

    image_id: str
    uri: str
    version: str | None
    width: int
    height: int
    pixels: np.ndarray
    cpu: float = 0.0


def load(row: dict[str, Any], preprocess: Preprocess | Fit) -> Loaded:
    """Read and decode one image of a listing."""
    begun = time.thread_time()
    version, data = read(row["uri"], row["version"])
    with decode.opened(data, preprocess.needed) as picture:
        pixels, cpu = preprocess(picture.image), time.thread_time() - begun
        return Loaded(row["image_id"], row["uri"], version, picture.width, picture.height, pixels, cpu)


def attempt(row: dict, preprocess: Preprocess | Fit) -> Loaded | Exception | None:
    """``load``, or why it failed, None where the listing says so already. Of an error that waits its turn the traceback
    would keep the file in memory."""
    if row.get("problem"):
        return None
    try:
        return load(row, preprocess)
    except Exception as error:
        return error.with_traceback(None)


def load_some(rows: Sequence[dict], preprocess: Preprocess | Fit) -> list[Loaded | None]:
    """``load`` of some images, None for each that fails."""
    attempts = (attempt(row, preprocess) for row in rows)
    return [image if isinstance(image, Loaded) else None for image in attempts]
