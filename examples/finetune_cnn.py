"""A CNN that sees what captions speak of: its last layers learn to tell which words people use of a picture.

    python examples/finetune_cnn.py captions.jsonl --backbone timm/tf_efficientnet_lite2 \\
        --weights tf_efficientnet_lite2.safetensors --out finetuned.safetensors
    rnncond features captions.jsonl --store store --backbone timm/tf_efficientnet_lite2 --weights finetuned.safetensors

A network that was trained to name the objects of ImageNet knows little of what people do in a photograph. Here a linear
layer behind its pooled features is asked for the words of the captions, each the share of a picture's captions that
have it (the words as attributes of Wu et al. 2016, "What value do explicit high level concepts have in vision to
language problems?", one sigmoid a word), and what lies before that layer learns with it, as far as the layers with as
many places as the grid. Earlier ones keep their weights, all keep their statistics of batches, and the linear layer is
thrown away. The captioner then reads features of the same shape.

docs/results.md says what it brings on Flickr8k. Pictures are mirrored and cropped at random in training. The words are
those of the split ``train``; ``val`` says after each epoch how well they are told, and the file has the best epoch's
weights. It runs in one process, on a GPU where there is one. What was learned is kept beside the file after each epoch,
so that the same command goes on after an interruption.
"""

from __future__ import annotations

import argparse
import hashlib
import pickle
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from pipelines.console import Progress, tell
from pipelines.errors import UserError, user_message
from pipelines.features import backbones, decode
from pipelines.features.backbones import Backbone
from pipelines.files.atomic import replacing
from pipelines.inputs.caption_formats import Captioned
from pipelines.inputs.captions import read_captions

