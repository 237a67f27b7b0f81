"""``rnncond translate -``: standard input to standard output, line by line, without Ray."""

from __future__ import annotations

import io
import json
import os
from types import SimpleNamespace

import pyarrow as pa
import pytest
import ray

from feature_store import Store
from pipelines.api import load_translator
from pipelines.api.search_arguments import load_models
from pipelines.inference.translator import prepare
from pipelines.inputs.corpus import Corpus, with_version
from pipelines.verbs import translate
from pipelines.verbs.translate import waiting_lines
from tests.worlds.command import check_mistake, rnncond
from tests.worlds.translator import PAIRS, make_translator, write_text


@pytest.fixture
def model(tmp_path, monkeypatch):
    make_translator(tmp_path / "model")
    monkeypatch.chdir(tmp_path)


def give(monkeypatch, data: bytes) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(data)))


def test_every_line_has_its_line(model, monkeypatch, capsys):
    of_others = ray.is_initialized()  # by a test before this one
    sentences = [*PAIRS, "", "the dog"]
    give(monkeypatch, "\r\n".join(sentences).encode())  # the last has no line break
    assert rnncond("translate", "-", "--model", "model") == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [one.text for one in load_translator("model").translate(sentences)]
    assert shown.err == ""
    assert ray.is_initialized() == of_others


def test_the_lines_stand_before_the_json(model, monkeypatch, capsys):
    give(monkeypatch, b"the dog\n")
    assert rnncond("translate", "-", "--model", "model", "--json") == 0
    line, summary = capsys.readouterr().out.splitlines()
    assert line == load_translator("model").translate("the dog").text
    assert json.loads(summary)["sentences"] == 1


@pytest.mark.parametrize("argument", ["nbest", "samples"])
def test_a_line_has_as_many_as_are_asked_for(model, monkeypatch, capsys, argument):
    give(monkeypatch, b"a red dog runs\na\n")
    asked = {argument: 3} | ({"seed": 1} if argument == "samples" else {"beam": 3})
    words = [word for name, value in asked.items() for word in (f"--{name}", value)]
    limits = ["--max-source-length", 2, "--too-long", "refuse"]
    assert rnncond("translate", "-", "--model", "model", *words, *limits) == 3
    texts = [one.text for one in load_translator("model").translate("a", **asked).alternatives]
    assert len(texts) == 3
    assert capsys.readouterr().out.split("\n") == ["", "", "", *texts, ""]


def test_a_line_without_translation_is_empty_and_told(model, monkeypatch, capsys):
    give(monkeypatch, b"a red dog runs\na\n")
    words = ["-", "--model", "model", "--max-source-length", 2, "--too-long", "refuse"]
    assert rnncond("translate", *words) == 3
    shown = capsys.readouterr()
    assert shown.out.splitlines() == ["", load_translator("model").translate("a").text]
    assert "line 1: 4 tokens" in shown.err


def test_no_line_gives_no_line(model, monkeypatch, capsys):
    give(monkeypatch, b"")
    assert rnncond("translate", "-", "--model", "model") == 0
    assert capsys.readouterr().out == ""


