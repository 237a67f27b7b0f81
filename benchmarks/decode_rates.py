"""What decoding a photograph costs a core, by size and by decoder, and how many cores a GPU therefore needs.

    python benchmarks/decode_rates.py [--images FOLDER] [--weights FILE] [--gpu-rate 3000] [--out benchmarks/results]

Photographs of 0.1, 1 and 12 megapixels are made of those in ``--images`` (of generated ones if not given), JPEG of
quality 90, and become 224 x 224 as for ResNet-50. ``full`` is Pillow without scaled decoding, ``ours`` what `features`
does, ``torchvision`` its decode_jpeg with the same resizing. The three take turns; the figures are the lowest processor
milliseconds an image of all rounds, which other work on the machine disturbs least. ``pixels`` is the mean difference
from ``full`` in levels of 255, ``cosine`` the lowest cosine between the pooled features of the same picture.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import photographs
import torch
from PIL import Image
from record import save
from torchvision.io import decode_jpeg

from pipelines.features import backbones
from pipelines.features.decode import decode
from pipelines.features.preprocess import Preprocess

NETWORK = "torchvision/squeezenet1_0"
PREPROCESS = Preprocess((224, 224), (256, 256), "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
MEGAPIXELS = {0.1: 10, 1: 3, 12: 1}
"""Sizes, and how often a round decodes each photograph."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, help="a folder of photographs")
    parser.add_argument("--weights", default="random", help=f"of {NETWORK}, for the cosine")
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--gpu-rate", type=float, default=3000, help="images/s of the GPU")
    parser.add_argument("--out", type=Path, help="folder for the result as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    network = backbones.load(NETWORK, arguments.weights, ("pooled",))
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        source = arguments.images or photographs.generate(Path(folder, "made"))
        files = sorted(source.glob("*.jpg"))[: arguments.count]
        for megapixels, repeats in MEGAPIXELS.items():
            pictures = [resized(file, megapixels) for file in files]
            row = measure(pictures, repeats * arguments.rounds)
            for name in ("ours", "torchvision"):
                row[name] |= agreement(network, pictures, DECODERS[name])
            row["cores"] = arguments.gpu_rate * row["ours"]["ms"] / 1e3
            results[f"{megapixels} MP"] = row
            print(megapixels, json.dumps(row), flush=True)
    if arguments.out:
        print(save(arguments.out, __doc__, arguments, results))


def resized(file: Path, megapixels: float) -> bytes:
    image, sink = Image.open(file).convert("RGB"), io.BytesIO()
    scale = (megapixels * 1e6 / (image.width * image.height)) ** 0.5
    size = (round(image.width * scale), round(image.height * scale))
    image.resize(size, Image.Resampling.BICUBIC).save(sink, "JPEG", quality=90)
    return sink.getvalue()


def full(data: bytes) -> np.ndarray:
    return PREPROCESS(Image.open(io.BytesIO(data)).convert("RGB"))


def ours(data: bytes) -> np.ndarray:
    return PREPROCESS(decode(data, PREPROCESS.needed).image)


def torchvision(data: bytes) -> np.ndarray:
    pixels = decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8))
    return PREPROCESS(Image.fromarray(pixels.permute(1, 2, 0).numpy()))


DECODERS = {"full": full, "ours": ours, "torchvision": torchvision}


def measure(pictures: list[bytes], rounds: int) -> dict[str, dict]:
    spent: dict[str, list[float]] = {name: [] for name in DECODERS}
    for _ in range(rounds):
        for name, decoder in DECODERS.items():
            begun = time.process_time()
            for picture in pictures:
                decoder(picture)
            spent[name].append((time.process_time() - begun) / len(pictures) * 1e3)
    return {name: {"ms": min(times)} for name, times in spent.items()}


def agreement(
    network: backbones.Backbone, pictures: list[bytes], decoder: Callable[[bytes], np.ndarray]
) -> dict[str, float]:
    expected, decoded = ([one(picture) for picture in pictures] for one in (full, decoder))
    difference = np.mean([np.abs(a.astype(int) - b).mean() for a, b in zip(expected, decoded, strict=True)])
    a, b = (network(pixels)["pooled"].astype(np.float64) for pixels in (expected, decoded))
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return {"pixels": float(difference), "cosine": float(cosine.min())}


if __name__ == "__main__":
    main()
