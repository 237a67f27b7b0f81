"""Features in, captions out: ``Captioner``, a model (or an ensemble) with a search."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from pipelines.engine.memory import MemoryBackoff
from pipelines.errors import UserError
from pipelines.features.columns import Values, source_of
from pipelines.features.detectors import Regions
from pipelines.features.sources import Boxes
from pipelines.inference.decoder import (
    Decoder,
    pieces,
    refuse_other_vocabularies,
    refuse_without_attention,
    search_options,
)
from rnncond.checkpoint import Trained
from rnncond.fast.lean import Precision
from rnncond.search import Hypotheses, SearchOptions


class Captioner(Decoder):
    """The models read the same features. ``prepare`` makes one as the user asked for it."""

    def __init__(self, trained: Sequence[Trained], options: SearchOptions, precision: Precision = "float32") -> None:
        super().__init__(trained, options, precision)
        features = trained[0].features
        assert features is not None, "prepare refuses models that read text"
        self.halving, self.features = MemoryBackoff(), features
        self.reads_regions = self.features["output"] == "regions"

    def row_bytes(self, shape: tuple[int, ...]) -> int:
        """About what an image adds to the store."""
        places = Regions.most if self.reads_regions else prod(shape[:-1])
        return 200 * (1 + self.options.nbest) + self.options.attention * 2 * self.options.max_length * places

    def check(self, shape: tuple[int, ...]) -> None:
        """Refuse what every image would fail at; ``shape`` is that of one image's features, or of one region's."""
        nothing = np.zeros((1, *shape), np.float16)
        asking = dataclasses.replace(self.options, attention=True, coverage_beta=0.0)
        attention = self.search([nothing] if self.reads_regions else nothing, asking).attention
        asked = {"--attention": self.options.attention, "--coverage-penalty": bool(self.options.coverage_beta)}
        if attention is None:
            refuse_without_attention(self.trained, asked)

    def __call__(self, values: Values, boxes: Boxes = None) -> list[dict[str, Any] | None]:
        """The columns from ``caption`` on for each image of ``values``; None where there is nothing to say."""
        rows = [
            self.row(hypotheses, b, len(some[b]) if self.reads_regions else None) if hypotheses.lengths[b, 0] else None
            for some, hypotheses in self.halving(self.search, values)
            for b in range(len(some))
        ]
        if boxes is not None and self.options.attention:
            rows = [row and row | {"boxes": own.tolist()} for row, own in zip(rows, boxes, strict=True)]
        return rows

    def search(self, values: Values, options: SearchOptions | None = None) -> Hypotheses:
        """Hypotheses for each image, on the CPU."""
        return self.decode(source_of(values).to(self.device), options or self.options)

    def row(self, hypotheses: Hypotheses, b: int, places: int | None = None) -> dict[str, Any]:
        """The columns of image ``b``, with its attention over the first ``places``, which are not padding."""
        captions = [self.vocabulary.decode(tokens) for tokens in hypotheses.tokens[b].tolist()]
        nbest = [
            {"caption": caption, "score": score}
            for caption, score, length in zip(
                captions, hypotheses.scores[b].tolist(), hypotheses.lengths[b].tolist(), strict=True
            )
            if length
        ]
        row: dict[str, Any] = {
            "score": hypotheses.scores[b, 0].item(),
            "log_prob": hypotheses.log_probs[b, 0].item(),
            "nbest": nbest,
        }
        row |= {"caption": captions[0], "model": self.model_id}
        if hypotheses.attention is not None:
            words = hypotheses.tokens[b, 0, : hypotheses.lengths[b, 0] - 1]  # all but EOS
            row["pieces"] = pieces(self.vocabulary, words.tolist())
            row["attention"] = list(hypotheses.attention[b, 0, : len(words), :places].half().numpy())
        return row


def prepare(
    trained: Sequence[Trained], names: Sequence[str], precision: Precision = "float32", **asked: Any
) -> Captioner:
    """A Captioner as the user asked for it.

    Args:
        names: what the user called each model.
        precision: in which the models multiply.
        asked: fields of ``SearchOptions``; the first model's recipe has the others.

    Raises:
        UserError: a model that reads text, models of different vocabularies or features, or a search that cannot be.
    """
    for one, name in zip(trained, names, strict=True):
        if one.features is None:
            raise UserError(
                f"The model {name} is of the system {one.system}, which reads text; only one that describes pictures "
                "can caption."
            )
    refuse_other_vocabularies(trained, names, "vocabulary")
    for one, name in zip(trained[1:], names[1:], strict=True):
        mine, first = describe_features(one), describe_features(trained[0])
        if mine != first:
            raise UserError(
                f"An ensemble reads the same features: {name} was trained on {mine}, {names[0]} on {first}. Train the "
                "models on one set of features and the same data.output."
            )
    return Captioner(trained, search_options(trained[0], **asked), precision)


def describe_features(trained: Trained) -> str:
    return f"{trained.features['output']} of {trained.features['fingerprint']}" if trained.features else "none"
