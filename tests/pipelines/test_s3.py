"""Pictures and listings in a real S3 server (``bucket``)."""

import io
import tarfile

import hostile
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store import Index, Store, verify
from pipelines import fetch
from pipelines.console import UserError
from pipelines.listing import Listing
from pipelines.listing_files import saving

PICTURES = {"a/1.jpg": b"one", "a/2 ü#?%20.PNG": b"two", "b.jpg": b"three", "notes.txt": b"b.jpg\na/1.jpg\n"}


def listed(images: str) -> list[dict]:
    return [row for chunk in Listing(images).chunks() for row in chunk.to_pylist()]


def test_prefixes_globs_and_listings(bucket):
    uri, put = bucket
    for name, data in PICTURES.items():
        put(f"p/{name}", data)
    whole = Listing(f"{uri}/p/")
    rows = [row for chunk in whole.chunks() for row in chunk.to_pylist()]
    assert [row["image_id"] for row in rows] == ["a/1.jpg", "a/2 ü#?%20.PNG", "b.jpg"]
    assert whole.ignored == 1
    for row in rows:
        assert fetch.read(row["uri"]) == (row["version"], PICTURES[row["image_id"]])
    assert [row["image_id"] for row in listed(f"{uri}/p/a/*.jpg")] == ["1.jpg"]
    assert [row["uri"] for row in listed(f"{uri}/p/notes.txt")] == [f"{uri}/p/b.jpg", f"{uri}/p/a/1.jpg"]
    with pytest.raises(fetch.ReadError, match="no such file"):
        fetch.read(f"{uri}/p/gone.jpg")
    with pytest.raises(UserError, match="no file or folder"):
        listed(f"{uri}/nothing/")


def test_a_picture_takes_two_requests(bucket, caplog):
    uri, put = bucket
    put("a.jpg", b"picture")
    fetch.read(f"{uri}/a.jpg")  # the bucket is known from now on
    with caplog.at_level("INFO", logger="werkzeug"):
        caplog.clear()
        assert fetch.read(f"{uri}/a.jpg")[1] == b"picture"
    requests = [record.getMessage() for record in caplog.records if "a.jpg" in record.getMessage()]
    assert len(requests) == 2 and "HEAD" in requests[0] and "GET" in requests[1]


def test_keys_that_cannot_be_read_are_told(bucket):
    uri, put = bucket
    for key in ("p/a.jpg", "p//x.jpg", "p/q//y.jpg"):
        put(key, b"x")
    found = {row["image_id"]: row["problem"] for row in listed(f"{uri}/p")}
    assert found.pop("a.jpg") is None
    assert found.keys() == {"/", "q//"} and all("empty part" in problem for problem in found.values())


def test_a_saved_listing_notices_changes(bucket, tmp_path):
    uri, put = bucket
    put("p/1.jpg", b"old")
    put("p/2.jpg", b"same")
    list(saving(Listing(f"{uri}/p").chunks(), f"{uri}/listing.parquet"))
    before = listed(f"{uri}/listing.parquet")
    assert before == listed(f"{uri}/p")
    put("p/1.jpg", b"newer")
    now = listed(f"{uri}/p")
    assert [old["version"] == new["version"] for old, new in zip(before, now, strict=True)] == [False, True]


def test_shards_and_tables(bucket):
    uri, put = bucket
    tar, table = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        for name in ("plain.jpg", "icc.jpg"):
            info = tarfile.TarInfo(name)
            info.size = len(hostile.SHOWN[name])
            archive.addfile(info, io.BytesIO(hostile.SHOWN[name]))
    pq.write_table(pa.table({"image": [{"bytes": hostile.SHOWN["plain.jpg"], "path": "x"}]}), table)
    put("s/a.tar", tar.getvalue())
    put("s/b.tar", tar.getvalue()[:2000])
    put("t/t.parquet", table.getvalue())
    rows = {row["image_id"]: row for row in listed(f"{uri}/s/*.tar")}
    assert [fetch.read(rows[f"a.tar/{name}"]["uri"])[1] for name in ("plain.jpg", "icc.jpg")] == [
        hostile.SHOWN["plain.jpg"], hostile.SHOWN["icc.jpg"]
    ]  # fmt: skip
    assert "ends inside of 'plain.jpg'" in rows["b.tar"]["problem"]
    (cell,) = listed(f"{uri}/t/t.parquet")
    assert fetch.read(cell["uri"])[1] == hostile.SHOWN["plain.jpg"]


def test_a_store(bucket):
    uri, _ = bucket
    schema = pa.schema([pa.field("image_id", pa.string(), nullable=False)])
    dataset = Store(f"{uri}/store").dataset("test", {}, schema)
    with dataset.begin() as term:
        term.handle.commit(term.handle.part_name("ab"), pa.table({"image_id": ["a", "b"]}, schema=schema))
    with dataset.begin() as term:
        term.handle.commit(term.handle.part_name("c"), pa.table({"image_id": ["c"]}, schema=schema))
    assert verify(dataset).problems == []
    assert (Index.of(dataset.snapshot()).find(pa.chunked_array([["a", "x", "c"]])) >= 0).tolist() == [True, False, True]


def test_hostile_pictures_in_a_bucket(bucket):
    uri, put = bucket
    # No server takes a line feed or a backslash in a key as it is, nor pyarrow an empty part of a path.
    names = [name for name in hostile.CONTENTS if not set(name) & set("\n\t\\")]
    for name in names:
        put(f"h/{name}", hostile.CONTENTS[name])
    found = hostile.outcome_of(Listing(f"{uri}/h"))
    hostile.assert_as_expected(found, {name: hostile.EXPECTED[name] for name in names})
