import bz2
import csv
import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.errors import UserError
from pipelines.files.row_lines import write_rows
from pipelines.inputs import corpus
from pipelines.inputs.corpus import CHUNK_ROWS, PACKED, Corpus

EN, DE = ["a dog", "", "two cats\u2028run"], ["ein Hund", "", "zwei Katzen"]


def read(*arguments, **settings) -> list[tuple]:
    corpus = Corpus.open(*map(str, arguments), **settings)
    return [tuple(row.values()) for chunk in corpus.chunks() for row in chunk.to_pylist()]


def lines(path, sentences):
    path.write_text("".join(f"{sentence}\n" for sentence in sentences), encoding="utf-8")
    return path


EXPECTED = [(f"{n:09d}", *pair) for n, pair in enumerate(zip(EN, DE, strict=True))]


def test_two_files_line_by_line(tmp_path):
    assert read(lines(tmp_path / "x.en", EN), lines(tmp_path / "x.de", DE)) == EXPECTED


def test_a_last_line_without_an_end_and_windows_ends(tmp_path):
    (tmp_path / "x.en").write_bytes("\r\n".join(EN).encode())
    assert [row[1] for row in read(tmp_path / "x.en")] == EN


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress)])
def test_packed(tmp_path, suffix, pack):
    (tmp_path / f"x.en{suffix}").write_bytes(pack("\n".join(EN).encode()))
    assert [row[1:] for row in read(tmp_path / f"x.en{suffix}")] == [(source, None) for source in EN]


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
        ("", "has no line"),
        ("source\n", "has no line"),
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


MARK = "\ufeff".encode()


def test_a_byte_order_mark_is_no_text(tmp_path):
    (tmp_path / "x.en").write_bytes(MARK + "a dog\n\ufeffcat\n".encode())
    assert [row[1] for row in read(tmp_path / "x.en")] == ["a dog", "\ufeffcat"]
    (tmp_path / "x.tsv").write_bytes(MARK + b"source\ttarget\na\tb\n")
    assert read(tmp_path / "x.tsv") == [("000000000", "a", "b")]
    (tmp_path / "x.jsonl").write_bytes(MARK + b'{"source": "a"}')
    assert read(tmp_path / "x.jsonl") == [("000000000", "a", None)]


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


def test_chunks_are_bounded(tmp_path):
    corpus = Corpus.open(str(lines(tmp_path / "x.en", map(str, range(CHUNK_ROWS + 5)))))
    chunks = list(corpus.chunks())
    assert [chunk.num_rows for chunk in chunks] == [CHUNK_ROWS, 5]
    assert chunks[1]["id"][4].as_py() == f"{CHUNK_ROWS + 4:09d}"


def test_the_digest_is_of_the_content(tmp_path):
    one, two = lines(tmp_path / "one", EN), lines(tmp_path / "two", DE)
    assert Corpus(str(one)).digest == Corpus(str(lines(tmp_path / "same", EN))).digest
    assert len({Corpus(str(one)).digest, Corpus(str(two)).digest, Corpus(str(one), str(two)).digest}) == 3


def table(folder, kind, ids):
    """A file of ``kind`` with the ids, and other text in every row."""
    path = folder / f"x.{kind}"
    if kind == "parquet":
        pq.write_table(pa.table({"id": ids, "source": [f"s{n}" for n in range(len(ids))]}), path)
    elif kind in ("csv", "tsv"):
        between = {"csv": ",", "tsv": "\t"}[kind]
        lines(path, [f"id{between}source", *(f"{name}{between}s{n}" for n, name in enumerate(ids))])
    else:
        lines(path, (json.dumps({"id": name, "source": f"s{n}"}) for n, name in enumerate(ids)))
    return path


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
@pytest.mark.parametrize("rows_a_chunk", [1, 100])
def test_two_rows_of_one_id_are_refused(tmp_path, kind, rows_a_chunk, monkeypatch):
    monkeypatch.setattr(corpus, "CHUNK_ROWS", rows_a_chunk)
    names = [str(number) for number in range(20)]
    assert [row[0] for row in read(table(tmp_path, kind, names))] == names
    assert "row 21 of" in (message := refused(table(tmp_path, kind, [*names, "3"])))
    assert "the id '3', as another row has" in message


def test_an_id_that_is_the_number_of_another_row_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "CHUNK_ROWS", 1)
    rows = [{"source": "a"}, {"source": "b"}, {"id": "000000000", "source": "c"}]
    assert "row 3 of" in refused(lines(tmp_path / "x.jsonl", map(json.dumps, rows)))


@pytest.mark.parametrize(
    ("kind", "ids", "place"),
    [
        ("csv", ["a", ""], "line 3 of"),
        ("tsv", ["a", ""], "line 3 of"),
        ("jsonl", ["a", ""], "line 2 of"),
        ("jsonl", ["a", None], "line 2 of"),
        ("jsonl", ["a", True], "line 2 of"),
        ("jsonl", ["a", ["b"]], "line 2 of"),
        ("parquet", ["a", ""], "row 2 of"),
        ("parquet", ["a", None], "row 2 of"),
    ],
)
def test_an_id_that_is_none_is_refused(tmp_path, kind, ids, place):
    message = refused(table(tmp_path, kind, ids))
    assert place in message and "expected text or a whole number, or no ids at all" in message


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


