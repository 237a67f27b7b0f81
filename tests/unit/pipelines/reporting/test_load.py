"""What a report finds in a folder, whichever verb wrote it."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from feature_store import Store, failure_schema
from pipelines.errors import UserError
from pipelines.reporting.load import by_epoch, read
from pipelines.verbs.translate import schema_of
from tests.worlds.captioned import caption_set


def translations(out: Path, model: str, count: int = 7, failed: int = 0) -> str:
    """A set of ``count`` translations in ``out``, and failures; its fingerprint."""
    recipe = {"model": model, "system": "encdec", "search": {"beam": 2}, "corpus": "test.en"}
    schema = schema_of(attention=False)
    dataset = Store(out).dataset("translations", recipe, schema, id_column="id")
    row = {
        "source": "a dog", "version": "", "translation": "ein Hund", "score": -1.0, "log_prob": -2.0, "nbest": [],
        "model": model, "cut": False,
    }  # fmt: skip
    rows = [{"id": f"{number:03d}", **row} for number in range(count)]
    failure = {"uri": "test.en", "version": None, "stage": "compute", "reason": "too long", "tries": 1}
    failures = [{"id": f"bad{number}", **failure} for number in range(failed)]
    with dataset.begin() as term:
        term.handle.commit(
            "part", pa.Table.from_pylist(rows, schema), pa.Table.from_pylist(failures, failure_schema("id"))
        )
    return dataset.fingerprint


def write(folder: Path, **files: str) -> None:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        name, _, kind = name.rpartition("_")
        (folder / f"{name}.{kind}").write_text(text)


def test_a_run_has_its_curves_samples_and_recipe(tmp_path):
    write(tmp_path, metrics_jsonl='{"epoch": 1}\n{"epoch": 2}\n', samples_jsonl='{"epoch": 1, "translation": "x"}\n',
          run_json='{"status": "finished"}', recipe_yaml="system: encdec\n")  # fmt: skip
    content = read(str(tmp_path), 5)
    assert [line["epoch"] for line in content.metrics] == [1, 2]
    assert (content.run, content.recipe, content.rows, content.total) == (
        {"status": "finished"}, "system: encdec\n", [], 0
    )  # fmt: skip
    assert content.is_text


def test_an_evaluation_has_its_rows_and_what_it_missed(tmp_path):
    write(tmp_path, evaluated_jsonl='{"image_id": "a", "caption": "x"}\n', evaluation_json='{"missing": ["b: gone"]}')
    content = read(str(tmp_path), 5)
    assert (content.total, content.failures, content.is_text) == (1, ["b: gone"], False)


def test_of_a_store_some_rows_are_shown_and_all_are_counted(tmp_path):
    fingerprint = translations(tmp_path / "out", "m", count=7, failed=2)
    content = read(str(tmp_path / "out"), 3)
    assert (len(content.rows), content.total) == (3, 7)
    assert content.rows[0]["translation"] == "ein Hund"
    assert content.evaluation["set"] == fingerprint
    assert content.failures == ["bad0: compute: too long", "bad1: compute: too long"]


@pytest.mark.parametrize("scored", [{"set": "other", "model": {"id": "m"}}, {"model": {"id": "another"}}])
def test_scores_of_another_set_are_left_out_and_it_is_said(tmp_path, scored):
    """Versions before 0.3 kept the model alone."""
    fingerprint = translations(tmp_path / "out", "m")
    about = {"translations": "out", "scores": {"BLEU": 5.0}}
    rows = '{"id": "000", "translation": "of another"}\n'
    write(tmp_path / "out", evaluation_json=json.dumps(about | scored), evaluated_jsonl=rows)
    content = read(str(tmp_path / "out"), 9)
    assert "scores" not in content.evaluation and len(content.rows) == 7
    (remark,) = content.remarks
    assert "rnncond evaluate --translations" in remark
    assert "of another set" in content.outdated and content.again in remark

    same = {"set": fingerprint} if "set" in scored else {"model": {"id": "m"}}
    same |= {"not_scored": {"translations_without_references": 6}}
    rows = '{"id": "000", "source": "a dog", "translation": "ein Hund", "log_prob": -2.0}\n'
    write(tmp_path / "out", evaluation_json=json.dumps(about | scored | same), evaluated_jsonl=rows)
    content = read(str(tmp_path / "out"), 9)
    assert (content.evaluation["scores"], len(content.rows), content.remarks) == ({"BLEU": 5.0}, 1, [])


@pytest.mark.parametrize(
    ("rows", "without", "changed"),
    [
        (["000", "001"], 1, False),
        (["000", "001", "002"], None, False),
        (["000", "001"], None, True),  # 002 was added since
        (["000", "001", "009"], None, True),  # 009 was removed, and 002 added
        (["000", "001", "002", "009"], None, True),
        ([{"id": "000", "translation": "eine Katze"}, "001", "002"], None, True),
        ([{"id": "000", "source": "a cat"}, "001", "002"], None, True),
        ([{"id": "bad0", "source": "", "translation": "", "log_prob": None}, "000", "001", "002"], None, False),
    ],
    ids=["a part", "all", "added", "another", "removed", "another text", "another source", "a failure"],
)
def test_scores_of_rows_that_the_set_has_no_more_are_left_out(tmp_path, rows, without, changed):
    """The set has the sentences 000, 001 and 002; its failures are scored as empty translations."""
    fingerprint = translations(tmp_path / "out", "m", count=3, failed=1)
    said = {"source": "a dog", "translation": "ein Hund", "log_prob": -2.0}
    rows = [{**said, **(row if isinstance(row, dict) else {"id": row})} for row in rows]
    about = {"translations": "out", "set": fingerprint, "scores": {"BLEU": 5.0}, "references": ["/data/refs.tsv"]}
    about |= {} if without is None else {"not_scored": {"translations_without_references": without}}
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    write(tmp_path / "out", evaluation_json=json.dumps(about), evaluated_jsonl=lines)
    content = read(str(tmp_path / "out"), 9)
    assert ("scores" not in content.evaluation) == bool(content.outdated) == bool(content.remarks) == changed
    if changed:
        assert [row["id"] for row in content.rows] == ["000", "001", "002"]
        assert (content.rows[0]["source"], content.rows[0]["translation"]) == ("a dog", "ein Hund")
        assert "before its rows changed" in content.outdated
        out = tmp_path / "out"
        assert content.again == f"rnncond evaluate --translations {out} --references /data/refs.tsv"


@pytest.mark.parametrize(
    ("rows", "outside", "changed"),
    [
        ({"a": "a dog"}, 1, False),
        ({"a": "a dog"}, None, False),  # versions before 0.3 did not count the others
        ({"a": "a dog"}, 0, True),
        ({"a": "a dog", "b": "a cat"}, 1, True),
        ({"a": "a cow"}, 1, True),
        ({"c": "a cow"}, None, True),
    ],
    ids=["a part", "of an earlier version", "added", "removed", "another text", "of an earlier version, removed"],
)
def test_scores_of_captions_that_the_set_has_no_more_are_left_out(tmp_path, rows, outside, changed):
    made = caption_set(tmp_path, "m", {"a": "a dog", "b": "a cat"})
    about = {"captions": "out", "set": made.fingerprint, "scores": {"CIDEr": 5.0}, "split": "val", "data": "/x.jsonl"}
    about |= {} if outside is None else {"not_scored": {"captions_outside_split": outside}}
    lines = "".join(
        json.dumps({"image_id": id_, "caption": text, "log_prob": -1.0}) + "\n" for id_, text in rows.items()
    )
    write(tmp_path, evaluation_json=json.dumps(about), evaluated_jsonl=lines)
    content = read(str(tmp_path), 9)
    assert ("scores" not in content.evaluation) == bool(content.outdated) == changed
    if changed:
        assert [(row["image_id"], row["caption"]) for row in content.rows] == [("a", "a dog"), ("b", "a cat")]
        assert content.again == f"rnncond evaluate --captions {tmp_path} --data /x.jsonl --split val"


@pytest.mark.parametrize("scored", ["before", "now", "averaged", "in history"])
def test_scores_of_the_model_before_the_last_training_are_called_so(tmp_path, scored):
    ids = {"best": "now", "averaged": "averaged", "history/step-00000100": "in history"}
    for folder, model_id in ids.items():
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "model.json").write_text(json.dumps({"model_id": model_id}))
    folder = "run/history/step-00000100" if scored == "in history" else "run"
    about = {"model": {"id": scored, "folder": folder}, "scores": {"BLEU": 5.0}}
    write(tmp_path, evaluation_json=json.dumps(about), evaluated_jsonl='{"id": "0", "translation": "x"}\n')
    content = read(str(tmp_path), 5)
    assert len(content.remarks) == (scored == "before")
    assert ("before the last training" in content.outdated) == (scored == "before")
    assert content.evaluation["scores"] == {"BLEU": 5.0}, "the scores are shown all the same"


def test_scores_without_a_model_or_in_no_run_are_not_judged(tmp_path):
    rows = '{"id": "0", "translation": "x"}\n'
    write(tmp_path, evaluation_json='{"model": {"id": "m"}}', evaluated_jsonl=rows)
    assert read(str(tmp_path), 5).outdated == ""
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "model.json").write_text('{"model_id": "other"}')
    write(tmp_path, evaluation_json='{"hypotheses": "x.txt"}')
    assert read(str(tmp_path), 5).outdated == ""


def test_two_sets_have_to_be_told_apart(tmp_path):
    first, second = (translations(tmp_path / "out", model, count) for model, count in (("m", 1), ("n", 2)))
    assert [read(str(tmp_path / "out"), 9, fingerprint).total for fingerprint in (first, second)] == [1, 2]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "has nothing to show"),
        ({"run_json": "{}", "samples_jsonl": '{"epoch": 1}\n'}, "has nothing to show"),
        ({"evaluation_json": "{"}, "has a damaged file"),
        ({"metrics_jsonl": "3\n"}, r"metrics\.jsonl has 3, expected a JSON object"),
        ({"run_json": "[1]"}, r"run\.json has \[1\], expected a JSON object"),
    ],
    ids=str,
)
def test_what_cannot_be_shown(tmp_path, files, message):
    write(tmp_path, **files)
    with pytest.raises(UserError, match=message):
        read(str(tmp_path), 5)


def test_samples_of_a_few_epochs_from_the_first_to_the_last():
    samples = [{"epoch": epoch, "id": id_, "text": f"{id_}{epoch}"} for epoch in range(1, 10) for id_ in "ab"]
    stages = by_epoch(samples, "id", "text")
    assert stages == {id_: [(epoch, f"{id_}{epoch}") for epoch in (1, 3, 5, 7, 9)] for id_ in "ab"}
    assert by_epoch(samples[:2], "id", "text") == {}
    assert by_epoch([], "id", "text") == {}