SMALLEST_SIDE = 0.8
"""Of a crop in training, in parts of the picture that the network sees."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("captions", help="a file of captions, as `rnncond train` reads it; pictures lie beside it")
    parser.add_argument("--backbone", required=True, help="timm/NAME or torchvision/NAME, a convolutional network")
    parser.add_argument("--weights", default="pretrained", help="as of `rnncond features`")
    parser.add_argument("--out", type=Path, required=True, help="the .safetensors file to write")
    parser.add_argument("--epochs", type=count, default=5)
    parser.add_argument("--batch", type=count, default=32, help="pictures a step (default: 32)")
    parser.add_argument("--rate", type=float, default=3e-4, help="of the CNN (default: 3e-4)")
    parser.add_argument("--min-pictures", type=count, default=15, help="of a word (default: 15)")
    parser.add_argument("--threads", type=count, default=torch.get_num_threads())
    parser.add_argument("--bfloat16", action="store_true", help="multiply in bfloat16, where that is faster")
    parser.add_argument("--seed", type=int, default=1)
    try:
        finetune(parser.parse_args(arguments))
    except Exception as error:
        if (message := user_message(error)) is None:
            raise
        raise SystemExit(f"error: {message}") from None
    except KeyboardInterrupt:
        raise SystemExit("interrupted; the same command goes on behind the last whole epoch") from None


def count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def finetune(options: argparse.Namespace) -> list[tuple[float, float]]:
    """Train, and write the best epoch's weights; go on behind the last epoch of a run that was interrupted.

    Returns:
        Of each epoch, the loss and the mean average precision on val.
    """
    if options.out.suffix != ".safetensors":
        raise UserError(f"--out {options.out} is to be a .safetensors file, which `rnncond features` reads")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    examples = read_captions(options.captions)
    train, val = (Pictures(options, [one for one in examples if one.split == split]) for split in ("train", "val"))
    words = words_of(train.examples, options.min_pictures)
    if not len(train) or not len(val) or not words:
        raise UserError(
            f"{options.captions} has {len(train):,} pictures to train, {len(val):,} in val and {len(words):,} words of "
            f"{options.min_pictures} pictures; expected some of each (--min-pictures)"
        )
    network = backbones.load(options.backbone, options.weights)
    if not isinstance(network, Backbone):
        raise UserError(f"{options.backbone} is a detector; give a convolutional network")
    network.to("cuda" if torch.cuda.is_available() else "cpu")
    layers = last_layers(network)
    tell(f"{len(train):,} pictures, {len(words):,} words; {len(layers)} layers of {options.backbone} learn")
    shares, shares_of_val = (labels(pictures.examples, words) for pictures in (train, val))
    head = Head(network.shapes["pooled"][0], shares, options.bfloat16).to(network.device)
    optimizer = torch.optim.AdamW(
        [
            {"params": head.parameters(), "lr": 2e-3, "weight_decay": 0.01},
            {"params": [weight for layer in layers for weight in layer.parameters()], "lr": options.rate},
        ],
        weight_decay=0.05,
    )
    for layer in layers:
        layer.requires_grad_(True)
    steps = options.epochs * (len(train) // options.batch or 1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [group["lr"] for group in optimizer.param_groups], total_steps=steps, pct_start=min(100 / steps, 0.3)
    )
    kept = Kept(options, examples, network, {"head": head, "optimizer": optimizer, "schedule": schedule})
    told = kept.restore()
    with Progress("finetune", "steps", steps) as progress, ThreadPoolExecutor(options.threads) as pool:
        progress.advance(len(told) * (steps // options.epochs))
        for epoch in range(len(told) + 1, options.epochs + 1):
            total, seen = 0.0, 0
            for rows, pictures in train.batches(network, pool, epoch):
                loss = loss_of(network, head.train(), pictures, shares[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                total, seen = total + loss.item() * len(rows), seen + len(rows)
                progress.advance(1, note=f"loss {loss.item():.2f}")
            told.append(validate(network, head.eval(), val, shares_of_val, pool))
            tell(
                f"epoch {epoch}: loss {total / seen:.2f}, on val {told[-1][0]:.2f}, "
                f"mean average precision {told[-1][1]:.1%}"
            )
            if told[-1] == min(told):
                network.save(options.out)
            kept.write(told)
    kept.file.unlink(missing_ok=True)
    return told


class Kept:
    """All that training goes on from, in a file beside ``--out`` that is there until training has ended."""

    def __init__(
        self, options: argparse.Namespace, examples: Sequence[Captioned], network: Backbone, parts: dict[str, Any]
    ) -> None:
        self.file = options.out.with_suffix(".progress")
        self.parts = {"network": network.trunk, **parts}
        read = hashlib.sha256(repr([(one.file, one.split, one.captions) for one in examples]).encode())
        same = ("backbone", "epochs", "batch", "rate", "min_pictures", "bfloat16", "seed")
        self.arguments = {name: getattr(options, name) for name in same}
        self.arguments |= {"weights": network.recipe["weights"], "captions": read.hexdigest()}

    def write(self, told: list[tuple[float, float]]) -> None:
        state = {name: part.state_dict() for name, part in self.parts.items()}
        state |= {"arguments": self.arguments, "told": told, "random": torch.get_rng_state()}
        with replacing(self.file) as fresh, open(fresh, "wb") as file:
            torch.save(state, file)

    def restore(self) -> list[tuple[float, float]]:
        """What was told of the epochs that are behind it, none where nothing is kept.

        Raises:
            UserError: the file cannot be read, or is of other arguments.
        """
        if not self.file.exists():
            return []
        anew = f"remove {self.file} to begin anew"
        try:
            state = torch.load(self.file, weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise UserError(f"{self.file}: {str(error).partition('. ')[0]}; {anew}") from error
        if other := [name for name, value in self.arguments.items() if state["arguments"].get(name) != value]:
            begun = ", ".join(f"{name} {state['arguments'].get(name)}" for name in other)
            raise UserError(f"{self.file} is of a training with {begun}; give the same, or {anew}")
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        torch.set_rng_state(state["random"])
        tell(f"going on behind epoch {len(state['told'])}, kept in {self.file}")
        told: list[tuple[float, float]] = state["told"]
        return told


class Pictures:
    """The pictures of a split, read anew in each epoch."""

    def __init__(self, options: argparse.Namespace, examples: list[Captioned]) -> None:
        self.examples, self.batch, self.seed = examples, options.batch, options.seed
        self.folder = Path(options.captions).parent

    def __len__(self) -> int:
        return len(self.examples)

    def batches(
        self, network: Backbone, pool: ThreadPoolExecutor, epoch: int | None = None
    ) -> Iterator[tuple[list[int], Tensor]]:
        """Rows and their pictures (B, height, width, 3) uint8, the next batch being read meanwhile. Those of an
        ``epoch`` of training are shuffled, mirrored and cropped, and come in whole batches."""
        rows = list(range(len(self)))
        if epoch:
            random.Random(f"{self.seed}/{epoch}").shuffle(rows)
            rows = rows[: len(rows) // self.batch * self.batch] or rows
        parts = [rows[start : start + self.batch] for start in range(0, len(rows), self.batch)]
        coming: list[Future[np.ndarray]] = []
        for part, following in zip(parts, [*parts[1:], []], strict=True):
            reading = coming or [pool.submit(self.read, network, row, epoch) for row in part]
            coming = [pool.submit(self.read, network, row, epoch) for row in following]
            yield part, torch.from_numpy(np.stack([one.result() for one in reading])).to(network.device)

    def read(self, network: Backbone, row: int, epoch: int | None) -> np.ndarray:
        """One picture as the network takes it."""
        path = self.folder / self.examples[row].file
        try:
            image = decode.decode(path.read_bytes(), network.preprocess.needed).image
        except (OSError, decode.DecodeError) as error:
            raise UserError(f"{path}: {error}") from None
        return network.preprocess(vary(image, random.Random(f"{self.seed}/{epoch}/{row}")) if epoch else image)


def vary(image: Image.Image, rng: random.Random) -> Image.Image:
    """``image`` mirrored or not, and a part of it."""
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    side = rng.uniform(SMALLEST_SIDE, 1)
    width, height = (max(round(length * side), 1) for length in image.size)
    left, top = (rng.randint(0, length - part) for length, part in zip(image.size, (width, height), strict=True))
    return image.crop((left, top, left + width, top + height))


def words_of(examples: Sequence[Captioned], fewest: int) -> dict[str, int]:
    """The words in the captions of at least ``fewest`` pictures, with their columns."""
    pictures = Counter(word for example in examples for word in set(cut(" ".join(example.captions))))
    return {word: column for column, word in enumerate(sorted(word for word, n in pictures.items() if n >= fewest))}


def cut(caption: str) -> list[str]:
    return re.findall(r"\w+", caption.lower())


def labels(examples: Sequence[Captioned], words: dict[str, int]) -> Tensor:
    """(B, V): the share of a picture's captions that have a word."""
    shares = torch.zeros(len(examples), len(words))
    for row, example in zip(shares, examples, strict=True):
        for caption in example.captions:
            row[[words[word] for word in set(cut(caption)) if word in words]] += 1 / len(example.captions)
    return shares


