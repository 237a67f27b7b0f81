"""Each format of text, as a corpus reads it."""

import csv
import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.errors import UserError
from pipelines.files.text import PACKED
from pipelines.inputs.corpus import Corpus
from tests.worlds.texts import DE, EN, EXPECTED, lines, read, refused


@pytest.mark.parametrize("header", [False, True])
def test_tsv(tmp_path, header):
    pairs = [f"{source}\t{target}" for source, target in zip(EN, DE, strict=True)]
    assert read(lines(tmp_path / "x.tsv", ["source\ttarget"] * header + pairs)) == EXPECTED


def test_tsv_by_names_and_with_ids(tmp_path):
    path = lines(tmp_path / "x.tsv", ["de\tid\ten", "ein Hund\tfirst\ta dog"])
    assert read(path, columns=("en", "de")) == [("first", "a dog", "ein Hund")]


CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5), st.sampled_from([csv.excel, csv.unix_dialect]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_csv_is_what_was_written(tmp_path, pairs, dialect):
    with (tmp_path / "x.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, dialect).writerows([("de", "en"), *pairs])
    rows = read(tmp_path / "x.csv", columns=("en", "de"))
    assert rows == [(f"{n:09d}", en, de) for n, (de, en) in enumerate(pairs)]


def test_csv_packed_with_ids_and_blank_lines(tmp_path):
    (tmp_path / "x.csv.gz").write_bytes(
        gzip.compress(b'\xef\xbb\xbfid,source\r\na,"two, with ""quotes"""\r\n\r\nb,\r\n')
    )
    assert read(tmp_path / "x.csv.gz") == [("a", 'two, with "quotes"', None), ("b", "", None)]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("a dog\n", "no column 'source'; its first line has a dog, and is expected to be column names"),
        ("source;target\na;b\n", "no column 'source'; its first line has source;target"),
        ("source,target\na\n", "line 2 of"),
        ("source\na, b\n", "has 2 columns, expected 1: source"),
        ('source\n"a\nb\n', "are its quotes closed"),
        ("", "has no row with a sentence"),
        ("source\n", "has no row with a sentence"),
    ],
)
def test_csv_that_is_none(tmp_path, content, reason):
    (tmp_path / "x.csv").write_text(content)
    assert reason in refused(tmp_path / "x.csv")


def test_jsonl(tmp_path):
    rows = [{"id": 7, "source": "a dog", "target": "ein Hund"}, {"source": "a cat"}]
    found = read(lines(tmp_path / "x.jsonl", map(json.dumps, rows)))
    assert found == [("7", "a dog", "ein Hund"), ("000000001", "a cat", None)]
    assert read(lines(tmp_path / "x.ndjson", map(json.dumps, rows))) == found


def test_blank_lines_of_jsonl_are_no_rows(tmp_path):
    path = lines(tmp_path / "x.jsonl", ['{"source": "a"}', "", " ", '{"source": "b"}', ""])
    assert read(path) == [("000000000", "a", None), ("000000001", "b", None)]


def test_suffixes_may_be_upper_case(tmp_path):
    assert read(lines(tmp_path / "PAIRS.TSV", ["a\tb"])) == [("000000000", "a", "b")]
    for suffix in PACKED:
        path = tmp_path / f"PAIRS.TSV{suffix.upper()}"
        with pa.output_stream(path, compression=pa.Codec.detect(suffix).name) as file:
            file.write(b"a\tb\n")
        assert read(path) == [("000000000", "a", "b")]


def test_parquet(tmp_path):
    pq.write_table(pa.table({"en": EN, "de": DE}), tmp_path / "x.parquet")
    assert read(tmp_path / "x.parquet", columns=("en", "de")) == EXPECTED


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"source": "a \\ud800"}', r"half of a character (a lone surrogate) in 'a \ud800'"),
        ('{"id": "\\udfff", "source": "a"}', "half of a character"),
        ("[" * 100_000, "nested too deeply"),
        ("[]", "not a mapping"),
        ('{"target": "a"}', "'source' is expected to be text"),
        ('{"source": "a", "target": 1}', "'target', too, or left out"),
    ],
)
def test_a_json_line_that_is_no_row(tmp_path, line, reason):
    message = refused(lines(tmp_path / "x.jsonl", ['{"source": "a"}', "", line]))
    assert message.startswith(f"text: line 3 of {tmp_path / 'x.jsonl'} is {line[:60]!r}: ") and reason in message


