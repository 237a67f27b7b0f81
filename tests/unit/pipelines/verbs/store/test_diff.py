"""``rnncond store diff``, what it writes, and the report's section of it."""

from __future__ import annotations

import html
import json
import re
import shlex
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from PIL import Image

from feature_store import Store
from pipelines.verbs.store import diff
from pipelines.verbs.translate import schema_of
from tests.worlds.captioned import caption_set
from tests.worlds.command import rnncond


def page_of() -> str:
    return Path("s/report.html").read_text(encoding="utf-8")


@pytest.fixture
def sets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    for name in "abc":
        Image.new("RGB", (40, 30), "teal").save(tmp_path / "images" / f"{name}.jpg")
    places = {"folder": str(tmp_path / "images")}
    old = caption_set(tmp_path / "s", "old", {"a": "a dog", "b": "a <b>cat</b>", "c": "a cow"}, **places)
    new = caption_set(tmp_path / "s", "new", {"a": "a dog", "b": "two cats", "c": "a cow lies"}, -0.5, **places)
    return old.fingerprint, new.fingerprint


def test_counts_and_examples(sets, capsys):
    assert rnncond("store", "diff", "s", "--set", sets[0], "--set", "current", "--json") == 0
    told = capsys.readouterr()
    found = json.loads(told.out.splitlines()[-1])
    assert (found["same"], found["changed"], found["added"], found["removed"]) == (1, 2, 0, 0)
    assert (found["before"], found["after"], found["mean_score_move"]) == (*sets, 0.5)
    assert "- a <b>cat</b>\n  + two cats" in told.err and "a dog" not in told.err
    assert "differences; --count" not in told.err, "all are shown"
    assert rnncond("store", "diff", "s", "--set", sets[0], "--set", "current", "--count", 1) == 0
    assert "1 of 2 differences; --count shows more" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", diff.FORMATS)
def test_all_that_changed_in_a_file(sets, tmp_path, suffix):
    file = tmp_path / f"changed{suffix}"
    assert rnncond("store", "diff", "s", "--set", sets[0], "--set", sets[1], "--to", file, "--count", 0) == 0
    readers = {
        ".parquet": lambda: pq.read_table(file).to_pylist(),
        ".csv": lambda: pyarrow.csv.read_csv(file).to_pylist(),
        ".json": lambda: [json.loads(line) for line in file.read_text().splitlines()],
    }
    rows = readers[suffix]()
    assert [(row["id"], row["before"], row["after"]) for row in rows] == [
        ("b", "a <b>cat</b>", "two cats"),
        ("c", "a cow", "a cow lies"),
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "current"], "--set is expected twice"),
        (["--set", "beef", "--set", "current"], "no set beef; it has"),
        (["--set", "current", "--set", "current", "--to", "x.xls"], "ends in .parquet"),
        (["--set", "OLD", "--set", "current", "--to", "nowhere/x.csv"], "cannot be written"),
    ],
)
def test_mistakes(sets, capsys, words, message):
    assert rnncond("store", "diff", "s", *(sets[0] if word == "OLD" else word for word in words)) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_the_report_shows_both_beside_the_picture(sets, capsys):
    assert rnncond("report", "s", "--compare", sets[0]) == 0
    page = page_of()
    section = page[page.index('<section id="changed">') : page.index('<section id="examples">')]
    assert section.count("<article") == 2 and "a &lt;b&gt;cat&lt;/b&gt;" in section and "two cats" in section
    assert "1 same, 2 changed" in section and 'aria-label="picture b"' in section
    assert rnncond("report", "s", "--compare", "beef") == 2
    for words in (("report", "s", "--compare", "current"), ("store", "diff", "s", "--set", sets[0], "--set", sets[0])):
        capsys.readouterr()
        assert rnncond(*words) == 2
        assert f"also has {sets[words[0] == 'store']}" in capsys.readouterr().err


