"""Translations to be scored: where they come from, and what the training has seen of them."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from pipelines.evaluation.translation_results import evaluate, from_file, seen_of, what_to_translate
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


def test_sentences_that_chose_the_epoch_are_counted(tmp_path):
    (tmp_path / "val.en").write_text("a dog\na cat\n")
    section = {"validation_source": str(tmp_path / "val.en"), "columns": ["source", "target"]}
    assert seen_of(section, ["a cat", "a bird", "a dog"]) == {"trained_on": 0, "chose_epoch": 2}
    assert seen_of(section, ["a bird"]) == {"trained_on": 0, "chose_epoch": 0}
    assert seen_of(section | {"validation_source": str(tmp_path / "gone")}, ["a cat"]) is None
    assert seen_of({}, ["a cat"]) is None


def test_a_table_has_the_columns_of_the_training_or_the_usual_ones(tmp_path):
    trained = SimpleNamespace(info={"recipe": {"data": {"columns": ["english", "german"]}}})
    names = {"like": "id,english,german", "usual": "source,target", "half": "english,target"}
    files = {}
    for name, header in names.items():
        files[name] = str(tmp_path / f"{name}.csv")
        Path(files[name]).write_text(header + "\n" + ",".join("abc"[: header.count(",") + 1]) + "\n")

    def columns(source: str, *references: str) -> tuple[str, str]:
        return what_to_translate(trained, "model", files[source], [files[name] for name in references])[2]

    assert columns("like") == ("english", "german")
    assert columns("usual") == ("source", "target")
    assert columns("half") == ("english", "target")
    assert columns("like", "usual") == ("english", "target")
    assert columns("usual", "like") == ("source", "german")