def test_a_table_that_is_not_utf8(tmp_path):
    broken = pa.StringArray.from_buffers(1, pa.array([0, 1], pa.int32()).buffers()[1], pa.py_buffer(b"\xff"))
    pq.write_table(pa.table({"source": broken}), tmp_path / "x.parquet")
    assert "x.parquet cannot be read: 'utf-8'" in refused(tmp_path / "x.parquet")


def test_how_the_first_line_of_a_table_is_read_is_said(tmp_path):
    named = lines(tmp_path / "named.tsv", ["en\tde", "a dog\tein Hund"])
    for option, columns in (("data.columns", "'en' and 'de' are read"), ("--column", "'en' is read")):
        told = Corpus(str(named), columns=("en", "de"), option=option).file.describe()
        assert told.endswith(f"has the names of columns; {columns}.")
    bare = Corpus(str(named), option="--column").file.describe()
    assert (
        "the first line is a sentence, 'en'. If these are names: Name the text's column: --column en (or de)." in bare
    )
    in_training = Corpus(str(named)).file.describe()
    assert "data.columns=[SOURCE,TARGET]" in in_training and "--column" not in in_training, "which train has not"
    assert Corpus(str(lines(tmp_path / "empty.tsv", [])), option="--column").file.describe() == ""
    rows = lines(tmp_path / "rows.tsv", ["test-0000\tBoy doing tricks\tJunge macht Kunststücke"])
    with pytest.raises(UserError, match=r"--column NAME\. A table with ids needs a line with the names"):
        Corpus(str(rows), option="--column").file.describe()
    assert Corpus(str(lines(tmp_path / "plain.en", ["a dog"]))).file.describe() == ""
    with pytest.raises(UserError, match="no column 'eng': its first line is en, de; expected"):
        list(Corpus(str(named), columns=("eng", "de")).chunks())


def references(path, column="target"):
    return [
        (row["id"], row["target"]) for row in Corpus.of_references(str(path), column).chunks().__next__().to_pylist()
    ]


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
@pytest.mark.parametrize("column", ["target", "de"])
def test_references_need_no_source(tmp_path, kind, column):
    path = tmp_path / f"refs.{kind}"
    rows = [{"id": name, column: line} for name, line in zip("abc", DE, strict=True)]
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif kind == "jsonl":
        lines(path, map(json.dumps, rows))
    else:
        between = {"csv": ",", "tsv": "\t"}[kind]
        lines(path, [f"id{between}{column}", *(between.join(row.values()) for row in rows)])
    assert references(path, column) == list(zip("abc", DE, strict=True))
    with pytest.raises(UserError) as error:
        references(path, "other")
    assert "'other'" in str(error.value) and f"Name the references' column: --column {column}." in str(error.value)


def test_a_tsv_of_references_without_names_has_them_in_its_last_column(tmp_path):
    one, two = lines(tmp_path / "one.tsv", DE), lines(tmp_path / "two.tsv", map("\t".join, zip(EN, DE, strict=True)))
    assert [line for _, line in references(one)] == [line for _, line in references(two)] == DE
    assert "is a sentence, 'ein Hund'" in Corpus.of_references(str(two)).file.describe()
    with pytest.raises(UserError, match=r"line 2 of .* has 2 columns, expected 1: target"):
        references(lines(tmp_path / "mixed.tsv", ["a", "a\tb"]))


@pytest.mark.parametrize("first", ["id\ten\tde", "id\ten"])
def test_column_names_that_have_not_the_texts_are_no_sentence(tmp_path, first):
    path = str(lines(tmp_path / "x.tsv", [first, first]))
    asked = Corpus(path, option="--column")
    for read_first in (asked.file.describe, lambda: list(asked.chunks())):
        with pytest.raises(UserError) as error:
            read_first()
        assert f"its first line is {first.replace(chr(9), ', ')}; expected" in str(error.value)
        assert "or source and target. Name the text's column: --column en" in str(error.value)
    assert "Name both columns: data.columns=[SOURCE,TARGET]." in refused(path)
    assert "Call that column 'source', or give lines" in refused(path, option="")


def test_a_parquet_file_with_two_columns_of_a_name_is_told(tmp_path):
    twice = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"]), pa.array(["c"])], ["source", "source", "target"])
    pq.write_table(twice, tmp_path / "p.parquet")
    with pytest.raises(UserError, match="has several columns source; expected one of a name"):
        list(Corpus(str(tmp_path / "p.parquet")).chunks())
