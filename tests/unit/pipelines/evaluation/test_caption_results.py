"""Rows to score or show, from a model and a store, and from what ``rnncond caption`` wrote."""

import json

import numpy as np
import pyarrow as pa
import pytest
import torch

from feature_store import Store
from pipelines.errors import UserError
from pipelines.evaluation import caption_results, results
from pipelines.evaluation.caption_results import as_row, caption_images, from_output, seen_of
from pipelines.features.sources import FromStore
from pipelines.inference.captioner import Captioner
from pipelines.inference.decoder import about_models
from pipelines.inputs.captions import read_captions
from pipelines.inputs.matching import match_captions
from pipelines.verbs import caption
from rnncond.contract import Source
from rnncond.search import SearchOptions, search
from tests.worlds import captioner


@pytest.fixture
def made(tmp_path):
    """A model and the source of its features."""
    fingerprint = captioner.make_store(tmp_path / "store", tmp_path / "images")
    trained = captioner.make_model(tmp_path / "model", fingerprint)
    return trained, FromStore.open(str(tmp_path / "store"), trained.features)


def test_rows_come_in_the_order_asked_and_do_not_depend_on_the_batch(made, monkeypatch):
    trained, source = made
    options = SearchOptions(beam=3, nbest=2, max_length=5, attention=True)
    ids = ["d.png", "a.png", "c.png"]
    together = dict(caption_images(Captioner([trained], options), source, ids))
    monkeypatch.setattr(caption_results, "BATCH", 1)
    alone = dict(caption_images(Captioner([trained], options), source, ids))
    assert list(together) == list(alone) == ids
    for name, row in together.items():
        assert row["caption"] == alone[name]["caption"]
        assert row["log_prob"] == pytest.approx(alone[name]["log_prob"], abs=1e-5)
        np.testing.assert_allclose(row["attention"]["weights"], alone[name]["attention"]["weights"], atol=1e-3)
        assert row["uri"].endswith(name)
        assert len(row["others"]) == 1


def test_a_row_is_the_search_on_the_grid_read_row_by_row(made):
    trained, source = made
    options = SearchOptions(beam=2, max_length=5, attention=True)
    ((_, row),) = caption_images(Captioner([trained], options), source, ["b.png"])
    grid = source.snapshot.take(["b.png"], ["grid"])["grid"].combine_chunks().to_numpy_ndarray()[0].astype(np.float32)
    places = torch.from_numpy(np.stack([grid[r, c] for r in range(2) for c in range(3)]))[None]
    memory = trained.model.encode(Source(places))
    found = search(trained.model.step, memory, trained.model.init_state(memory), options)
    assert row["caption"] == trained.vocabulary.decode(found.tokens[0, 0].tolist())
    assert row["log_prob"] == pytest.approx(found.log_probs[0, 0].item(), abs=1e-5)
    seen = row["attention"]
    assert (seen["rows"], seen["columns"]) == (2, 3)
    assert "".join(seen["pieces"]) == row["caption"]
    assert np.shape(seen["weights"]) == (len(seen["pieces"]), 6)
    np.testing.assert_allclose(np.sum(seen["weights"], axis=1), 1, atol=5e-3)
    np.testing.assert_allclose(seen["weights"], found.attention[0, 0, : len(seen["pieces"])], atol=1e-3)


def test_attention_only_where_asked_and_where_there_is_a_grid(made):
    trained, source = made
    ((_, row),) = caption_images(Captioner([trained], SearchOptions(max_length=5)), source, ["b.png"])
    assert "attention" not in row
    said = {
        "image_id": "a",
        "uri": "u",
        "caption": "x",
        "log_prob": -1.0,
        "nbest": [],
        "pieces": ["x"],
        "attention": [[1]],
    }
    assert "attention" not in as_row(said, [])


def test_what_the_training_has_seen_of_the_scored_pictures_is_counted(tmp_path):
    """The model was trained on a and b and validated on the first of c and d; b and c are scored."""

    def captions(name, **splits):
        lines = [{"image_id": i, "file": i, "split": split, "captions": ["A"]} for i, split in splits.items()]
        (tmp_path / name).write_text("\n".join(map(json.dumps, lines)))
        return str(tmp_path / name)

    section = {"train": "train", "validation": "val", "validation_images": 1}
    section["captions"] = captions("trained", a="train", b="train", d="val", c="val")
    stored = [f"{name}.png" for name in "abcd"]
    scored = match_captions(read_captions(captions("scored", b="val", c="val")), stored).examples
    assert seen_of(section, scored, stored, None) == {"trained_on": 1, "chose_epoch": 1}
    strangers = match_captions(read_captions(captions("strangers", e="val")), ["e.png"]).examples
    assert seen_of(section, strangers, [*stored, "e.png"], None) == {"trained_on": 0, "chose_epoch": 0}
    assert seen_of(section | {"captions": "gone"}, scored, stored, None) is None
    assert seen_of({}, scored, stored, None) is None


