"""Captions of pictures, by a trained model with the CNN that it was trained on."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, Unpack, cast, overload

import numpy as np
from PIL import Image, ImageOps

from pipelines.api.figures import Figure, picture_figure
from pipelines.api.search_arguments import Alternative, SearchArguments, load_models, options_of
from pipelines.errors import UserError
from pipelines.features.columns import joined
from pipelines.features.decode import DecodeError, decode
from pipelines.features.featurizer import Network
from pipelines.features.pixels import to_rgb
from pipelines.features.preprocess import Preprocess
from pipelines.features.sources import rebuild
from pipelines.inference.captioner import Captioner, prepare
from pipelines.inputs.entries import first_of
from pipelines.inputs.fetch import ReadError, read
from pipelines.tracking.models import locate, weights_in
from rnncond.fast.lean import Precision

Picture: TypeAlias = str | Path | bytes | Image.Image
"""A picture's path or uri, its file as bytes, or a picture of Pillow. One of Pillow's is taken at its full size, where
a large JPEG is decoded smaller: its features may differ in the last digits."""


@dataclass(frozen=True)
class Caption:
    """A picture's caption. ``str`` gives its text.

    Attributes:
        text: the best caption, or the best of the samples.
        score: log P / length penalty + coverage penalty; ``log_prob`` is log P alone.
        alternatives: all that were kept, the text itself first, or all samples.
        pieces: with ``attention``, the parts of the text that the words of the vocabulary are.
        attention: with ``attention``, (words, rows, columns) of a grid or (words, regions), float32; each word's
            weights sum to 1, or to less in an ensemble of which not every model attends.
        boxes: of a model that reads regions, with ``attention``: (regions, 4) x1, y1, x2, y2 in pixels.
    """

    text: str
    score: float
    log_prob: float
    alternatives: tuple[Alternative, ...]
    pieces: tuple[str, ...] = ()
    attention: np.ndarray | None = field(default=None, repr=False)
    boxes: np.ndarray | None = field(default=None, repr=False)
    picture: Image.Image | None = field(default=None, repr=False)
    crop: Preprocess | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return self.text

    def figure(self) -> Figure:
        """The picture once for each word, with what the word attended to; Jupyter shows it as it is.

        Raises:
            UserError: the caption was made without ``attention=True``.
        """
        if self.attention is None or self.picture is None:
            raise UserError("This caption has no attention: expected one of caption(..., attention=True).")
        return picture_figure(self.picture, self.pieces, self.attention, self.boxes, self.crop)


class CaptioningModel:
    """A captioner, or an ensemble, behind the CNN of its training. ``load_captioner`` makes one."""

    def __init__(self, captioner: Captioner, network: Network) -> None:
        self._captioner, self._network = captioner, network
        self.system, self.model_id = captioner.system, captioner.model_id
        self.grid = tuple(network.shapes[captioner.features["output"]])[:-1]

    def __repr__(self) -> str:
        return f"CaptioningModel({self.system} {self.model_id})"

    @overload
    def caption(  # type: ignore[overload-overlap]  # a text is a sequence of texts, but never a list of pictures
        self, pictures: Picture, **search: Unpack[SearchArguments]
    ) -> Caption: ...
    @overload
    def caption(self, pictures: Sequence[Picture], **search: Unpack[SearchArguments]) -> list[Caption]: ...
    def caption(
        self, pictures: Picture | Sequence[Picture], **search: Unpack[SearchArguments]
    ) -> Caption | list[Caption]:
        """The caption of a picture, or those of a list of them, in its order.

        Raises:
            UserError: pictures that cannot be read (all are looked at before the first is captioned), a search that
                cannot be, or attention asked of a model that has none.
        """
        if isinstance(pictures, str | Path | bytes | Image.Image):
            return self._caption([pictures], dict(search))[0]
        if not isinstance(pictures, Sequence):
            raise UserError(f"pictures: {expected(pictures)}")
        return self._caption(cast(Sequence[Picture], pictures), dict(search))

    def _caption(self, pictures: Sequence[Picture], asked: dict[str, Any]) -> list[Caption]:
        captioner = self._captioner.with_options(options_of(self._captioner.trained[0], asked))
        if captioner.options.attention or captioner.options.coverage_beta:
            captioner.check(tuple(self._network.shapes[captioner.features["output"]]))
        shown = opened(pictures, self._network.preprocess.needed)
        captions: list[Caption] = []
        for start in range(0, len(shown), self._network.batch):
            captions += self._batch(captioner, shown[start : start + self._network.batch])
        return captions

    def _batch(self, captioner: Captioner, pictures: list[Image.Image]) -> list[Caption]:
        outputs = self._network([self._network.preprocess(picture) for picture in pictures])
        boxes = None
        if captioner.reads_regions:
            boxes = [
                cast(np.ndarray, one) * np.array(picture.size * 2, np.float32)
                for one, picture in zip(outputs["boxes"], pictures, strict=True)
            ]
        rows = captioner(joined([outputs[captioner.features["output"]]]), boxes)
        return [self._caption_of(row, picture) for row, picture in zip(rows, pictures, strict=True)]

    def _caption_of(self, row: dict[str, Any] | None, picture: Image.Image) -> Caption:
        if row is None:
            raise UserError("The search found no caption: its rules (max_length, blocked words) leave nothing to say.")
        alternatives = tuple(Alternative(other["caption"], other["score"]) for other in row["nbest"])
        seen: dict[str, Any] = {}
        if "attention" in row:
            boxes = np.array(row["boxes"], np.float32) if "boxes" in row else None
            places = self.grid if boxes is None else (len(boxes),)
            preprocess = self._network.preprocess
            seen = {
                "pieces": tuple(row["pieces"]),
                "attention": np.array(row["attention"], np.float32).reshape(len(row["pieces"]), *places),
                "boxes": boxes,
                "picture": picture,
                "crop": preprocess if isinstance(preprocess, Preprocess) else None,
            }
        return Caption(row["caption"], row["score"], row["log_prob"], alternatives, **seen)


def load_captioner(
    model: str | Path,
    *ensemble: str | Path,
    weights: str | Path | None = None,
    tracking_uri: str | None = None,
    device: str | None = None,
    precision: Precision = "float32",
) -> CaptioningModel:
    """A trained captioner.

    Args:
        model: a run's folder, a model's folder, ``runs:/RUN_ID`` or ``models:/NAME@ALIAS``.
        ensemble: further models of the same vocabulary and features.
        weights: those of the CNN: a file, ``pretrained`` or ``random``; by default those that came with the model.
        tracking_uri: of MLflow; by default MLFLOW_TRACKING_URI, or the database here.
        device: such as ``cpu`` or ``cuda:1``; by default a GPU where there is one.
        precision: in which the models multiply.

    Raises:
        UserError, ModelError: there is no such model, it reads text, or these are not the weights that its features
            were computed with.
    """
    names = [str(model), *map(str, ensemble)]
    folder = locate(model, tracking_uri)
    trained = load_models([folder, *ensemble], tracking_uri, device)
    captioner = prepare(trained, names, precision)
    network = rebuild(captioner.features, str(weights) if weights is not None else weights_in(folder))
    return CaptioningModel(captioner, network.to(str(captioner.device)))


def opened(pictures: Sequence[Picture], needed: int) -> list[Image.Image]:
    """The pictures as RGB and upright.

    Raises:
        UserError: some cannot be read; the message names them.
    """
    images, problems = [], []
    for place, picture in enumerate(pictures):
        try:
            images.append(open_one(picture, needed))
        except (ReadError, DecodeError) as error:
            name = str(picture) if isinstance(picture, str | Path) else f"picture {place}"
            problems.append(f"{name}: {error}")
    if problems:
        raise UserError(f"{len(problems):,} of {len(pictures):,} pictures cannot be captioned:{first_of(problems)}")
    return images


def open_one(picture: Picture, needed: int) -> Image.Image:
    """
    Raises:
        ReadError, DecodeError: why it cannot be read.
    """
    if isinstance(picture, Image.Image):
        try:
            return to_rgb(ImageOps.exif_transpose(picture))
        except (OSError, SyntaxError, ValueError) as error:  # of a file that Pillow has not read to its end yet
            raise DecodeError(f"broken picture: {error}") from None
    if isinstance(picture, bytes | bytearray | memoryview | io.BytesIO):
        return decode(picture.getvalue() if isinstance(picture, io.BytesIO) else bytes(picture), needed).image
    if isinstance(picture, str | Path):
        return decode(read(os.path.expanduser(picture))[1], needed).image
    raise ReadError(expected(picture))


def expected(value: object) -> str:
    return f"expected a path, bytes, a picture of Pillow or a list of these, got {type(value).__name__}"
