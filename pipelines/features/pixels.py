"""Decoded pictures to RGB of 8 bits: over white where they are transparent, and from whatever mode Pillow gives.

Colour profiles are not applied: the networks were trained on pictures read in this way. 16 bits a channel become 8 by
dividing by 257; the shades of a 12-bit TIFF end at 4095.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image
from PIL.TiffTags import TAGS_V2

STRIPE_PIXELS = 1 << 20
"""What is converted at once by several steps, each of which takes memory of its own."""

BITS_PER_SAMPLE, PHOTOMETRIC = (
    next(number for number, tag in TAGS_V2.items() if tag.name == name)
    for name in ("BitsPerSample", "PhotometricInterpretation")
)
WHITE_IS_ZERO = 0
WHITE = (255, 255, 255)


class DecodeError(Exception):
    """The bytes are no picture that can be shown; the message says why."""


def to_rgb(image: Image.Image) -> Image.Image:
    """A decoded picture as RGB, laid over white; the picture itself if it is that already.

    Raises:
        DecodeError: its pixels have no white: they are floating-point, or integers of 32 bits.
    """
    if image.mode.startswith("I"):
        return by_stripes(image, "L", grey_of(image)).convert("RGB")
    if image.mode == "F":
        raise DecodeError("32-bit floating-point pixels, whose white is not defined")
    if "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        return by_stripes(image, "RGB", over_white)
    return image if image.mode == "RGB" else image.convert("RGB")


def by_stripes(image: Image.Image, mode: str, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """``convert`` to ``mode``, some rows at a time."""
    width, height = image.size
    whole, rows = Image.new(mode, image.size), max(STRIPE_PIXELS // max(width, 1), 1)
    for top in range(0, height, rows):
        whole.paste(convert(image.crop((0, top, width, min(top + rows, height)))), (0, top))
    return whole


def over_white(image: Image.Image) -> Image.Image:
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, (*WHITE, 255)), image).convert("RGB")


def grey_of(image: Image.Image) -> Callable[[Image.Image], Image.Image]:
    """A function that turns a stripe of ``image`` (grey above 8 bits) into 8 bits, its transparent shade white."""
    tags = getattr(image, "tag_v2", {})
    white = (1 << tags.get(BITS_PER_SAMPLE, (16,))[0]) - 1 if image.mode.startswith("I;16") else 65535
    inverted = tags.get(PHOTOMETRIC) == WHITE_IS_ZERO
    transparent = image.info.get("transparency")

    def convert(stripe: Image.Image) -> Image.Image:
        values = np.asarray(stripe)
        if values.min() < 0 or values.max() > white:
            raise DecodeError("32-bit integer pixels, whose white is not defined")
        shades = (values.astype(np.uint32) * 255 + white // 2) // white
        if inverted:
            shades = 255 - shades
        if transparent is not None:
            shades[values == transparent] = 255
        return Image.fromarray(shades.astype(np.uint8))

    return convert


def unscaled_transparency(image: Image.Image, bits: int) -> None:
    """Make the transparent shade of a grey PNG one of the shades that Pillow gives: it scales pixels of 2 and 4 bits up
    to 8, and leaves the shade as it stands in the file."""
    if image.mode == "L" and bits in (2, 4) and isinstance(image.info.get("transparency"), int):
        image.info["transparency"] *= 255 // ((1 << bits) - 1)


def only_within(image: Image.Image, extent: tuple[int, int, int, int]) -> Image.Image:
    """``image`` white outside of ``extent`` (left, top, right, bottom), where a GIF's first frame has no pixels."""
    if extent == (0, 0, *image.size):
        return image
    shown = Image.new("RGB", image.size, WHITE)
    shown.paste(image.crop(extent), extent[:2])
    return shown


def without_false_alpha(image: Image.Image, descriptor: int) -> Image.Image:
    """A TGA without its fourth channel, if the header's last byte, ``descriptor``, says that no bit of it is alpha."""
    return image.convert("RGB") if image.mode == "RGBA" and not descriptor & 15 else image
