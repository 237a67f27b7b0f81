"""A trained model behind MLflow's pyfunc: a table in, captions or translations out.

A captioner reads the column ``image`` (a picture's bytes; base64 over JSON) or, where the model's owner allowed
addresses when it was logged, ``uri``; a translator the column ``text``. Either answers with a row for each of the
input's: ``caption`` or ``translation``, its ``score``, and ``error``, the reason where there is none. ``PARAMS`` may
change from call to call.

``pipelines.tracking.packaging`` makes such models; ``served_model.py`` is what MLflow runs to load one.
"""

from __future__ import annotations

import base64
import binascii
import logging
import numbers
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, get_args

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel, PythonModelContext

from pipelines.errors import UserError
from pipelines.features import decode
from pipelines.features.columns import joined
from pipelines.features.sources import BATCH, rebuild
from pipelines.inference.captioner import Captioner
from pipelines.inference.decoder import BEAM, default_device, search_options, with_beam
from pipelines.inference.translator import prepare
from pipelines.inputs.fetch import ReadError
from pipelines.tracking.allowed_uris import AllowedUris
from pipelines.tracking.models import weights_in
from rnncond import checkpoint
from rnncond.checkpoint import Trained
from rnncond.fast.lean import Precision
from rnncond.search import SearchOptions

PARAMS = {
    "beam": "long", "max_length": "long", "min_length": "long", "length_penalty": "string", "no_repeat_ngram": "long",
}  # fmt: skip
"""Fields of ``SearchOptions`` that a caller may set, and MLflow's types of them."""


class Answer(TypedDict, total=False):
    """A row of the answer: ``caption`` or ``translation`` with its ``score``, or ``error``."""

    caption: str
    translation: str
    score: float
    error: str


class Served(PythonModel):
    """Artifacts: ``model``, the folder of ``rnncond.checkpoint``, and for a captioner ``backbone``, a folder with the
    weights of its CNN, unless they can be found by name. The model config has ``allowed_uris`` and
    ``precision``, in which the models multiply, as in
    ``load_model(uri, model_config={"precision": "int8"})``."""

    model: ServedCaptioner | ServedTranslator

    def load_context(self, context: PythonModelContext) -> None:
        folder, config = Path(context.artifacts["model"]), context.model_config or {}
        precision = config.get("precision", "float32")
        if precision not in get_args(Precision):
            asked = f"The model config has precision {precision!r}; expected one of {', '.join(get_args(Precision))}."
            raise MlflowException(asked, INVALID_PARAMETER_VALUE)
        refuse_unknown_params()
        trained = checkpoint.load(folder, default_device())
        if trained.features:
            allowed = AllowedUris(config.get("allowed_uris", ()))
            self.model = ServedCaptioner(trained, weights_in(folder), allowed, precision)
        else:
            self.model = ServedTranslator(trained, precision)

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: Mapping[str, Any] | None = None
    ) -> pd.DataFrame:
        try:
            table = rows_of(model_input, self.model.columns)
            rows = self.model(table, dict(params or {}))
        except UserError as error:  # as MLflow's own, which its server answers with the message and without a traceback
            raise MlflowException(str(error), INVALID_PARAMETER_VALUE) from None
        # As objects: pandas would make NaN of a None, which is no JSON.
        columns = {name: [row.get(name) for row in rows] for name in (self.model.answer, "score", "error")}
        return pd.DataFrame(columns, index=table.index, dtype=object)


def refuse_unknown_params() -> None:
    """Have MLflow refuse parameters that there are not. It drops them before ``predict``, and warns in the server's
    log, which nobody sees who asks: the warning becomes the error."""
    logger = logging.getLogger("mlflow.models.utils")
    if refuse_if_unknown not in logger.filters:
        logger.addFilter(refuse_if_unknown)


def refuse_if_unknown(record: logging.LogRecord) -> bool:
    """Raises MlflowException in place of MLflow's warning about parameters that a model like these does not take."""
    told = record.getMessage()
    if told.startswith("Unrecognized params") and all(f"'{name}'" in told for name in PARAMS):
        unknown = re.findall(r"'([^']*)'", told.partition(" are ignored")[0])
        raise MlflowException(no_such_params(unknown), INVALID_PARAMETER_VALUE)
    return True


def no_such_params(unknown: Iterable[str]) -> str:
    return f"params: there is no {', '.join(sorted(unknown))}; there are {', '.join(PARAMS)}."