@pytest.fixture
def output(made, tmp_path):
    """An output of ``rnncond caption`` in three parts, with a failure; no Ray is needed to write one."""
    trained, source = made
    captioner = Captioner([trained], SearchOptions(beam=2, nbest=2, max_length=5, attention=True))
    recipe = caption.recipe_of(captioner, source.shape)
    dataset = Store(tmp_path / "out").dataset("captions", recipe, caption.schema_of(captioner.options))
    images = source.snapshot.take(["a.png", "b.png", "c.png"], ["image_id", "uri", "version", "grid"])
    said = captioner(np.stack(images["grid"].combine_chunks().to_numpy_ndarray()))
    failed = {"image_id": "d.png", "uri": "d.png", "version": "1", "stage": "decode", "reason": "broken", "tries": 1}
    with dataset.begin() as term:
        for image, row in zip(images.drop_columns(["grid"]).to_pylist(), said, strict=True):
            term.handle.commit(image["image_id"], pa.Table.from_pylist([image | row], schema=dataset.schema))
        term.handle.commit("failed", None, pa.Table.from_pylist([failed], schema=source.snapshot.failures().schema))
    return str(tmp_path / "out"), said


def test_what_caption_wrote(output, tmp_path):
    out, said = output
    data = str(captioner.make_captions(tmp_path / "captions.jsonl"))
    scored = from_output(out, data, "val", None)
    assert [row["image_id"] for row in scored.rows] == ["a.png", "b.png", "c.png"]
    assert [row["caption"] for row in scored.rows] == [row["caption"] for row in said]
    assert scored.rows[0]["others"] == [said[0]["nbest"][1]["caption"]]
    assert "attention" not in scored.rows[0]
    assert (scored.rows[1]["file"], scored.rows[1]["references"]) == ("images/b.png", captioner.CAPTIONS["b.png"])
    assert scored.missing == ["d.png: broken"]
    assert scored.about["search"] == {"beam": 2, "nbest": 2, "max_length": 5}
    (row,) = scored.attend(["c.png"])
    np.testing.assert_allclose(row["attention"]["weights"], np.array(said[2]["attention"]), atol=1e-5)
    with pytest.raises(UserError, match="--data FILE"):
        from_output(out, None, "val", None)


def test_what_the_models_of_a_set_have_seen_is_known_by_the_set(made, tmp_path):
    """Of two models one was validated on all four pictures and the other on the first two of them."""
    data = str(captioner.make_captions(tmp_path / "captions.jsonl"))
    trained, source = made
    other = captioner.make_model(tmp_path / "other", trained.features["fingerprint"])
    section = {"captions": data, "train": "train", "validation": "val"}
    trained.info["recipe"]["data"], other.info["recipe"]["data"] = section | {"validation_images": 2}, section
    decoder = Captioner([trained], SearchOptions(beam=2, max_length=5))
    schema, images = caption.schema_of(decoder.options), source.snapshot.take(list(captioner.CAPTIONS))
    said = decoder(np.stack(images["grid"].combine_chunks().to_numpy_ndarray()))
    rows = images.select(["image_id", "uri", "version"]).to_pylist()
    rows = pa.Table.from_pylist([row | one for row, one in zip(rows, said, strict=True)], schema=schema)
    for models, count in (([trained], 2), ([trained, other], 4), ([], None)):
        about = about_models(models, ["m"] * len(models)) if models else None
        recipe = caption.recipe_of(decoder, source.shape) | {"models": len(models)}
        dataset = Store(tmp_path / "out").dataset("captions", recipe, schema, about=about)
        with dataset.begin() as term:
            term.handle.commit("part", rows)
        seen = from_output(str(tmp_path / "out"), data, "val", dataset.fingerprint).seen
        assert seen == (None if count is None else {"trained_on": 0, "chose_epoch": count})


def test_a_spread_over_all_rows(output):
    """Of ``pipelines.evaluation.results``; here is a set of several parts."""
    dataset = results.open_output(output[0], results.CAPTIONS)
    assert [row["image_id"] for row in results.spread(dataset, 10)] == ["a.png", "b.png", "c.png"]
    assert [row["image_id"] for row in results.spread(dataset, 2)] == ["a.png", "c.png"]


LANGUAGES = {
    None: "auto",
    "de": "auto",
    "zh": "zh",
}


@pytest.mark.parametrize(("language", "tokenizer"), LANGUAGES.items())
def test_the_tokenizer_of_a_language(language, tokenizer):
    assert caption_results.tokenizer_for(language) == tokenizer
