"""Pictures and listings in a real S3 server (``bucket``)."""

import io
import os
import tarfile
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store import Index, Store, verify
from pipelines.errors import UserError
from pipelines.files import filesystems
from pipelines.inputs import fetch, listing
from pipelines.inputs.listing import Listing
from pipelines.inputs.listing_formats import saving
from pipelines.verbs.store import maintenance
from tests.worlds import hostile
from tests.worlds.listings import rows as listed

pytestmark = pytest.mark.heavy

PICTURES = {"a/1.jpg": b"one", "a/2 ü#?%20.PNG": b"two", "b.jpg": b"three", "notes.txt": b"b.jpg\na/1.jpg\n"}


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


def backend():
    """What the server knows, as it lives in this process."""
    from moto.core import DEFAULT_ACCOUNT_ID
    from moto.s3.models import s3_backends

    return s3_backends[DEFAULT_ACCOUNT_ID]["aws"]


@pytest.fixture
def flat(bucket):
    """A bucket with 3,000 pictures in one folder: ``(uri, names)``."""
    uri, _ = bucket
    names = [f"{number:04d}.jpg" for number in range(3000)]
    for name in names:
        backend().put_object(uri.removeprefix("s3://"), f"p/{name}", b"x")
    return uri, names


def test_a_large_prefix_comes_page_by_page(flat, caplog, monkeypatch):
    """A server gives a thousand names at most; nothing more is asked for before they are used."""
    uri, names = flat
    monkeypatch.setattr(listing, "CHUNK_ROWS", 600)
    found, pages = [], []
    with caplog.at_level("INFO", logger="werkzeug"):
        for chunk in Listing(f"{uri}/p").chunks():
            found += chunk["image_id"].to_pylist()
            asked = [record.getMessage() for record in caplog.records if "list-type=2" in record.getMessage()]
            pages.append(sum("max-keys=1&" not in request for request in asked))  # pyarrow looks whether it is there
    assert found == names
    assert pages == [1, 2, 2, 3, 3]


def test_an_address_with_an_empty_part_is_refused(bucket):
    uri, _ = bucket
    for images in (f"{uri}//x", f"{uri}//*.jpg"):
        with pytest.raises(UserError, match=r"Cannot look at .*Empty path component .* expected names"):
            listed(images)


def test_a_glob_asks_for_the_keys_that_begin_like_it(bucket, caplog):
    uri, put = bucket
    for key in ("p/1/x.jpg", "p/21/x.jpg", "p/2/x.jpg", "p/2/y/x.jpg", "p/2/y//x.jpg", "p/2//x.jpg"):
        put(key, b"x")
    with caplog.at_level("INFO", logger="werkzeug"):
        found = {row["image_id"]: row["problem"] for row in listed(f"{uri}/p/2*/*.jpg")}
    assert found == {"2//": filesystems.EMPTY_PART, "2/x.jpg": None, "21/x.jpg": None}
    asked = [record.getMessage() for record in caplog.records if "list-type=2" in record.getMessage()]
    assert any("prefix=p/2&" in unquote(request) for request in asked), asked


def test_keys_that_stand_for_folders_and_files(bucket):
    uri, put = bucket
    for key in ("p/", "p/a.jpg/", "p/a", "p/a/b.jpg", "p/a-b.jpg", "p/q//x.jpg", "p/q//y.jpg", "pp.jpg"):
        put(key, b"x")
    found = [(row["image_id"], row["problem"] is None) for row in listed(f"{uri}/p")]
    assert found == [("a-b.jpg", True), ("a/b.jpg", True), ("q//", False)]


def test_a_listing_takes_the_address_of_its_uri(bucket, monkeypatch):
    """As a file does that is read: without it, the names of one server would be read from another."""
    uri, put = bucket
    put("p/a.jpg", b"x")
    address = os.environ["AWS_ENDPOINT_URL"].removeprefix("http://")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    images = f"{uri}/p?scheme=http&endpoint_override={address}"
    (row,) = listed(images)
    assert row["uri"] == f"{uri}/p/a.jpg?scheme=http&endpoint_override={address}"
    assert fetch.read(row["uri"]) == (row["version"], b"x")


def test_a_bucket_of_the_public_is_listed_without_credentials(bucket, monkeypatch):
    uri, put = bucket
    put("p/a.jpg", b"x")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    assert [row["image_id"] for row in listed(f"{uri}/p")] == ["a.jpg"]


