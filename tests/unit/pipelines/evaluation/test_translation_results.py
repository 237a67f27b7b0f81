"""Translations to be scored: where they come from, and what the training has seen of them."""

import pytest

from pipelines.errors import UserError
from pipelines.evaluation.translation_results import evaluate, from_file, read_references, seen_of
from pipelines.files.row_lines import write_rows
from tests.worlds.texts import lines

WRITTEN = ["ein Hund, der bellt", "eine Katze"]


@pytest.mark.parametrize("suffix", ["txt", "txt.gz", "csv", "tsv", "jsonl", "jsonl.gz"])
@pytest.mark.parametrize("column", ["translation", "target"])
def test_hypotheses_are_read_as_translate_writes_them(tmp_path, suffix, column):
    rows = [{"id": str(n), "source": "a", column: text} for n, text in enumerate(WRITTEN)]
    path = str(tmp_path / f"out.{suffix}")
    write_rows(path, [rows], (column,), "--text", "a store")
    references = str(lines(tmp_path / "de", WRITTEN))
    assert evaluate(from_file(path, [references], None), "13a", None)["scores"]["BLEU"] == pytest.approx(100)


def test_a_column_of_lines_is_refused(tmp_path):
    text, table = str(lines(tmp_path / "de", WRITTEN)), str(lines(tmp_path / "x.tsv", ["de", *WRITTEN]))
    with pytest.raises(UserError, match=r"--column de names a column of a table, and .* is read as lines of text"):
        read_references([text], "de")
    assert [both for _, both in read_references([table, text], "de")] == [[one, one] for one in WRITTEN]


def test_sentences_that_chose_the_epoch_are_counted(tmp_path):
    (tmp_path / "val.en").write_text("a dog\na cat\n")
    section = {"validation_source": str(tmp_path / "val.en"), "columns": ["source", "target"]}
    assert seen_of(section, ["a cat", "a bird", "a dog"]) == {"trained_on": 0, "chose_epoch": 2}
    assert seen_of(section, ["a bird"]) == {"trained_on": 0, "chose_epoch": 0}
    assert seen_of(section | {"validation_source": str(tmp_path / "gone")}, ["a cat"]) is None
    assert seen_of({}, ["a cat"]) is None
