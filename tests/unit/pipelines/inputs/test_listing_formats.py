"""Files that list pictures, and listings that are saved."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.errors import UserError
from pipelines.inputs import listing
from pipelines.inputs.listing import Listing
from pipelines.inputs.listing_formats import saving
from tests.worlds.listings import ids, rows


def test_listings(tree):
    listed = [{"image_id": "two", "file": "b.jpg"}, {"image_id": "one", "file": "a/1.webp"}]
    nothing = {"version": None, "problem": None}
    expected = [
        {"image_id": "two", "uri": str(tree / "b.jpg"), **nothing},
        {"image_id": "one", "uri": str(tree / "a/1.webp"), **nothing},
    ]
    (tree / "l.jsonl").write_text("\n".join(json.dumps({**row, "captions": ["x"]}) for row in listed) + "\n\n")
    (tree / "l.csv").write_text("image_id,split,file\ntwo,train,b.jpg\none,val,a/1.webp\n")
    pq.write_table(pa.Table.from_pylist(listed), tree / "l.parquet")
    for name in ("l.jsonl", "l.csv", "l.parquet"):
        assert rows(tree / name) == expected


def test_listing_of_lines(tree, tmp_path):
    (tree / "l.txt").write_text("b.jpg\r\n\n  a/1.webp  \n/else/where.jpg\ns3://bucket/x.jpg\n")
    assert {row["image_id"]: row["uri"] for row in rows(tree / "l.txt")} == {
        "b.jpg": str(tree / "b.jpg"),
        "a/1.webp": str(tree / "a/1.webp"),
        "/else/where.jpg": "/else/where.jpg",
        "s3://bucket/x.jpg": "s3://bucket/x.jpg",
    }


def test_a_byte_order_mark_and_a_spreadsheets_blanks(tree):
    (tree / "l.csv").write_text("\ufefffile, caption\nb.jpg, one\n", encoding="utf-8")
    assert ids(tree / "l.csv") == ["b.jpg"]


def test_a_json_line_may_leave_its_id_open(tree):
    (tree / "l.jsonl").write_text('{"file": "b.jpg", "image_id": null}')
    assert ids(tree / "l.jsonl") == ["b.jpg"]


def test_a_listing_may_say_versions(tree):
    (tree / "l.csv").write_text("file,version\nb.jpg,7\na.jpg,\n")
    (tree / "l.jsonl").write_text('{"file": "b.jpg", "version": 7}\n{"file": "a.jpg"}')
    for name in ("l.csv", "l.jsonl"):
        assert [row["version"] for row in rows(tree / name)] == ["7", None]


def test_a_listing_is_saved_and_reused(tree, tmp_path):
    (tree / "gone.jpg").symlink_to("nowhere.jpg")
    saved = tmp_path / "deep" / "listing.parquet"
    saved.parent.mkdir()
    expected = rows(tree)
    chunks = saving(Listing(str(tree)).chunks(), str(saved))
    next(chunks)
    assert not saved.exists()
    assert list(chunks) == []
    assert rows(saved) == expected
    (tree / "a.jpg").unlink()
    assert rows(saved) == expected


def test_a_listing_that_was_not_finished_is_not_saved(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(listing, "CHUNK_ROWS", 2)
    chunks = saving(Listing(str(tree)).chunks(), str(tmp_path / "l.parquet"))
    next(chunks)
    chunks.close()
    assert not list(tmp_path.glob("l.parquet*"))


def test_a_listing_is_saved_as_what_it_can_be_read_as(tmp_path):
    with pytest.raises(UserError, match="ends in"):
        saving([], str(tmp_path / "l.csv"))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("l.csv", "file\nRome, Italy.jpg\n", r"line 2: 2 cells, expected 1; put what has a comma in quotes"),
        ("l.csv", "file,image_id\n,1\n", "line 2: column file is empty"),
        ("l.jsonl", '{"file": ""}\n', 'line 1: file is "", expected a file.s name'),
        ("l.parquet", [pa.array(["b.jpg", ""])], "row 2: column file is empty"),
        ("l.parquet", [pa.array(["b.jpg"]), pa.array(["c.jpg"])], "has several columns file; expected one of a name"),
    ],
)
def test_a_row_that_names_no_file_is_told(tree, name, content, reason):
    if isinstance(content, str):
        (tree / name).write_text(content)
    else:
        pq.write_table(pa.Table.from_arrays(content, ["file"] * len(content)), tree / name)
    with pytest.raises(UserError, match=reason):
        ids(tree / name)


def test_an_empty_id_is_none(tree):
    (tree / "l.csv").write_text("image_id,file\n,b.jpg\n")
    (tree / "l.jsonl").write_text('{"image_id": "", "file": "b.jpg"}\n')
    pq.write_table(pa.table({"image_id": [""], "file": ["b.jpg"]}), tree / "l.parquet")
    for name in ("l.csv", "l.jsonl", "l.parquet"):
        assert ids(tree / name) == ["b.jpg"]
