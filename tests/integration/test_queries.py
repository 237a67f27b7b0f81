"""The look-ups of docs/queries.md, on a store of three pictures."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from feature_store import Store, failure_schema, feature_schema, from_numpy
from pipelines.verbs.caption import schema_of
from pipelines.verbs.translate import schema_of as translation_schema
from rnncond.search import SearchOptions

duckdb = pytest.importorskip("duckdb")
TEXT = (Path(__file__).parents[2] / "docs" / "queries.md").read_text()
QUERIES = dict(re.findall(r"^-- (.+?)\n(.+?;)$", re.search(r"```sql\n(.*?)```", TEXT, re.S)[1], re.S | re.M))
BOXES = [[0.0, 0.0, 1.0, 1.0], [1.0, 1.0, 2.0, 2.0]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """dogs/1.jpg and cat.jpg have captions, wide.jpg has features alone, and bad.jpg failed."""
    folder = tmp_path_factory.mktemp("queries")
    schema = feature_schema(["pooled", "regions"], {"pooled": (2,), "regions": (2,)})
    ids, widths, pooled = ["cat.jpg", "dogs/1.jpg", "wide.jpg"], [90, 10, 90], [[0, 1], [1, 0], [1, 1]]
    rows = {
        "image_id": ids, "uri": ids, "version": ["1"] * 3, "width": widths, "height": [10] * 3,
        "pooled": from_numpy(np.array(pooled, np.float16)), "regions": [[[np.float16(1)] * 2]] * 3,
        "boxes": [BOXES] * 3, "scores": [[1.0]] * 3, "classes": [[1]] * 3,
    }  # fmt: skip
    rows = pa.table({name: pa.array(rows[name], schema.field(name).type) if name != "pooled" else rows[name]
                     for name in schema.names}, schema=schema)  # fmt: skip
    bad = {"image_id": "bad.jpg", "uri": "bad.jpg", "stage": "decode", "reason": "truncated", "tries": 1}
    commit(folder / "store", "features", rows, pa.Table.from_pylist([bad], failure_schema()))
    said = {"cat.jpg": ("a cat", -2.0, [0.9, 0.1]), "dogs/1.jpg": ("two dogs", -1.0, [0.2, 0.8])}
    rows = [
        {
            "image_id": id_, "uri": id_, "version": "1", "caption": text, "score": score, "log_prob": score,
            "nbest": [{"caption": text, "score": score}], "model": "m", "pieces": text.split(), "boxes": BOXES,
            "attention": [np.array(weights, np.float16), np.array(weights[::-1], np.float16)],
        }
        for id_, (text, score, weights) in said.items()
    ]  # fmt: skip
    schema = schema_of(SearchOptions(attention=True), regions=True)
    commit(folder / "captioned", "captions", pa.Table.from_pylist(rows, schema), None)
    rows = [
        {
            "id": id_, "source": "two dogs", "version": "1", "translation": text, "score": score, "log_prob": score,
            "nbest": [{"translation": text, "score": score}], "model": "m", "cut": False,
        }
        for id_, text, score in (("test-1", "zwei Hunde", -1.0), ("test-2", "ein Hund", -2.0))
    ]  # fmt: skip
    table = pa.Table.from_pylist(rows, translation_schema(attention=False))
    commit(folder / "translated", "translations", table, None)
    return folder


def commit(root: Path, kind: str, rows: pa.Table, failures: pa.Table | None) -> None:
    """A set that readers get, and an older one of the same inputs beside it."""
    for recipe in ({"kind": kind}, {"kind": kind, "model": "older"}) if kind != "features" else ({"kind": kind},):
        dataset = Store(root).dataset(kind, recipe, rows.schema, id_column=rows.schema.names[0])
        with dataset.begin() as term:
            term.handle.commit(term.handle.part_name(["all"]), rows, failures)
        dataset.store.completed(dataset)
    dataset.store.use(Store(root).dataset(kind, {"kind": kind}, rows.schema, id_column=rows.schema.names[0]))


EXPECTED = {
    "The captions that readers get": None,
    "The caption of one picture": [("two dogs", -1.0, [{"caption": "two dogs", "score": -1.0}])],
    "Pictures by a word": [("dogs/1.jpg", "two dogs", -1.0)],
    "The most frequent captions": {("a cat", 1), ("two dogs", 1)},
    "How many pictures failed": [("decode", "truncated", 1, "bad.jpg")],
    "Pictures with features and without": [("wide.jpg", "wide.jpg")],
    "Captions beside": [("cat.jpg", 90, 10, "a cat")],
    "Pictures that look alike": [("dogs/1.jpg", 1.0), ("wide.jpg", pytest.approx(0.5**0.5)), ("cat.jpg", 0.0)],
    "The region that each word": {
        ("cat.jpg", "a", 0), ("cat.jpg", "cat", 1), ("dogs/1.jpg", "two", 1), ("dogs/1.jpg", "dogs", 0),
    },
    "The translations that readers get": None,
    "Translations by": [("test-2", "two dogs", "ein Hund", -2.0), ("test-1", "two dogs", "zwei Hunde", -1.0)],
}  # fmt: skip


def test_each_look_up_has_a_test():
    assert len(QUERIES) == len(EXPECTED)


@pytest.mark.parametrize("title", EXPECTED)
def test_look_up(title, folder, monkeypatch):
    monkeypatch.chdir(folder)
    asked = {name: query for name, query in QUERIES.items() if "that readers get" in name or name.startswith(title)}
    answers = {name: duckdb.sql(query) for name, query in asked.items()}
    answer = next(answer for name, answer in answers.items() if name.startswith(title))
    found = answer.fetchall() if answer else None
    if title == "The region that each word":
        found = [(id_, word, BOXES.index(box)) for id_, word, box in found]
    expected = EXPECTED[title]
    assert (set(found) if isinstance(expected, set) else found) == expected


def test_files_that_count(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    exec(re.search(r"```python\n(.*?)```", TEXT, re.S)[1], {})
    assert "two dogs" in capsys.readouterr().out