def test_the_report_follows_the_current_set(sets, tmp_path, capsys):
    captions = tmp_path / "captions.jsonl"
    lines = [{"image_id": id_, "file": f"{id_}.jpg", "split": "val", "captions": ["a dog"]} for id_ in "abc"]
    captions.write_text("\n".join(map(json.dumps, lines)))
    assert rnncond("store", "use", "s", sets[0]) == 0
    assert rnncond("evaluate", "--captions", "s", "--references", captions, "--tokenizer", "simple") == 0
    assert rnncond("report", "s") == 0
    scored = page_of()
    assert "a cow lies" not in scored and "CIDEr" in scored
    assert rnncond("store", "use", "s", "newest") == 0
    assert rnncond("report", "s") == 0
    page = page_of()
    assert "a cow lies" in page and "are of another set" in page
    (tmp_path / "images" / "b.jpg").unlink()
    assert rnncond("report", "s") == 0
    assert "Pictures that are no longer where they were read, removed since, or moved: 1 (" in page_of()
    command = shlex.split(html.unescape(re.search(r"`(rnncond evaluate .*?)`", page)[1]))
    assert rnncond(*command[1:], "--tokenizer", "simple") == 0, "as it is printed"
    assert rnncond("report", "s") == 0
    assert "are of another set" not in Path("s/report.html").read_text(encoding="utf-8")


def translation_set(model: str, said: dict[str, tuple[str, str]], score: float = -1.0) -> str:
    """A set of translations by id, each with its sentence before it; its fingerprint."""
    rows = [
        {
            "id": id_, "source": source, "version": source, "translation": translation, "score": score,
            "log_prob": score, "nbest": [{"translation": translation, "score": score}], "model": model, "cut": False,
        }
        for id_, (source, translation) in said.items()
    ]  # fmt: skip
    recipe = {"model": model, "system": "encdec", "search": {"beam": 1}, "lowercase": False}
    made = Store("t").dataset("translations", recipe, schema_of(attention=False), id_column="id")
    with made.begin() as term:
        term.handle.commit(term.handle.part_name(said), pa.Table.from_pylist(rows, made.schema))
    made.store.completed(made)
    return made.fingerprint


def test_the_report_of_translations_follows_the_rows_of_the_set(tmp_path, monkeypatch, capsys):
    """Scores of a part of the set stay, until a sentence is added."""
    monkeypatch.chdir(tmp_path)
    translation_set("m", {id_: (f"satz {id_}", f"sentence {id_}") for id_ in "abc"})
    Path("people.tsv").write_text("id\ttarget\na\tsentence a\nb\tsentence b")
    evaluate = ("evaluate", "--translations", "t", "--references", "people.tsv")
    assert rnncond(*evaluate) == 0
    for added, kept in (({}, True), ({"d": ("satz d", "sentence d")}, False)):
        if added:
            translation_set("m", added)
        capsys.readouterr()
        assert rnncond("report", "t") == 0
        told, page = " ".join(capsys.readouterr().out.split()), Path("t/report.html").read_text(encoding="utf-8")
        assert (f"Next: rnncond {' '.join(evaluate)}" in told) == (not kept)
        assert ("The scores are of" in page, "satz d" in page) == (kept, not kept)
    assert "sentences 4" in told


