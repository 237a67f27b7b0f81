"""Translations and references in files: which column is read, and which sentence belongs to which."""

import pytest

from pipelines.errors import UserError
from pipelines.evaluation.translation_files import in_order, read_references
from pipelines.evaluation.translation_results import evaluate, from_file
from tests.worlds.texts import lines

WRITTEN = ["ein Hund, der bellt", "eine Katze"]


def test_a_column_of_lines_is_refused(tmp_path):
    text, table = str(lines(tmp_path / "de", WRITTEN)), str(lines(tmp_path / "x.tsv", ["de", *WRITTEN]))
    with pytest.raises(UserError, match=r"--column de names a column of a table, and .* is read as lines of text"):
        read_references([text], "de")
    assert [both for _, both in read_references([table, text], "de")] == [[one, one] for one in WRITTEN]


def test_sentences_with_ids_are_matched_by_them_and_others_line_by_line(tmp_path):
    people = str(lines(tmp_path / "people.tsv", ["id\ttarget", "a\tein hund bellt laut", "b\tdie katze schläft gern"]))
    backwards = ["id\ttarget", "b\tdie katze schläft gern", "a\tein hund bellt laut"]
    turned = str(lines(tmp_path / "turned.tsv", backwards))
    plain = str(lines(tmp_path / "plain.txt", ["die katze schläft gern", "ein hund bellt laut"]))
    assert evaluate(from_file(turned, [people], None), "13a", None)["scores"]["BLEU"] == pytest.approx(100)
    assert evaluate(from_file(plain, [people], None), "13a", None)["scores"]["BLEU"] < 10
    assert [both for _, both in read_references([people, turned])] == [
        [one, one] for _, (one,) in read_references([people])
    ]
    sources = str(lines(tmp_path / "en.tsv", ["id\tsource", "b\ta cat", "a\ta dog"]))
    assert [(row["id"], row["source"]) for row in from_file(turned, [people], sources).rows] == [
        ("a", "a dog"),
        ("b", "a cat"),
    ]


def test_sentences_of_other_ids_are_refused(tmp_path):
    people = str(lines(tmp_path / "people.tsv", ["id\ttarget", "a\tein hund", "b\teine katze"]))
    others = str(lines(tmp_path / "others.tsv", ["id\ttarget", "a\tein hund", "c\tein vogel"]))
    with pytest.raises(UserError, match=r"others.tsv has no sentence 'b', which .*people.tsv has, and 1 are missing"):
        from_file(others, [people], None)
    assert in_order([("0", 1), ("1", 2)], "lines.txt", ["a", "b"], people) == [("0", 1), ("1", 2)]
