"""What a run learnt from, in MLflow's words, and when scores of two runs compare."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from pipelines.tracking.lineage import held_out, inputs_of, sha256_of

FEATURES = {"fingerprint": "f" * 16, "output": "grid", "recipe": {"backbone": "timm/test"}}


def sha256(*contents: str) -> str:
    return hashlib.sha256("".join(contents).encode()).hexdigest()


@pytest.fixture
def captions(tmp_path, monkeypatch):
    """The ``data`` section of a captioner's recipe."""
    monkeypatch.chdir(tmp_path)
    line = {"image_id": "1", "file": "1.jpg", "split": "val", "captions": ["a dog"]}
    Path("captions.jsonl").write_text(json.dumps(line) + "\n")
    return {"store": "s3://bucket/store", "captions": "captions.jsonl", "train": "train", "validation": "val",
            "validation_images": None}  # fmt: skip


@pytest.fixture
def text(tmp_path, monkeypatch):
    """The ``data`` section of a translator's recipe."""
    monkeypatch.chdir(tmp_path)
    for name in ("train.en", "train.de", "val.en", "val.de"):
        Path(name).write_text(f"{name}\n")
    return {"source": "train.en", "target": "train.de", "validation_source": "val.en", "validation_target": "val.de",
            "validation_lines": None, "columns": ["source", "target"]}  # fmt: skip


def shown(inputs) -> list[tuple]:
    return [
        (entry.tags[0].value, entry.dataset.name, entry.dataset.digest, entry.dataset.source_type) for entry in inputs
    ]


def test_a_captioner_learns_from_features_and_captions(captions):
    digest = sha256(Path("captions.jsonl").read_text())[:32]
    inputs = inputs_of(captions, FEATURES)
    assert shown(inputs) == [
        ("training", "s3://bucket/store", "f" * 16, "uri"),
        ("training", "captions.jsonl (train)", digest, "local"),
        ("validation", "captions.jsonl (val)", digest, "local"),
    ]
    assert json.loads(inputs[0].dataset.source)["backbone"] == "timm/test"
    long = captions | {"store": "s3://bucket/" + "x" * 600}
    assert len(inputs_of(long, FEATURES)[0].dataset.name) == 500  # more is refused by MLflow


def test_a_translator_learns_from_the_files_of_both_languages(text):
    assert shown(inputs_of(text, None)) == [
        (context, name, sha256(f"{name}\n")[:32], "local")
        for context, names in {"training": ("train.en", "train.de"), "validation": ("val.en", "val.de")}.items()
        for name in names
    ]


def test_captions_compare_where_the_pictures_of_validation_are_the_same(captions):
    before = held_out(captions)
    Path("other.jsonl").write_text(Path("captions.jsonl").read_text())
    assert held_out(captions | {"captions": "other.jsonl", "train": "restval"}) == before != None  # noqa: E711
    assert held_out(captions | {"validation": "test"}) != before
    assert held_out(captions | {"validation_images": 5}) != before
    Path("captions.jsonl").write_text("")
    assert held_out(captions) != before
    Path("captions.jsonl").unlink()
    assert held_out(captions) is None
    assert held_out({}) is None


def test_lists_of_splits_beside_captions_say_what_validation_is(captions):
    before = held_out(captions)
    for name in ("Flickr_8k.devImages.txt", "notes.txt"):
        Path(name).write_text("3.jpg\n")
    listed = held_out(captions)
    assert listed != before
    Path("notes.txt").write_text("other\n")
    assert held_out(captions) == listed
    Path("Flickr_8k.devImages.txt").write_text("4.jpg\n")
    assert held_out(captions) not in (before, listed)


def test_text_compares_where_the_lines_of_validation_are_the_same(text):
    before = held_out(text)
    assert before is not None
    Path("train.en").write_text("other\n")
    assert held_out(text) == before
    assert held_out(text | {"validation_lines": 1}) != before
    Path("val.de").write_text("andere\n")
    assert held_out(text) not in (before, None)
    Path("val.de").unlink()
    assert held_out(text) is None


def test_a_folder_is_its_files_one_after_the_other(tmp_path):
    for name in ("captions_b.json", "captions_a.json"):
        (tmp_path / name).write_text(f"{name}\n")
    assert sha256_of(str(tmp_path)) == sha256("captions_a.json\n", "captions_b.json\n")
    assert sha256_of(str(tmp_path / "captions_a.json")) == sha256("captions_a.json\n")
