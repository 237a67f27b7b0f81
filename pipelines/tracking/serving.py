"""A trained model behind MLflow's pyfunc: a table in, captions or translations out.

A captioner reads the column ``image`` (a picture's bytes; base64 over JSON) or ``uri`` (a path or an address, which the
server reads), all rows of a request the same one; a translator the column ``text``. Either answers with a row for each
of the input's: ``caption`` or ``translation``, its ``score``, and ``error``, the reason where there is none. ``PARAMS``
may change from call to call.

``pipelines.tracking.packaging`` makes such models; ``served_model.py`` is what MLflow runs to load one.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from mlflow.pyfunc import PythonModel, PythonModelContext

from pipelines.errors import UserError
from pipelines.features import decode
from pipelines.features.columns import joined
from pipelines.features.fetch import ReadError, read
from pipelines.features.sources import BATCH, rebuild
from pipelines.inference.captioner import Captioner
from pipelines.inference.decoder import search_options
from pipelines.inference.translator import Translator, prepare
from pipelines.tracking.models import weights_in
from rnncond import checkpoint
from rnncond.checkpoint import Trained
from rnncond.search import SearchOptions

PARAMS = {
    "beam": "long", "max_length": "long", "min_length": "long", "length_penalty": "string", "no_repeat_ngram": "long",
}  # fmt: skip
"""Fields of ``SearchOptions`` that a caller may set, and MLflow's types of them."""
BEAM = 5
"""Hypotheses followed at once unless the caller says, as in `rnncond caption` and `rnncond translate`."""
Answer = dict[str, Any]


class Served(PythonModel):
    """Artifacts: ``model``, the folder of ``rnncond.checkpoint``, and for a captioner ``backbone``, a folder with the
    weights of its CNN, unless they can be found by name."""

    def load_context(self, context: PythonModelContext) -> None:
        folder = Path(context.artifacts["model"])
        trained = checkpoint.load(folder, device())
        self.answers = Captions(trained, weights_in(folder)) if trained.features else Translations(trained)

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: Mapping[str, Any] | None = None
    ) -> pd.DataFrame:
        rows = self.answers(model_input, dict(params or {}))
        # As objects: pandas would make NaN of a None, which is no JSON.
        columns = {name: [row.get(name) for row in rows] for name in (self.answers.said, "score", "error")}
        return pd.DataFrame(columns, index=model_input.index, dtype=object)


class Captions:
    """Pictures to captions, as `rnncond caption` does it.

    Args:
        weights: a file with those of the backbone; None where they can be found by its name.

    Raises:
        UserError: these are not the weights that the model's features were computed with.
    """

    said = "caption"

    def __init__(self, trained: Trained, weights: str | None) -> None:
        self.network = rebuild(trained.features, weights).to(device())
        self.output = trained.features["output"]
        self.captioner = Captioner([trained], options_of(trained, {})).to(device())

    def __call__(self, table: pd.DataFrame, params: Mapping[str, Any]) -> list[Answer]:
        captioner = copy.copy(self.captioner)
        captioner.options = options_of(captioner.trained[0], params)
        answers: list[Answer] = []
        for start in range(0, len(table), BATCH):
            answers += self.describe(captioner, table.iloc[start : start + BATCH])
        return answers

    def describe(self, captioner: Captioner, table: pd.DataFrame) -> list[Answer]:
        answers, pixels = [], {}
        for place, data in enumerate(contents(table)):
            answers.append({"error": data} if isinstance(data, str) else {})
            if isinstance(data, bytes):
                try:
                    preprocess = self.network.preprocess
                    pixels[place] = preprocess(decode.decode(data, preprocess.needed).image)
                except decode.DecodeError as error:
                    answers[place] = {"error": str(error)}
        for place, row in zip(pixels, self.rows(captioner, list(pixels.values())), strict=True):
            answers[place] = row or {"error": "the search found no caption: its rules leave nothing to say"}
        return answers

    def rows(self, captioner: Captioner, pixels: Sequence[Any]) -> list[Answer | None]:
        if not pixels:
            return []
        size = self.network.batch
        batches = [pixels[start : start + size] for start in range(0, len(pixels), size)]
        return captioner(joined([self.network(batch)[self.output] for batch in batches]))


def contents(table: pd.DataFrame) -> list[bytes | str]:
    """Of each row the picture's bytes, or the reason why there are none."""
    found: list[bytes | str] = []
    columns = [table[name] if name in table else [None] * len(table) for name in ("image", "uri")]
    for data, uri in zip(*columns, strict=True):
        if isinstance(data, bytes | bytearray):
            found.append(bytes(data))
        elif isinstance(uri, str):
            try:
                found.append(read(uri)[1])
            except ReadError as error:
                found.append(str(error))
        else:
            found.append("no picture: expected its bytes in the column `image`, or its path or address in `uri`")
    return found


class Translations:
    """Sentences to translations, as `rnncond translate` does it."""

    said = "translation"

    def __init__(self, trained: Trained) -> None:
        self.translator = prepare([trained], ["model"], beam=BEAM)

    def __call__(self, table: pd.DataFrame, params: Mapping[str, Any]) -> list[Answer]:
        translator: Translator = copy.copy(self.translator)
        translator.options = options_of(translator.trained[0], params)
        texts = [text if isinstance(text, str) else "" for text in table["text"]]
        return [{"error": said} if isinstance(said, str) else said for said in translator(texts)]


def options_of(trained: Trained, params: Mapping[str, Any]) -> SearchOptions:
    """The search of the model's recipe, with what the caller asks otherwise."""
    if unknown := sorted(params.keys() - PARAMS.keys()):
        raise UserError(f"params: there is no {', '.join(unknown)}; there are {', '.join(PARAMS)}.")
    return search_options(trained, **{"beam": BEAM} | dict(params))


def device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
