"""Where the pictures of a report are looked for, and what is said of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.inputs.caption_formats import Captioned
from pipelines.reporting import pictures
from pipelines.reporting.load import ReportData
from tests.worlds.captioner import PREPROCESSING

KNOWN = {"1": Captioned("1", "val/1.jpg", "val", ("a dog",))}


@pytest.mark.parametrize(
    ("row", "known", "images", "places"),
    [
        ({"image_id": "1", "uri": "/a/1.jpg"}, {}, None, ["/a/1.jpg"]),
        ({"image_id": "1", "uri": "s3://b/1.jpg"}, KNOWN, None, ["s3://b/1.jpg", "data/val/1.jpg"]),
        ({"image_id": "1", "file": "2.jpg"}, {}, None, ["data/2.jpg"]),
        ({"image_id": "1"}, {}, None, []),
        ({"image_id": "1", "uri": "/a/x.jpg"}, KNOWN, "b/", ["b/1", "b/val/1.jpg", "b/1.jpg", "b/x.jpg"]),
        ({"image_id": "x.jpg", "uri": "/a/x.jpg"}, {}, "b", ["b/x.jpg"]),
    ],
)
def test_where_a_picture_may_be(row, known, images, places):
    content = ReportData("out", evaluation={"data": "data/captions.jsonl"})
    assert pictures.uris(row, content, known, images) == places


def test_references_are_those_of_the_output_or_of_data():
    own = pictures.card_of({"image_id": "1", "caption": "x", "references": ["a cat"]}, KNOWN)
    assert own.references == ["a cat"]
    assert pictures.card_of({"image_id": "1", "caption": "x"}, KNOWN).references == ("a dog",)
    assert pictures.card_of({"image_id": "2", "caption": "x"}, KNOWN).references == ()


def test_references_of_what_changed_are_those_that_were_scored_or_of_data():
    rows = [{"id": id_, "uri": f"{id_}.jpg", "change": "changed", "before": "one", "after": "another"} for id_ in "012"]
    content = ReportData("out", rows=[{"image_id": "0", "caption": "another", "references": ["scored"]}])
    cards = pictures.changed(rows, content, KNOWN, None)
    assert [list(card.references) for card in cards] == [["scored"], ["a dog"], []]


def test_examples_of_data_are_matched_with_what_is_shown(tmp_path):
    lines = [{"image_id": str(n), "file": f"{n}.jpg", "split": "val", "captions": [f"number {n}"]} for n in range(3)]
    path = tmp_path / "captions.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    content = ReportData("out", rows=[{"image_id": "1", "caption": "x"}], samples=[{"image_id": "2", "epoch": 1}])
    known = pictures.references(content, str(path))
    assert {name: example.captions for name, example in known.items()} == {"1": ("number 1",), "2": ("number 2",)}
    assert pictures.references(content, None) == {}
    assert pictures.references(ReportData("out"), str(path)) == {}


def test_attention_over_a_grid_and_over_regions():
    grid = pictures.attention_of({"rows": 1, "columns": 2, "pieces": ["a"], "weights": [[0.25, 0.75]]})
    assert (grid.rows, grid.columns, grid.boxes) == (1, 2, None)
    regions = pictures.attention_of({"boxes": [[0, 0, 1, 1]] * 2, "pieces": ["a"], "weights": [[0.25, 0.75]]})
    assert (regions.rows, regions.columns) == (1, 2)
    np.testing.assert_array_equal(regions.boxes, [[0, 0, 1, 1]] * 2)
    assert pictures.attention_of(None) is None


def test_a_caption_without_a_word_has_no_attention_to_draw():
    for places in ({"rows": 7, "columns": 7}, {"boxes": [[0, 0, 1, 1]]}):
        assert pictures.attention_of({**places, "pieces": [], "weights": []}) is None


def test_only_a_network_that_sees_a_part_has_its_part_drawn():
    seen = pictures.preprocess_of({"features": {"recipe": {"preprocessing": PREPROCESSING}}})
    assert (seen.crop, seen.resize, seen.fit) == ((20, 20), (24, 24), "shorter")
    for whole in ({}, {"features": None}, {"features": {"recipe": {"preprocessing": {"longest": 800}}}}):
        assert pictures.preprocess_of(whole) is None


def test_captions_epoch_by_epoch_of_a_few_pictures(tmp_path):
    samples = [
        {"epoch": epoch, "image_id": f"{n}.png", "caption": f"{n} at {epoch}"} for epoch in (1, 2) for n in range(9)
    ]
    Image.new("RGB", (8, 8)).save(tmp_path / "0.png")
    grown = pictures.growth(ReportData("out", samples=samples), {}, str(tmp_path))
    assert len(grown) == pictures.GROWN
    card, stages = grown[0]
    assert (card.image_id, card.caption, stages) == ("0.png", "0 at 2", [(1, "0 at 1"), (2, "0 at 2")])
    assert card.picture.startswith("data:image/") and not card.missing
    (missing, *_) = pictures.missing([card for card, _ in grown])
    assert missing.startswith("1.png: ")


def test_the_tokenizer_of_0_1_0_is_shown_as_that():
    assert pictures.about({"tokeniser": "ptb"})["tokenizer"] == "ptb"
    features = {"recipe": {"backbone": "timm/test"}, "output": "grid", "fingerprint": "f"}
    assert pictures.about({"features": features})["features"] == "timm/test grid"
    assert Path(pictures.TEMPLATE).suffix == ".html"