class Head(nn.Module):
    """Pooled features (B, D) to the logits of the words (B, V), in ``bfloat16`` or not, as the network before it. It
    begins with the words' frequencies, ``shares`` (B, V) being the pictures to train on."""

    def __init__(self, features: int, shares: Tensor, bfloat16: bool) -> None:
        super().__init__()
        self.in_bfloat16 = bfloat16
        self.dropout, self.words = nn.Dropout(0.4), nn.Linear(features, shares.shape[1])
        self.words.weight.data.mul_(0.1)
        self.words.bias.data = shares.mean(0).clamp(1e-4, 1 - 1e-4).logit()

    def forward(self, pooled: Tensor) -> Tensor:
        logits: Tensor = self.words(self.dropout(pooled))
        return logits


def last_layers(network: Backbone) -> list[nn.Module]:
    """The layers whose output has the places of the grid.

    Raises:
        UserError: there are none, or none before them has other places: the network has no stages.
    """
    places, found, earlier = tuple(network.shapes["grid"][:2]), [], False
    with ExitStack() as hooks:

        def hook(layer: nn.Module, _: Any, output: Any) -> None:
            nonlocal earlier
            if isinstance(output, Tensor) and output.ndim == 4:
                if tuple(output.shape[2:]) == places:
                    found.append(layer)
                else:
                    earlier = True

        for layer in network.trunk.modules():
            if [*layer.parameters(recurse=False)]:
                handle = layer.register_forward_hook(hook)
                hooks.callback(handle.remove)
        network(network.example(1))
    if not found or not earlier:
        raise UserError(f"{network.name} has no stages, of which the last could learn; give a convolutional network")
    return found


def loss_of(network: Backbone, head: Head, pictures: Tensor, shares: Tensor) -> Tensor:
    """Cross-entropy of a picture's words, summed over the words."""
    logits = logits_of(network, head, pictures)
    total = functional.binary_cross_entropy_with_logits(logits, shares.to(logits.device), reduction="sum")
    return total / len(pictures)


def logits_of(network: Backbone, head: Head, pictures: Tensor) -> Tensor:
    with torch.autocast(network.device.type, torch.bfloat16, enabled=head.in_bfloat16):
        _, pooled = network.trunk(network.as_input(pictures))
        logits: Tensor = head(pooled)
    return logits.float()


@torch.no_grad()
def validate(
    network: Backbone, head: Head, val: Pictures, shares: Tensor, pool: ThreadPoolExecutor
) -> tuple[float, float]:
    """The loss, and the mean over the words of their average precision, in which pictures of a word come first."""
    logits = torch.cat([logits_of(network, head, pictures).cpu() for _, pictures in val.batches(network, pool)])
    loss = functional.binary_cross_entropy_with_logits(logits, shares, reduction="sum").item() / len(val)
    return loss, mean_average_precision(logits, shares > 0)


def mean_average_precision(scores: Tensor, right: Tensor) -> float:
    """Of (N, V) scores and whether they are right; words of no picture are left out."""
    ordered = right.gather(0, scores.argsort(0, descending=True)).float()
    precision = ordered.cumsum(0) / torch.arange(1, len(scores) + 1)[:, None]
    pictures = ordered.sum(0)
    return float(((precision * ordered).sum(0) / pictures)[pictures > 0].mean())


if __name__ == "__main__":
    main()
