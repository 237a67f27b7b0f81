"""Requests to a served model: a row in is a row out, with ``error`` where nothing was done."""

from __future__ import annotations

import base64
import io
import json
import shutil

import mlflow
import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import timm
from fastapi.testclient import TestClient
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.scoring_server import init
from PIL import Image

from pipelines.api import load_translator
from pipelines.errors import UserError
from pipelines.features import backbones
from pipelines.tracking.allowed_uris import AllowedUris
from pipelines.tracking.packaging import saved
from pipelines.tracking.serving import ServedCaptioner, ServedTranslator
from rnncond import checkpoint
from tests.worlds.captioner import BACKBONE, model_reading, weights_file
from tests.worlds.translator import PAIRS, make_translator

SENTENCE = next(iter(PAIRS))


def picture() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (40, 40, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


BASE64 = base64.b64encode(picture()).decode()


def server_of(folder, trained, place):
    """A client of MLflow's own scoring server."""
    with saved(folder, trained, None) as files:
        shutil.copytree(files, place)
    return TestClient(init(mlflow.pyfunc.load_model(str(place))), raise_server_exceptions=False)


@pytest.fixture(scope="module")
def captioner(tmp_path_factory):
    folder = tmp_path_factory.mktemp("captioner")
    trained = model_reading(folder / "best", "show_tell", "pooled", backbones.load(BACKBONE, "random").recipe)
    return server_of(folder / "best", trained, folder / "served")


@pytest.fixture(scope="module")
def translator(tmp_path_factory):
    folder = tmp_path_factory.mktemp("translator")
    trained = make_translator(folder / "best")
    return server_of(folder / "best", trained, folder / "served")


def post(server, body):
    return server.post("/invocations", content=json.dumps(body), headers={"Content-Type": "application/json"})


def ask(server, body) -> list[dict]:
    response = post(server, body)
    assert response.status_code == 200, response.text
    return response.json()["predictions"]


def refused(server, body) -> str:
    response = post(server, body)
    assert response.status_code == 400 and "stack_trace" not in response.json(), response.text
    return response.json()["message"]


@pytest.mark.parametrize("row", [{"img": BASE64}, {"Image": BASE64}, {}, {"text": "a dog"}], ids=str)
def test_a_row_of_no_known_column_is_refused_by_name(captioner, row):
    assert "expected 'image' or 'uri'" in refused(captioner, {"dataframe_records": [row]})


@pytest.mark.parametrize("body", [{"dataframe_records": []}, {"dataframe_records": [{"Text": "a"}]}, {"inputs": []}])
def test_a_translator_says_what_it_expects(translator, body):
    if body == {"inputs": []}:
        assert ask(translator, body) == []
    else:
        assert "expected 'text'" in refused(translator, body)


def test_a_table_with_the_column_and_no_rows(translator, captioner):
    assert ask(translator, {"dataframe_split": {"columns": ["text"], "data": []}}) == []
    assert ask(captioner, {"dataframe_split": {"columns": ["image", "uri"], "data": []}}) == []


WRONG = {
    "null": ({"image": None}, "no picture: expected its bytes in the column `image`"),
    "number": ({"image": 2024}, "`image` is a number"),
    "true": ({"image": True}, "`image` is true or false"),
    "list": ({"image": [1, 2]}, "`image` is a list"),
    "object": ({"image": {"bytes": "AAAA"}}, "`image` is an object"),
    "no base64": ({"image": "photo.jpg"}, "`image` is no base64"),
    "data uri": ({"image": f"data:image/png;base64,{BASE64}"}, "`image` is no base64"),
    "empty": ({"image": ""}, "the file is empty"),
    "no picture": ({"image": "AAAA"}, "not a picture"),
    "misspelt": ({"img": BASE64}, "no picture: expected its bytes in the column `image`"),
    "uri": ({"uri": "/etc/passwd"}, "`uri` is off in this model"),
    "uri number": ({"uri": 5}, "`uri` is a number"),
    "both": ({"image": BASE64, "uri": "https://host/x"}, "both `image` and `uri`"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_row_has_its_error_and_the_others_their_captions(captioner, kind):
    row, reason = WRONG[kind]
    good = {"image": BASE64}
    answers = ask(captioner, {"dataframe_records": [good, row, good]})
    assert [answer["error"] is None for answer in answers] == [True, False, True]
    assert reason in answers[1]["error"] and answers[1]["caption"] is answers[1]["score"] is None
    assert answers[0] == answers[2] and answers[0]["score"] < 0


def test_rows_wrapped_as_base64_writes_lines(captioner):
    wrapped = base64.encodebytes(picture()).decode()
    assert "\n" in wrapped and ask(captioner, {"dataframe_records": [{"image": wrapped}]})[0]["error"] is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (2024, "`text` is a number"),
        (None, "no text"),
        (True, "`text` is true or false"),
        ({"text": "a"}, "`text` is an object"),
    ],
)
def test_a_text_that_is_none(translator, text, reason):
    rows = [{"text": SENTENCE}, {"text": text}, {"text": ""}]
    first, second, empty = ask(translator, {"dataframe_records": rows})
    assert first["translation"] and first["error"] is None
    assert second["translation"] is None and reason in second["error"]
    assert (empty["translation"], empty["error"]) == ("", None)
    alone = ask(translator, {"dataframe_records": rows[1:2]})
    assert alone == [second] or "number" in alone[0]["error"]


@pytest.mark.parametrize(
    "body",
    [
        {"inputs": [SENTENCE, "two birds fly"]},
        {"instances": [SENTENCE, "two birds fly"]},
        {"inputs": {"text": [SENTENCE, "two birds fly"]}},
        {"inputs": [{"text": SENTENCE}, {"text": "two birds fly"}]},
        {"instances": [{"text": SENTENCE}, {"text": "two birds fly"}]},
        {"dataframe_split": {"columns": ["text"], "data": [[SENTENCE], ["two birds fly"]]}},
    ],
    ids=["inputs", "instances", "columns", "inputs of rows", "instances of rows", "split"],
)
def test_every_form_that_mlflow_takes(translator, body):
    expected = ask(translator, {"dataframe_records": [{"text": SENTENCE}, {"text": "two birds fly"}]})
    assert ask(translator, body) == expected and expected[0] != expected[1]


@pytest.mark.parametrize("body", [{"inputs": [SENTENCE, None]}, {"inputs": [{"text": SENTENCE}, {"text": None}]}])
def test_a_null_is_no_word(translator, body):
    good, null = ask(translator, body)
    assert good["translation"] and null["translation"] is None and "no text" in null["error"]


@pytest.mark.parametrize("body", [["a dog"], "a dog", {"text": "a dog"}, {"dataframe_records": ["a dog"]}])
def test_a_body_that_is_no_table_is_refused(translator, body):
    assert refused(translator, body)


def test_params_that_there_are_not_and_that_cannot_be(translator):
    rows = [{"text": SENTENCE}]
    assert "beam" in refused(translator, {"dataframe_records": rows, "params": {"beam": 0}})
    told = refused(translator, {"dataframe_records": rows, "params": {"bean": 3}})
    assert "there is no bean; there are beam, max_length" in told
    with pytest.raises(UserError, match="there is no temperature"):
        ServedTranslator(make_translator(None))(pd.DataFrame(rows), {"temperature": 1.0})


def test_a_translator_says_what_its_model_says():
    trained = make_translator(None)
    served = ServedTranslator(trained)
    answers = served(pd.DataFrame({"text": list(PAIRS)}), {})
    assert [row["translation"] for row in answers] == [row["translation"] for row in served.translator(list(PAIRS))]
    (broken,) = served(
        pd.DataFrame({"text": ["\ud800"]}, dtype=object), {}
    )  # MLflow's server refuses the whole request
    assert "surrogate" in broken["error"]
    short = served(pd.DataFrame({"text": list(PAIRS)}), {"beam": 1, "max_length": 3})
    assert all(len(row["translation"].split()) <= 3 for row in short)


def test_an_allowed_address_gives_what_its_bytes_give(tmp_path, monkeypatch):
    trained = model_reading(tmp_path / "best", "show_tell", "pooled", backbones.load(BACKBONE, "random").recipe)
    monkeypatch.setattr(AllowedUris, "read_http", lambda self, uri: picture())
    served = ServedCaptioner(trained, None, AllowedUris(("https://host/",)))
    table = pd.DataFrame(
        {"image": [picture(), None, None], "uri": [None, "https://host/1.png", "https://host.org/1.png"]}
    )
    by_bytes, by_uri, other = served(table, {})
    assert by_bytes["caption"] == by_uri["caption"] and by_bytes["score"] == by_uri["score"]
    assert "not below any address" in other["error"]


def test_a_decoder_that_raises_ends_its_row_alone(tmp_path, monkeypatch):
    trained = model_reading(tmp_path / "best", "show_tell", "pooled", backbones.load(BACKBONE, "random").recipe)
    served = ServedCaptioner(trained, None)
    real = served.network.preprocess.__class__.__call__

    def broken(self, image):
        if image.size == (9, 9):
            raise IndexError("root:x:0:0")
        return real(self, image)

    monkeypatch.setattr(served.network.preprocess.__class__, "__call__", broken)
    file = io.BytesIO()
    Image.new("RGB", (9, 9)).save(file, "PNG")
    good, bad = served(pd.DataFrame({"image": [picture(), file.getvalue()]}), {})
    assert "caption" in good and bad["error"] == "the picture cannot be read: IndexError"


def test_weights_of_another_network_are_refused(tmp_path):
    recipe = backbones.load(BACKBONE, str(weights_file(tmp_path))).recipe
    trained = model_reading(tmp_path / "best", "show_tell", "pooled", recipe)
    other = timm.create_model(BACKBONE.removeprefix("timm/")).state_dict()
    safetensors.torch.save_file(other, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="weights is"):
        ServedCaptioner(trained, str(tmp_path / "other.safetensors"))


def test_an_error_of_the_users_is_mlflows_own(tmp_path):
    make_translator(tmp_path / "best")
    with saved(tmp_path / "best", checkpoint.load(tmp_path / "best"), None) as files:
        model = mlflow.pyfunc.load_model(str(files))
        with pytest.raises(MlflowException, match="expected 'text'"):
            model.predict(pd.DataFrame({"sentence": ["a dog"]}))
        assert list(model.predict(pd.DataFrame({"text": ["a dog"]}, index=[7])).index) == [7]


def test_a_truecasing_model_answers_with_case_wherever_it_is_used(tmp_path):
    """Served, and from Python: one place decodes."""
    trained = make_translator(tmp_path / "plain")
    trained.vocabulary = trained.vocabulary.truecasing(f"x {target.title()}" for target in PAIRS.values())
    checkpoint.save(trained, tmp_path / "best")
    server = server_of(tmp_path / "best", trained, tmp_path / "served")
    body = {"dataframe_records": [{"text": SENTENCE}]}
    answer = server.post("/invocations", json=body).json()["predictions"][0]["translation"]
    assert answer and answer == answer.title() != answer.lower()
    assert load_translator(str(tmp_path / "best")).translate([SENTENCE])[0].text == answer