def refused(*arguments, **settings) -> str:
    with pytest.raises(UserError) as error:
        read(*arguments, **settings)
    return str(error.value)


@pytest.mark.parametrize("extra", ["en", "de"])
def test_files_of_different_length(tmp_path, extra):
    paths = {"en": lines(tmp_path / "x.en", EN), "de": lines(tmp_path / "x.de", DE)}
    with open(paths[extra], "a") as file:
        file.write("one\nmore\n")
    message = refused(paths["en"], paths["de"])
    assert f"x.{extra} has 5 lines" in message and "has 3" in message


def test_what_cannot_be_read(tmp_path):
    assert "there is no file" in refused(tmp_path / "no.en")
    empty = tmp_path / "empty"
    empty.touch()
    assert "has no line" in refused(empty)
    (tmp_path / "latin").write_bytes("gut\nschön\n".encode("latin-1"))
    assert "latin: line 2 is not text in UTF-8" in refused(tmp_path / "latin")
    (tmp_path / "latin.tsv").write_bytes("gut\tgood\nschön\tfine\n".encode("latin-1"))
    assert "line 2 is not text" in refused(tmp_path / "latin.tsv")
    whole = gzip.compress(bytes(range(256)).hex().encode() * 50)
    (tmp_path / "cut.gz").write_bytes(whole[: len(whole) // 2])
    assert "cut.gz cannot be read" in refused(tmp_path / "cut.gz")
    (tmp_path / "not.parquet").write_bytes(b"PAR1 no")
    assert "not.parquet cannot be read" in refused(tmp_path / "not.parquet")
    pq.write_table(pa.table({"en": EN}), tmp_path / "x.parquet")
    assert "no column 'source'; it has en" in refused(tmp_path / "x.parquet")
    assert "line 2 of" in refused(lines(tmp_path / "x.jsonl", ['{"source": "a"}', "[]"]))
    assert "has 3 columns, expected 2" in refused(lines(tmp_path / "x.tsv", ["a\tb", "a\tb\tc"]))
    assert "Give the table alone" in refused(tmp_path / "x.tsv", tmp_path / "latin")
    assert "x.xlsx is a .xlsx file, which is not read" in refused(lines(tmp_path / "x.xlsx", EN))


def test_pairs_need_both_sides(tmp_path):
    path = lines(tmp_path / "x.tsv", ["a\tb", "c"])
    with pytest.raises(UserError, match=r"row 2 .* has no 'target'"):
        list(Corpus.open(str(path)).pairs())


def test_translations_are_written_where_text_is_read(bucket, tmp_path):
    rows = [{"translation": line} for line in EN]
    for place in (bucket[0], str(tmp_path)):
        for name in ("x.en", "x.en.gz", "x.en.bz2"):
            write_rows(f"{place}/{name}", [rows[:2], rows[2:]], ("translation",), "--text", "out")
            assert [row[1] for row in read(f"{place}/{name}")] == EN
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.en", "x.en.bz2", "x.en.gz"]


def test_how_the_first_line_of_a_table_is_read_is_said(tmp_path):
    named = lines(tmp_path / "named.tsv", ["en\tde", "a dog\tein Hund"])
    assert "has the names of columns; 'en' is read" in Corpus.open(str(named), columns=("en", "de")).describe()
    bare = Corpus.open(str(named)).describe()
    assert "the first line is a sentence, 'en'" in bare and "--column en" in bare
    assert Corpus.open(str(lines(tmp_path / "plain.en", ["a dog"]))).describe() == ""
    with pytest.raises(UserError, match="no column 'eng': its first line is en, de; expected"):
        list(Corpus.open(str(named), columns=("eng", "de")).chunks())


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
    assert "is a sentence, 'ein Hund'" in Corpus.of_references(str(two)).describe()
    with pytest.raises(UserError, match=r"line 2 of .* has 2 columns, expected 1: target"):
        references(lines(tmp_path / "mixed.tsv", ["a", "a\tb"]))


@pytest.mark.parametrize("first", ["id\ten\tde", "id\ten"])
def test_column_names_that_have_not_the_texts_are_no_sentence(tmp_path, first):
    path = str(lines(tmp_path / "x.tsv", [first, first]))
    asked = Corpus.open(path, option="--column")
    for read_first in (asked.describe, lambda: list(asked.chunks())):
        with pytest.raises(UserError) as error:
            read_first()
        assert f"its first line is {first.replace(chr(9), ', ')}; expected" in str(error.value)
        assert "or source and target. Name the text's column: --column en" in str(error.value)
    assert "Name both columns: data.columns=[SOURCE,TARGET]." in refused(path)
    assert "Call that column 'source', or give lines" in refused(path, option="")