def rows_of(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """A request's rows. Of ``{"inputs": ["a", "b"]}`` MLflow makes one row with a list, which is taken apart.

    Raises:
        UserError: the table has none of ``columns``. MLflow has dropped all others, and with the last of them the rows,
            so that there is nothing to answer row by row.
    """
    given = [name for name in columns if name in table]
    if not given:
        raise UserError(
            f"The request has no rows, or none of its columns is known: expected {' or '.join(map(repr, columns))} in "
            'every row, as in {"dataframe_records": [{"' + columns[0] + '": ...}, ...]}.'
        )
    if len(table) == 1 and all(isinstance(table[name].iloc[0], list) for name in given):
        lists = {name: table[name].iloc[0] for name in given}
        if len({len(cells) for cells in lists.values()}) == 1:
            return pd.DataFrame({name: pd.Series(cells, dtype=object) for name, cells in lists.items()})
    return table


def cells_of(table: pd.DataFrame, name: str) -> list[Any]:
    """The cells of a column, None where there is none or a null."""
    if name not in table:
        return [None] * len(table)
    return [None if pd.api.types.is_scalar(cell) and pd.isna(cell) else cell for cell in table[name]]


def kind_of(cell: Any) -> str:
    """What a cell is, in JSON's words."""
    if isinstance(cell, bool):
        return "true or false"
    kinds = {"a number": numbers.Number, "a text": str, "bytes": bytes, "a list": Sequence, "an object": Mapping}
    return next((name for name, kind in kinds.items() if isinstance(cell, kind)), type(cell).__name__)


class ServedCaptioner:
    """Captions pictures as `rnncond caption` does.

    Args:
        weights: a file with those of the backbone; None where they can be found by its name.
        allowed: the addresses that a row's ``uri`` may be.

    Raises:
        UserError: these are not the weights that the model's features were computed with.
    """

    columns, answer = ("image", "uri"), "caption"

    def __init__(
        self,
        trained: Trained,
        weights: str | None,
        allowed: AllowedUris | None = None,
        precision: Precision = "float32",
    ) -> None:
        assert trained.features is not None, "a translator reads no pictures"
        self.network = rebuild(trained.features, weights).to(default_device())
        self.output = trained.features["output"]
        self.captioner = Captioner([trained], options_of(trained, {}), precision).to(default_device())
        self.allowed = allowed or AllowedUris()

    def __call__(self, table: pd.DataFrame, params: Mapping[str, Any]) -> list[Answer]:
        captioner = self.captioner.with_options(options_of(self.captioner.trained[0], params))
        answers: list[Answer] = []
        for start in range(0, len(table), BATCH):
            answers += self.caption(captioner, table.iloc[start : start + BATCH])
        return answers

    def caption(self, captioner: Captioner, table: pd.DataFrame) -> list[Answer]:
        answers: list[Answer] = [{} for _ in range(len(table))]
        pixels = {}
        for place, (image, uri) in enumerate(zip(cells_of(table, "image"), cells_of(table, "uri"), strict=True)):
            try:
                preprocess = self.network.preprocess
                data = picture_of(image, uri, self.allowed)
                pixels[place] = preprocess(decode.decode(data, preprocess.needed).image)
            except (ReadError, decode.DecodeError) as error:
                answers[place] = {"error": str(error)}
            except Exception as error:  # the other rows are not to blame; a message of others may show what was read
                answers[place] = {"error": f"the picture cannot be read: {type(error).__name__}"}
        for place, row in zip(pixels, self.rows(captioner, list(pixels.values())), strict=True):
            answers[place] = (
                Answer(caption=row["caption"], score=row["score"])
                if row
                else {"error": "the search found no caption: its rules leave nothing to say"}
            )
        return answers

    def rows(self, captioner: Captioner, pixels: Sequence[Any]) -> list[Any]:
        if not pixels:
            return []
        size = self.network.batch
        batches = [pixels[start : start + size] for start in range(0, len(pixels), size)]
        return captioner(joined([self.network(batch)[self.output] for batch in batches]))


def picture_of(image: Any, uri: Any, allowed: AllowedUris) -> bytes:
    """The bytes of a row's picture.

    Raises:
        ReadError: there is none, or it cannot be read.
    """
    if image is not None and uri is not None:
        raise ReadError("both `image` and `uri`: expected one of them in a row")
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    if isinstance(image, str):
        try:
            return base64.b64decode("".join(image.split()), validate=True)
        except (binascii.Error, ValueError):
            raise ReadError("`image` is no base64: expected a picture's bytes, over JSON as base64") from None
    if image is not None:
        raise ReadError(f"`image` is {kind_of(image)}: expected a picture's bytes, over JSON as base64")
    if isinstance(uri, str):
        return allowed.read(uri)
    if uri is not None:
        raise ReadError(f"`uri` is {kind_of(uri)}: expected an address")
    raise ReadError("no picture: expected its bytes in the column `image`")


class ServedTranslator:
    """Translates sentences as `rnncond translate` does."""

    columns, answer = ("text",), "translation"

    def __init__(self, trained: Trained, precision: Precision = "float32") -> None:
        self.translator = prepare([trained], ["model"], precision=precision, beam=BEAM)

    def __call__(self, table: pd.DataFrame, params: Mapping[str, Any]) -> list[Answer]:
        translator = self.translator.with_options(options_of(self.translator.trained[0], params))
        texts = cells_of(table, "text")
        answers: list[Answer] = [{"error": problem} if (problem := problem_of(text)) else {} for text in texts]
        places = [place for place, answer in enumerate(answers) if not answer]
        for place, row in zip(places, translator([texts[place] for place in places]), strict=True):
            if isinstance(row, str):
                answers[place] = {"error": row}
            else:
                answers[place] = {"translation": row["translation"], "score": row["score"]}
        return answers


def problem_of(text: Any) -> str | None:
    """Why a cell is no sentence."""
    if text is None:
        return "no text: expected a string in the column `text`"
    if not isinstance(text, str):
        return f"`text` is {kind_of(text)}: expected a string"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "`text` has half of a surrogate pair, which is no character"
    return None


def options_of(trained: Trained, params: Mapping[str, Any]) -> SearchOptions:
    """The search of the model's recipe, with what the caller asks otherwise."""
    if unknown := params.keys() - PARAMS.keys():
        raise UserError(no_such_params(unknown))
    return search_options(trained, **with_beam(params))
