import bz2
import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.errors import UserError
from pipelines.files.row_lines import write_rows
from pipelines.inputs import corpus
from pipelines.inputs.corpus import CHUNK_ROWS, Corpus
from tests.worlds.texts import DE, EN, EXPECTED, MARK, lines, read, refused


def test_two_files_line_by_line(tmp_path):
    assert read(lines(tmp_path / "x.en", EN), lines(tmp_path / "x.de", DE)) == EXPECTED


def test_a_last_line_without_an_end_and_windows_ends(tmp_path):
    (tmp_path / "x.en").write_bytes("\r\n".join(EN).encode())
    assert [row[1] for row in read(tmp_path / "x.en")] == EN


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress)])
def test_packed(tmp_path, suffix, pack):
    (tmp_path / f"x.en{suffix}").write_bytes(pack("\n".join(EN).encode()))
    assert [row[1:] for row in read(tmp_path / f"x.en{suffix}")] == [(source, None) for source in EN]


def test_a_byte_order_mark_is_no_text(tmp_path):
    (tmp_path / "x.en").write_bytes(MARK + "a dog\n\ufeffcat\n".encode())
    assert [row[1] for row in read(tmp_path / "x.en")] == ["a dog", "\ufeffcat"]
    (tmp_path / "x.tsv").write_bytes(MARK + b"source\ttarget\na\tb\n")
    assert read(tmp_path / "x.tsv") == [("000000000", "a", "b")]
    (tmp_path / "x.jsonl").write_bytes(MARK + b'{"source": "a"}')
    assert read(tmp_path / "x.jsonl") == [("000000000", "a", None)]


def test_chunks_are_bounded(tmp_path):
    corpus = Corpus(str(lines(tmp_path / "x.en", map(str, range(CHUNK_ROWS + 5)))))
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
        list(Corpus(str(path)).pairs())


def test_translations_are_written_where_text_is_read(bucket, tmp_path):
    rows = [{"translation": line} for line in EN]
    for place in (bucket[0], str(tmp_path)):
        for name in ("x.en", "x.en.gz", "x.en.bz2"):
            write_rows(f"{place}/{name}", [rows[:2], rows[2:]], ("translation",), "--text", "out")
            assert [row[1] for row in read(f"{place}/{name}")] == EN
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.en", "x.en.bz2", "x.en.gz"]
