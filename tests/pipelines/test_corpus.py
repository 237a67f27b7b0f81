import bz2
import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import translation_lines
from pipelines.console import UserError
from pipelines.corpus import CHUNK_ROWS, Corpus

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


def test_jsonl(tmp_path):
    rows = [{"id": 7, "source": "a dog", "target": "ein Hund"}, {"source": "a cat"}]
    found = read(lines(tmp_path / "x.jsonl", map(json.dumps, rows)))
    assert found == [("7", "a dog", "ein Hund"), ("000000001", "a cat", None)]


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
    assert "line 2 of" in refused(tmp_path / "latin")
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


def test_pairs_need_both_sides(tmp_path):
    path = lines(tmp_path / "x.tsv", ["a\tb", "c"])
    with pytest.raises(UserError, match=r"row 2 .* has no 'target'"):
        list(Corpus.open(str(path)).pairs())


def test_translations_are_written_where_text_is_read(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(translation_lines, "translated", lambda *_: iter([EN[:2], EN[2:]]))
    for place in (bucket[0], str(tmp_path)):
        for name in ("x.en", "x.en.gz", "x.en.bz2"):
            translation_lines.write_lines(None, None, f"{place}/{name}")
            assert [row[1] for row in read(f"{place}/{name}")] == EN
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.en", "x.en.bz2", "x.en.gz"]