def test_of_translations_the_source_is_shown(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    old, new = (translation_set(name, {"1": ("ein Hund bellt", f"{name} barks")}) for name in ("old", "new"))
    assert rnncond("store", "diff", "t", "--set", old, "--set", new, "--to", "x.json") == 0
    assert "beside each sentence" in " ".join(capsys.readouterr().out.split())
    assert json.loads(Path("x.json").read_text())["source"] == "ein Hund bellt"
    assert rnncond("report", "t", "--compare", old) == 0
    # Once with the translation of now, once with both.
    assert Path("t/report.html").read_text(encoding="utf-8").count("ein Hund bellt") == 2


def test_what_changed_has_its_references_too_and_is_counted_once(sets, tmp_path, capsys):
    """Three pictures, or sentences, of which two changed and are shown in both sections."""
    lines = [{"image_id": id_, "file": f"{id_}.jpg", "split": "val", "captions": [f"people of {id_}"]} for id_ in "abc"]
    Path("people.jsonl").write_text("\n".join(map(json.dumps, lines)))
    old = translation_set("old", {id_: (f"satz {id_}", f"old {id_}") for id_ in "abc"})
    translation_set("new", {id_: (f"satz {id_}", "old a" if id_ == "a" else f"new {id_}") for id_ in "abc"})
    Path("people.tsv").write_text("\n".join(["id\ttarget", *(f"{id_}\tpeople of {id_}" for id_ in "abc")]))
    for out, before, people, unit in (
        ("s", sets[0], "people.jsonl", "pictures"),
        ("t", old, "people.tsv", "sentences"),
    ):
        for count in ("3", "1"):  # of one, that which changed is another than the example
            capsys.readouterr()
            words = ("report", out, "--compare", before, "--data", people, "--count", count, "--json")
            assert rnncond(*words) == 0
            found = json.loads(capsys.readouterr().out.splitlines()[-1])
            page = Path(out, "report.html").read_text(encoding="utf-8")
            changed = page[page.index('<section id="changed">') : page.index('<section id="examples">')]
            shown = 3 if count == "3" else 2
            assert found[unit] == shown and found["references"] == f"{shown} of {shown} {unit} have some"
            assert changed.count("people of ") == changed.count("<article") == shown - 1


def test_a_translation_of_another_sentence_is_told_with_both_sentences(tmp_path, monkeypatch, capsys):
    """Of sentence 2, edited between the sets, the scores of the two translations are not compared."""
    monkeypatch.chdir(tmp_path)
    same = {"1": ("ein Hund bellt", "a dog barks")}
    old = translation_set("old", same | {"2": ("eine Katze", "a cat")})
    new = translation_set("new", same | {"2": ("zwei Hühner", "two hens"), "3": ("ein Esel", "a donkey")}, -0.25)
    for suffix in (".json", ".parquet"):
        words = ("store", "diff", "t", "--set", old, "--set", new, "--to", f"x{suffix}", "--json")
        assert rnncond(*words) == 0
    told = capsys.readouterr()
    found = json.loads(told.out.splitlines()[-1])
    assert [found[name] for name in ("same", "changed", "added", "removed", "input_changed")] == [1, 0, 1, 0, 1]
    assert found["mean_score_move"] == 0.75
    assert "2  (input changed)\n  source before: eine Katze\n  source after:  zwei Hühner\n  - a cat" in told.err
    rows = [json.loads(line) for line in Path("x.json").read_text().splitlines()]
    assert rows == pq.read_table("x.parquet").to_pylist()
    assert [(row["id"], row["change"], row["source_before"], row["source"]) for row in rows] == [
        ("2", "input changed", "eine Katze", "zwei Hühner"),
        ("3", "added", None, "ein Esel"),
    ]
    assert rnncond("report", "t", "--set", new, "--compare", old) == 0
    page = Path("t/report.html").read_text(encoding="utf-8")
    section = page[page.index('<section id="changed">') : page.index('<section id="examples">')]
    assert "1 same, 1 added, 1 input changed" in section
    assert section.count("source before") == 1 and section.count("eine Katze") == 1


def test_a_caption_of_another_version_of_the_picture_says_so(tmp_path, sets, capsys):
    places = {"folder": str(tmp_path / "images"), "versions": {"b": "2"}}
    newest = caption_set(tmp_path / "s", "newest", {"a": "a dog", "b": "two cats", "c": "a calf"}, **places)
    assert rnncond("store", "diff", "s", "--set", sets[1], "--set", newest.fingerprint) == 0
    assert "b  (input changed)\n  - two cats\n  + two cats\nc\n  - a cow lies" in capsys.readouterr().out
    assert rnncond("report", "s", "--compare", sets[1]) == 0
    assert page_of().count("before, of another version of the picture") == 1
    assert "1 same, 1 changed, 1 input changed" in page_of()