def test_a_bucket_that_goes_while_it_is_listed(flat):
    """Not even in the middle: half of a bucket must not pass for all of it."""
    uri, names = flat
    found = filesystems.walk(*filesystems.locate(f"{uri}/p"))
    assert next(found).path.endswith(f"/p/{names[0]}")
    backend().buckets[uri.removeprefix("s3://")].keys.clear()
    backend().delete_bucket(uri.removeprefix("s3://"))
    with pytest.raises(UserError, match=r"Cannot list .*NoSuchBucket"):
        list(found)


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
    for name in ("plain.jpg", "icc.jpg"):
        row = rows[f"a.tar/{name}"]
        assert fetch.read(row["uri"], row["version"])[1] == hostile.SHOWN[name]
    assert "ends inside of 'plain.jpg'" in rows["b.tar"]["problem"]
    (cell,) = listed(f"{uri}/t/t.parquet")
    assert fetch.read(cell["uri"], cell["version"])[1] == hostile.SHOWN["plain.jpg"]


@pytest.mark.parametrize("folder", ["store", "a b/ü%20", "#a?b?region=us-east-1"])
def test_a_store(bucket, folder):
    uri, _ = bucket
    schema = pa.schema([pa.field("image_id", pa.string(), nullable=False)])
    dataset = Store(f"{uri}/{folder}").dataset("test", {}, schema)
    with dataset.begin() as term:
        term.handle.commit(term.handle.part_name("ab"), pa.table({"image_id": ["a", "b"]}, schema=schema))
    with dataset.begin() as term:
        term.handle.commit(term.handle.part_name("c"), pa.table({"image_id": ["c"]}, schema=schema))
    assert verify(dataset).problems == []
    keys = backend().buckets[uri.removeprefix("s3://")].keys
    below = folder.partition("?region=")[0]
    assert all(key.startswith(f"{below}/") for key in keys) and f"{below}/store.json" in keys
    assert (Index.of(dataset.snapshot()).find(pa.chunked_array([["a", "x", "c"]])) >= 0).tolist() == [True, False, True]


def test_hostile_pictures_in_a_bucket(bucket):
    uri, put = bucket
    # No server takes a line feed or a backslash in a key as it is, nor pyarrow an empty part of a path.
    names = [name for name in hostile.CONTENTS if not set(name) & set("\n\t\\")]
    for name in names:
        put(f"h/{name}", hostile.CONTENTS[name])
    found = hostile.outcome_of(Listing(f"{uri}/h"))
    hostile.assert_as_expected(found, {name: hostile.EXPECTED[name] for name in names})


def test_uploads_that_a_kill_left_are_found_and_removed_by_vacuum(bucket, monkeypatch):
    import boto3

    uri, _ = bucket
    name = uri.removeprefix("s3://")
    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    schema = pa.schema([pa.field("image_id", pa.string(), nullable=False)])
    dataset = Store(f"{uri}/store").dataset("test", {"a": 1}, schema)
    with dataset.begin() as term:
        term.handle.commit(term.handle.part_name(["a"]), pa.table([["a"]], schema=schema))
    for key in ("store/sets/x/parts/killed.parquet", "elsewhere/x"):
        client.create_multipart_upload(Bucket=name, Key=key)
    left = lambda: [upload["Key"] for upload in client.list_multipart_uploads(Bucket=name).get("Uploads", [])]  # noqa: E731
    # The server gives each upload a time of 2010; one that is younger than the grace period may be at work.
    assert "unfinished_uploads" not in maintenance.vacuum(f"{uri}/store", grace_hours=10**6).summary
    assert maintenance.vacuum(f"{uri}/store", grace_hours=0, dry_run=True).summary["unfinished_uploads"] == 1
    assert len(left()) == 2
    assert maintenance.vacuum(f"{uri}/store", grace_hours=0).summary["unfinished_uploads"] == 1
    assert left() == ["elsewhere/x"]


def test_a_small_file_of_a_store_is_one_put(bucket, caplog):
    uri, _ = bucket
    files = Store(f"{uri}/store").files
    files.exists("x")  # the bucket is known from now on
    with caplog.at_level("INFO", logger="werkzeug"):
        caplog.clear()
        files.write("ledger/alive.json", b"{}")
    requests = [record.getMessage().split('"')[1].split()[0] for record in caplog.records]
    assert requests == ["PUT"]
