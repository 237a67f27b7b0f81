"""Pictures, stores and runs in Google Cloud Storage (``gcs_server``)."""

import pytest

from feature_store import Store, StoreError, verify
from feature_store.errors import AnotherWriter
from pipelines.engine.driver import Options
from pipelines.errors import UserError
from pipelines.files import filesystems
from pipelines.files.remote_folder import RemoteFolder
from pipelines.inputs import fetch, listing
from pipelines.inputs.listing import Listing
from pipelines.verbs import features
from tests.worlds import gcs_server, hostile
from tests.worlds.feature_rows import commit, dataset, ids
from tests.worlds.listings import rows as listed

pytestmark = pytest.mark.heavy

NAME = "torchvision/squeezenet1_0"

PICTURES = {"a/1.jpg": b"one", "a/deep/2 ü#?%20.PNG": b"two", "b.jpg": b"three", "notes.txt": b"b.jpg\n"}


@pytest.fixture
def bucket():
    with gcs_server.serving("pictures", page=4) as found:
        yield found


def test_prefixes_globs_and_listings(bucket):
    """Folders have no marks of their own, as nobody but pyarrow makes any."""
    for name, data in PICTURES.items():
        bucket.put(f"p/{name}", data)
    rows = listed(bucket.uri("p/"))
    assert [row["image_id"] for row in rows] == ["a/1.jpg", "a/deep/2 ü#?%20.PNG", "b.jpg"]
    for row in rows:
        assert row["uri"] == bucket.uri(f"p/{row['image_id']}")
        assert fetch.read(row["uri"]) == (row["version"], PICTURES[row["image_id"]])
    assert [row["image_id"] for row in listed(bucket.uri("p/a/d*/*.PNG"))] == ["deep/2 ü#?%20.PNG"]
    assert any("prefix=p%2Fa%2Fd&" in f"{request}&" for request in bucket.requests())
    assert [row["uri"] for row in listed(bucket.uri("p/notes.txt"))] == [bucket.uri("p/b.jpg")]
    with pytest.raises(fetch.ReadError, match="no such file"):
        fetch.read(bucket.uri("p/gone.jpg"))
    with pytest.raises(UserError, match="no file or folder"):
        listed(bucket.uri("nothing/"))


def test_keys_that_stand_for_folders_and_files(bucket):
    for key in ("p/", "p/a.jpg/", "p/a", "p/a/b.jpg", "p/a-b.jpg", "p/q//x.jpg", "p/q//y.jpg", "pp.jpg"):
        bucket.put(key, b"x")
    found = [(row["image_id"], row["problem"]) for row in listed(bucket.uri("p"))]
    assert found == [("a-b.jpg", None), ("a/b.jpg", None), ("q//", filesystems.EMPTY_PART)]


def test_a_prefix_comes_page_by_page(bucket, monkeypatch):
    names = [f"{number}.jpg" for number in range(10)]
    for name in names:
        bucket.put(f"p/{name}", b"x")
    monkeypatch.setattr(listing, "CHUNK_ROWS", 3)
    chunks = Listing(bucket.uri("p")).chunks()
    assert next(chunks)["image_id"].to_pylist() == names[:3]
    pages = [request for request in bucket.requests() if "fields=items" in request]
    assert len(pages) == 1
    assert [row["image_id"] for chunk in chunks for row in chunk.to_pylist()] == names[3:]
    assert sum("fields=items" in request for request in bucket.requests()) == 2


def test_a_changed_object_is_noticed(bucket):
    for name in ("1", "2", "3"):
        bucket.put(f"p/{name}.jpg", b"old")
    before = listed(bucket.uri("p"))
    bucket.put("p/1.jpg", b"newer")
    bucket.put("p/2.jpg", b"new", time=1_700_000_001)
    now = listed(bucket.uri("p"))
    assert [old["version"] == new["version"] for old, new in zip(before, now, strict=True)] == [False, False, True]


def test_features(bucket, without_ray):
    """A worker finds the server by what is in each picture's uri."""
    bucket.put("p/a/good.jpg", hostile.SHOWN["plain.jpg"])
    bucket.put("p/bad.jpg", b"no picture")

    def compute():
        options = Options(workers=1)
        return features.run(bucket.uri("p"), bucket.uri("store"), NAME, "random", ("pooled",), options=options)

    first = compute()
    assert (first.summary["computed"], first.failed) == (1, 1)
    (row,) = Store(bucket.uri("store")).open(kind="features").snapshot().take(["a/good.jpg"]).to_pylist()
    assert row["uri"] == bucket.uri("p/a/good.jpg")
    assert compute().summary["changed"] == 0
    bucket.put("p/a/good.jpg", hostile.SHOWN["plain.jpg"], time=1_800_000_000)
    again = compute()
    assert (again.summary["computed"], again.summary["changed"]) == (0, 1)


def test_a_store_has_the_sets_and_terms_that_others_wrote(bucket):
    """pyarrow itself lists no folder there that it did not make."""
    made = dataset(Store(bucket.uri("store")))
    with made.begin() as term:
        commit(term, ids(0, 3), ["x"])
        with pytest.raises(StoreError, match="another writer is at work"):
            dataset(Store(bucket.uri("store"))).begin()
    with made.begin() as term:
        commit(term, ids(3, 5))
        assert term.handle.term.number == 2
    dataset(Store(bucket.uri("store")), backbone="other").begin().close()
    (again,) = [each for each in Store(bucket.uri("store")).datasets() if each.fingerprint == made.fingerprint]
    assert sorted(again.snapshot().ids().to_pylist()) == [*ids(0, 5), "x"]
    assert verify(again).problems == []
    assert len(Store(bucket.uri("store")).datasets()) == 2


def test_a_run_s_folder_changes_as_a_whole_and_has_one_writer(bucket):
    folder = RemoteFolder.at(bucket.uri("runs/nightly"))
    folder.check_writable()
    assert folder.read() is None
    writer = folder.begin()
    files = {"weights": b"many" * 3_000_000, "model.json": b"{}"}  # more than a piece of an upload
    writer.contents.folders["best"] = folder.send("best", files)
    writer.commit()
    assert folder.get(folder.read().folders["best"]) == files
    with pytest.raises(AnotherWriter):
        folder.begin()
    writer.close()
    other = folder.begin()
    del other.contents.folders["best"]
    other.commit()
    other.close()
    assert folder.read().folders == {}
    assert folder.names("data") == [], "what no folder has any more is removed"
