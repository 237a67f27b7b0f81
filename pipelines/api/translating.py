"""Translations of sentences by a trained model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Unpack, overload

import numpy as np

from pipelines.api.figures import Figure, matrix_figure
from pipelines.api.search_arguments import Alternative, SearchArguments, load_models, options_of
from pipelines.config.choices import TooLong
from pipelines.errors import UserError
from pipelines.inference.translator import Translator, prepare


@dataclass(frozen=True)
class Translation:
    """A sentence's translation. ``str`` gives its text.

    Attributes:
        text: the best translation, or the best of the samples; "" of a sentence without words.
        score: log P / length penalty + coverage penalty; ``log_prob`` is log P alone.
        alternatives: all that were kept, the text itself first, or all samples.
        cut: whether the sentence was longer than what is read of one.
        pieces, source_pieces: with ``attention``, the parts that the words of the vocabularies are, the source's end
            included.
        attention: with ``attention``, (pieces, source pieces), float32; each row sums to 1.
    """

    text: str
    score: float
    log_prob: float
    alternatives: tuple[Alternative, ...]
    cut: bool = False
    pieces: tuple[str, ...] = ()
    source_pieces: tuple[str, ...] = ()
    attention: np.ndarray | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return self.text

    def figure(self) -> Figure:
        """The attention as shaded cells, the translation down and the source across; Jupyter shows it as it is.

        Raises:
            UserError: the translation was made without ``attention=True``, or has no word.
        """
        if self.attention is None or not self.pieces:
            raise UserError("This translation has no attention: expected one of translate(..., attention=True).")
        return matrix_figure(self.pieces, self.source_pieces, self.attention)


class TranslationModel:
    """A translator, or an ensemble. ``load_translator`` makes one."""

    def __init__(self, translator: Translator) -> None:
        self._translator = translator
        self.system, self.model_id = translator.system, translator.model_id

    def __repr__(self) -> str:
        return f"TranslationModel({self.system} {self.model_id})"

    @overload
    def translate(  # type: ignore[overload-overlap]  # a text is a sequence of texts, but never a list of sentences
        self, sentences: str, **search: Unpack[SearchArguments]
    ) -> Translation: ...
    @overload
    def translate(self, sentences: Sequence[str], **search: Unpack[SearchArguments]) -> list[Translation]: ...
    def translate(
        self, sentences: str | Sequence[str], **search: Unpack[SearchArguments]
    ) -> Translation | list[Translation]:
        """The translation of a sentence, or those of a list of them, in its order.

        Raises:
            UserError: something that is no sentence, a search that cannot be, or attention asked of a model that has
                none.
        """
        if isinstance(sentences, str):
            return self._translate([sentences], dict(search))[0]
        return self._translate(sentences, dict(search))

    def _translate(self, sentences: Sequence[str], asked: dict[str, Any]) -> list[Translation]:
        for place, sentence in enumerate(sentences):
            if not isinstance(sentence, str):
                raise UserError(f"sentence {place}: expected a text, got {type(sentence).__name__}.")
        translator = self._translator.with_options(options_of(self._translator.trained[0], asked))
        translator.check()
        return [translation_of(row, place) for place, row in enumerate(translator(list(sentences)))]


def translation_of(row: dict[str, Any] | str, place: int) -> Translation:
    """
    Raises:
        UserError: there is none; ``row`` says why.
    """
    if isinstance(row, str):
        raise UserError(f"sentence {place}: {row}.")
    alternatives = tuple(Alternative(other["translation"], other["score"]) for other in row["nbest"])
    seen: dict[str, Any] = {}
    if "attention" in row:
        shape = (len(row["pieces"]), len(row["source_pieces"]))
        seen = {
            "pieces": tuple(row["pieces"]),
            "source_pieces": tuple(row["source_pieces"]),
            "attention": np.array(row["attention"], np.float32).reshape(shape),
        }
    return Translation(row["translation"], row["score"], row["log_prob"], alternatives, row["cut"], **seen)


def load_translator(
    model: str | Path,
    *ensemble: str | Path,
    max_source_length: int | None = None,
    too_long: TooLong = "cut",
    unk_replace: bool = False,
    tracking_uri: str | None = None,
    device: str | None = None,
) -> TranslationModel:
    """A trained translator.

    Args:
        model: a run's folder, a model's folder, ``runs:/RUN_ID`` or ``models:/NAME@ALIAS``.
        ensemble: further models of the same vocabularies.
        max_source_length: tokens read of a sentence; by default as in the model's recipe.
        too_long: "cut" longer sentences, or "refuse" them.
        unk_replace: put the source word with the largest attention in place of UNK.
        tracking_uri: of MLflow; by default MLFLOW_TRACKING_URI, or the database here.
        device: such as ``cpu`` or ``cuda:1``; by default a GPU where there is one.

    Raises:
        UserError, ModelError: there is no such model, or it describes pictures.
    """
    names = [str(model), *map(str, ensemble)]
    trained = load_models([model, *ensemble], tracking_uri, device)
    return TranslationModel(prepare(trained, names, max_source_length, too_long, unk_replace))
