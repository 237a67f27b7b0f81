"""From a picture to a network's input: resized and cropped as the backbone's own configuration says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image


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

    @property
    def needed(self) -> int:
        """Pixels of the shorter side below which a picture would be enlarged."""
        return max(self.resize)

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