def test_a_program_may_wait_for_each_answer():
    """A line is given before the next one has come; what is there already comes together."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as file, os.fdopen(writing, "wb", buffering=0) as ours:
        lines = waiting_lines(file, 3)
        for number in range(3):
            ours.write(b"line %d\n" % number)
            assert next(lines) == [f"line {number}"]
        ours.close()
        assert list(lines) == []
    many = list(waiting_lines(io.BytesIO(b"a\n" * 10), 3))
    assert sum(map(len, many)) == 10
    assert max(map(len, many)) <= 3


def test_what_is_wrong_is_told(model, monkeypatch, capsys):
    give(monkeypatch, b"a dog\n\xff\n")
    check_mistake(["translate", "-", "--model", "model"], "Line 2 of standard input is no UTF-8", capsys)
    check_mistake(["translate", "-", "--model", "model", "--out", "o"], "--out: | standard output", capsys)
    check_mistake(["translate", "-", "--model", "model", "--attention"], "--attention: | keeps nothing", capsys)
    words = ["translate", "-", "--model", "model", "--dry-run", "--limit", "1", "--wait", "5"]
    check_mistake(words, "--wait and --limit and --dry-run: - translates all lines", capsys)
    check_mistake(["translate", "lines.en", "--model", "model"], "Say --out DIR | lines.en", capsys)


def test_standard_input_that_cannot_be_read_is_told(model, monkeypatch, capsys):
    call = ["translate", "-", "--model", "model"]
    closed = os.open(os.devnull, os.O_WRONLY)  # as nohup gives it
    with open(closed, "rb", buffering=0) as unreadable:
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=unreadable))
        check_mistake(call, "Standard input cannot be read | open for reading", capsys)
    monkeypatch.setattr("sys.stdin", None)
    check_mistake(call, "Standard input is closed | reads its sentences", capsys)


def test_a_byte_order_mark_is_no_word():
    assert list(waiting_lines(io.BytesIO(b"\xef\xbb\xbfa dog\r\n\xef\xbb\xbfa\n"), 3)) == [["a dog", "\ufeffa"]]


def test_a_column_of_lines_is_refused(model, tmp_path, capsys):
    write_text(tmp_path / "en", ["a dog"])
    words = ["translate", "en", "--model", "model", "--out", "o", "--column", "en"]
    check_mistake(words, "--column en names a column of a table | en is read as lines of text", capsys)
    assert not (tmp_path / "o").exists()


def test_cut_sentences_and_older_translations_of_a_file_are_told(model, tmp_path):
    """All sentences have translations already, so nothing is left to do and Ray is not needed."""
    table = write_text(tmp_path / "news.tsv", ["id\tsource", *(f"{n}\t{line}" for n, line in enumerate(PAIRS))])
    translator = prepare(load_models(["model"], None, "cpu"), ["model"], max_source_length=4)
    corpus = Corpus(str(table))
    recipe, schema = translate.recipe_of(translator, corpus), translate.schema_of(False)
    given = with_version(next(corpus.chunks())).to_pylist()
    answers = translator([row["source"] for row in given])
    rows = [{name: (row | one)[name] for name in schema.names} for row, one in zip(given, answers, strict=True)]
    with Store("out").dataset("translations", recipe, schema, id_column="id").begin() as term:
        term.handle.commit("a", pa.Table.from_pylist(rows, schema=schema))
    asked = {"lines": "lines.de", "max_source_length": 4}
    done = translate.run(str(table), "model", "out", **asked)
    assert (done.summary["computed"], done.summary["cut"]) == (0, 1)  # "a man reads a big book" alone has more
    assert "longer than 4 tokens were cut to that many, 1 in all; --max-source-length N" in done.hint
    assert "older translations" not in done.hint and "\nNext: rnncond report" in done.hint
    table.write_text(table.read_text().replace("two birds", "three birds"))
    changed = translate.run(str(table), "model", "out", **asked)
    assert "\nlines.de has the older translations of what changed.\n1 input changed" in changed.hint


def test_a_text_without_ids_is_another_than_before_only_where_sets_with_rows_say_so(model, tmp_path):
    """Not where the same run was broken off before its first rows."""
    translator = prepare(load_models(["model"], None, "cpu"), ["model"])

    def of(*lines):
        recipe = translate.recipe_of(translator, Corpus(str(write_text(tmp_path / "en", lines))))
        return Store("out").dataset("translations", recipe, translate.schema_of(False), id_column="id")

    before = of("a dog")
    before.begin().close()
    assert before.fingerprint in [one.fingerprint for one in before.store.datasets()]
    assert not translate.sets_before_an_edit(of("a dog"))
    assert not translate.sets_before_an_edit(of("a cat"))
    given = with_version(next(Corpus(str(tmp_path / "en")).chunks())).to_pylist()
    rows = [{name: (row | translator([row["source"]])[0])[name] for name in before.schema.names} for row in given]
    with before.begin() as term:
        term.handle.commit("a", pa.Table.from_pylist(rows, schema=before.schema))
    assert [one.fingerprint for one in translate.sets_before_an_edit(of("a cat"))] == [before.fingerprint]
