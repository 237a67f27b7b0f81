"""A corpus through ``rnncond translate``: every sentence once, in the corpus's order."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store import Store
from pipelines.cluster.resources import Plan
from pipelines.engine import driver
from pipelines.errors import UserError
from pipelines.inference.translator import prepare
from pipelines.inputs.corpus import Corpus
from pipelines.verbs import caption, translate
from rnncond import checkpoint
from tests.worlds import translator as world
from tests.worlds.command import run_hint

SENTENCES = [f"{sentence} {other}" for sentence in world.PAIRS for other in ("dog", "red cat", "two birds", "", "book")]
SENTENCES[7] = ""
SENTENCES[11] = " \t"
SENTENCES[20] = "the " * 13 + "dog"


@pytest.fixture
def model(tmp_path) -> str:
    world.make_translator(tmp_path / "model")
    return str(tmp_path / "model")


@pytest.fixture
def corpus(tmp_path) -> str:
    return str(world.write_text(tmp_path / "test.en", SENTENCES))


def dataset_of(out, fingerprint=None):
    return Store(out).open(fingerprint, kind="translations")


def rows_of(out, fingerprint=None) -> list[dict]:
    snapshot = dataset_of(out, fingerprint).snapshot()
    rows = [row for batch in snapshot.scan() for row in batch.to_pylist()]
    assert len({row["id"] for row in rows}) == len(rows) == snapshot.rows
    return sorted(rows, key=lambda row: row["id"])


@pytest.mark.ray
def test_every_sentence_has_its_row_and_the_lines_are_in_order(ray_cluster, tmp_path, model, corpus):
    out, lines = tmp_path / "out", tmp_path / "test.de.gz"
    options = driver.Options(rows_per_part=4)
    done = translate.run(corpus, model, str(out), lines=str(lines), beam=3, nbest=2, attention=True, options=options)
    rows = rows_of(out)
    assert (done.failed, done.summary["sentences"], done.summary["computed"], done.summary["cut"]) == (0, 25, 25, 1)
    assert [row["id"] for row in rows] == [f"{number:09d}" for number in range(25)]
    assert [row["source"] for row in rows] == SENTENCES
    assert [number for number, row in enumerate(rows) if row["cut"]] == [20]
    expected = prepare([checkpoint.load(model)], ["m"], beam=3, nbest=2, attention=True)(SENTENCES)
    for row, one in zip(rows, expected, strict=True):
        assert [row["translation"], row["pieces"], row["source_pieces"], row["cut"], row["model"]] == [
            one["translation"], one["pieces"], one["source_pieces"], one["cut"], one["model"]
        ]  # fmt: skip
        assert row["score"] == pytest.approx(one["score"], rel=1e-5)
        assert [other["translation"] for other in row["nbest"]] == [other["translation"] for other in one["nbest"]]
        assert np.shape(row["attention"]) == np.shape(one["attention"])
    assert len(dataset_of(out).snapshot().parts) > 4
    with gzip.open(lines, "rt", encoding="utf-8") as file:
        assert file.read() == "".join(f"{row['translation']}\n" for row in rows)
    assert done.summary["lines"] == str(lines) and not list(tmp_path.glob(".unfinished-*"))
    assert run_hint(done) == ["report"]


def test_the_first_lines_are_done_and_a_dry_run_keeps_nothing(without_ray, tmp_path, model, corpus):
    out, lines = tmp_path / "out", tmp_path / "lines"
    told = translate.run(corpus, model, str(out), options=driver.Options(dry_run=True, sample=8))
    assert (told.summary["left to do"], told.summary["tried"]) == (len(SENTENCES), 8)
    assert told.summary["hours"] > 0 and told.summary["gigabytes of memory per worker"] > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "test.en"]
    done = translate.run(corpus, model, str(out), lines=str(lines), options=driver.Options(limit=3))
    assert (done.summary["sentences"], done.summary["computed"]) == (3, 3)
    again = translate.run(corpus, model, str(out), options=driver.Options(limit=2))
    assert (again.summary["computed"], "no_longer_listed" in again.summary) == (0, False)
    assert len(rows_of(out)) == len(lines.read_text().splitlines()) == 3
    rest = translate.run(corpus, model, str(out), options=driver.Options())
    assert json.loads(dataset_of(out).about["models"]) == [model]
    assert (rest.summary["already_done"], rest.summary["computed"]) == (3, len(SENTENCES) - 3)


def test_an_edited_file_without_ids_is_told_and_one_with_ids_is_not(without_ray, tmp_path, model, corpus, capsys):
    for lines, told in ((SENTENCES, False), (SENTENCES, False), ([*SENTENCES, "a dog"], True)):
        world.write_text(tmp_path / "test.en", lines)
        done = translate.run(corpus, model, str(tmp_path / "out"))
        assert ("Its rows have no ids, so all of it is translated" in " ".join(capsys.readouterr().err.split())) == told
    assert done.summary["computed"] == len(SENTENCES) + 1
    for count in (2, 3):
        table = [f"{number}\t{sentence}" for number, sentence in enumerate(SENTENCES[:count])]
        world.write_text(tmp_path / "test.tsv", ["id\tsource", *table])
        done = translate.run(str(tmp_path / "test.tsv"), model, str(tmp_path / "out"))
        assert "no ids" not in capsys.readouterr().err
    assert (done.summary["already_done"], done.summary["computed"]) == (2, 1)


def test_a_unit_gives_rows_and_failures_that_count_their_tries(model):
    translator = prepare([checkpoint.load(model)], ["m"], too_long="refuse")
    worker = translate.TranslationWorker(Plan(1, 1, 0), translator, "test.en", translate.schema_of(False))
    unit = {"id": ["a", "b"], "source": ["a dog", SENTENCES[20]], "version": ["1", "2"], "tries": [0, 3]}
    rows, failures = worker.process(pa.table(unit))
    assert rows.select(["id", "source", "version"]).to_pylist() == [{"id": "a", "source": "a dog", "version": "1"}]
    (failure,) = failures.to_pylist()
    assert failure.pop("reason").startswith("14 tokens")
    assert failure == {"id": "b", "uri": "test.en", "version": "2", "stage": "compute", "tries": 4}


def test_a_corpus_with_ids_may_grow_and_what_was_refused_is_told_again(without_ray, tmp_path, model):
    out, path, lines = str(tmp_path / "out"), tmp_path / "news.jsonl", tmp_path / "lines"
    entries = [{"id": name, "text": sentence} for name, sentence in zip("zaq", world.PAIRS, strict=False)]
    entries.append({"id": "long", "text": SENTENCES[20]})
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    asked = {"beam": 1, "column": "text", "too_long": "refuse", "lines": str(lines)}
    first = translate.run(str(path), model, out, options=driver.Options(workers=1), **asked)
    assert (first.failed, first.summary["computed"]) == (1, 3)
    assert "long: compute: 14 tokens, more than --max-source-length 12" in first.failures[0]
    assert dataset_of(out).snapshot().failures()["id"].to_pylist() == ["long"]

    entries = [{"id": "b", "text": "two birds"}, *entries[:2], {"id": "q", "text": "the dog is red"}, entries[3]]
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    options = driver.Options(workers=1, redo_changed=True)
    grown = translate.run(str(path), model, out, options=options, **asked)
    assert [grown.summary[name] for name in ("already_done", "computed", "changed")] == [2, 2, 1]
    assert grown.failed == 1 and "--retry-failed" in grown.hint
    rows = {row["id"]: row for row in rows_of(out)}
    assert {name: row["source"] for name, row in rows.items()} == {entry["id"]: entry["text"] for entry in entries[:4]}
    assert lines.read_text().split("\n") == [*(rows[name]["translation"] for name in "bzaq"), "", ""]


def test_all_that_changes_translations_changes_the_set(model, corpus, tmp_path):
    trained = checkpoint.load(model)
    other = world.make_translator(None, seed=3)
    text = Corpus(corpus)
    kinds = [
        ([trained], {}), ([other], {}), ([trained, other], {}), ([trained], {"beam": 2}),
        ([trained], {"unk_replace": True}), ([trained], {"max_source_length": 5}), ([trained], {"too_long": "refuse"}),
    ]  # fmt: skip
    recipes = [translate.recipe_of(prepare(models, ["m"] * len(models), **asked), text) for models, asked in kinds]
    assert len({json.dumps(recipe, sort_keys=True) for recipe in recipes}) == len(kinds)
    (tmp_path / "copy").mkdir()
    same = Corpus(str(world.write_text(tmp_path / "copy" / "test.en", SENTENCES)))
    assert translate.recipe_of(prepare([trained], ["m"]), same) == recipes[0]


def test_line_seven_of_another_file_is_another_sentence(model, corpus, tmp_path):
    translator = prepare([checkpoint.load(model)], ["m"])
    other = world.write_text(tmp_path / "other.en", [*SENTENCES[:-1], "two cats"])
    named = [world.write_text(tmp_path / f"{n}.jsonl", [f'{{"id": "{n}", "source": "a"}}']) for n in range(2)]
    one, two, three, four = (
        translate.recipe_of(translator, Corpus(str(path)))["corpus"] for path in (corpus, other, *named)
    )
    assert one.startswith("test.en ") and two.startswith("other.en ") and one.split()[1] != two.split()[1]
    assert three == four == "by id"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"text": "pairs.parquet", "column": "english"}, "has no column 'english'; it has source"),
        ({"lines": "no/such/folder/x.de"}, "no file can be written there"),
        ({"lines": "."}, "no file can be written there"),
        ({"beam": 2, "nbest": 3}, "nbest is 3, more than beam 2"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_before_anything_is_done(
    arguments, message, tmp_path, model, corpus, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    pq.write_table(pa.table({"source": ["a dog"]}), tmp_path / "pairs.parquet")
    with pytest.raises(UserError, match=message):
        translate.run(**({"text": corpus, "model": model, "out": "out"} | arguments))
    assert not Path("out").exists()


def test_caption_refuses_a_translator(model, tmp_path):
    with pytest.raises(UserError, match="encdec_bidirectional, which reads text"):
        caption.run(model, str(tmp_path / "out"), str(tmp_path))
