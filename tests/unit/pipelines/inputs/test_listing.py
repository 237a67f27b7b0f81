import json
import os

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store.index import hash_texts
from pipelines.errors import UserError
from pipelines.files import filesystems
from pipelines.files.filesystems import locate
from pipelines.inputs import listing
from pipelines.inputs.listing import Listing
from pipelines.inputs.listing_formats import SCHEMA, saving
from pipelines.inputs.unique_ids import Seen


def rows(images) -> list[dict]:
    chunks = list(Listing(str(images)).chunks())
    assert all(chunk.schema == SCHEMA for chunk in chunks)
    found = [row for chunk in chunks for row in chunk.to_pylist()]
    assert len({row["image_id"] for row in found}) == len(found)
    return found


def ids(images) -> list[str]:
    return [row["image_id"] for row in rows(images)]


def test_folder(tree):
    found = Listing(str(tree))
    (chunk,) = found.chunks()
    assert chunk["image_id"].to_pylist() == ["a-b.jpeg", "a.jpg", "a/1.webp", "a/2.PNG", "b.jpg"]
    assert chunk["uri"][2].as_py() == str(tree / "a/1.webp")
    assert chunk["version"][0].as_py() == f"5-{(tree / 'a-b.jpeg').stat().st_mtime_ns}"
    assert found.ignored == 3


def test_a_slash_at_the_end_and_a_relative_path_change_nothing(tree, monkeypatch):
    monkeypatch.chdir(tree.parent)
    assert rows("tree/") == rows(tree)


def test_chunks_keep_the_order(tree, monkeypatch):
    expected = rows(tree)
    monkeypatch.setattr(listing, "CHUNK_ROWS", 2)
    assert [chunk.num_rows for chunk in Listing(str(tree)).chunks()] == [2, 2, 1]
    assert rows(tree) == expected


def test_links(tree):
    (tree / "circle").symlink_to(tree)
    (tree / "a" / "up").symlink_to(tree)
    (tree / "other").symlink_to(tree / "a")
    (tree / "nowhere.jpg").symlink_to("gone.jpg")
    found = rows(tree)
    assert "other/1.webp" in [row["image_id"] for row in found]
    assert [row["version"] for row in found if row["image_id"] == "nowhere.jpg"] == [None]
    assert len(found) == 8


def test_a_folder_is_no_picture_and_a_pipe_named_as_one_is_listed(tree):
    os.mkfifo(tree / "pipe.jpg")
    (tree / "folder.jpg").mkdir()
    (tree / "itself.jpg").symlink_to("itself.jpg")
    found = rows(tree)
    assert len(found) == 7
    assert [(row["image_id"], row["version"]) for row in found[4:]] == [
        ("b.jpg", found[4]["version"]), ("itself.jpg", None), ("pipe.jpg", None)
    ]  # fmt: skip


def test_a_large_folder_comes_in_stretches(tree, monkeypatch):
    monkeypatch.setattr(filesystems, "SORTED_AT_ONCE", 2)
    assert sorted(ids(tree)) == ["a-b.jpeg", "a.jpg", "a/1.webp", "a/2.PNG", "b.jpg"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_listed_is_a_problem_of_its_own(tree):
    (tree / "a").chmod(0)
    found = {row["image_id"]: row["problem"] for row in rows(tree)}
    (tree / "a").chmod(0o700)
    assert len(found) == 4 and "cannot list" in found["a/"]


def test_a_folder_that_goes_while_it_is_walked(tree, a_is_closed):
    found = {row["image_id"]: row["problem"] for row in rows(tree)}
    assert found.pop("a/") == "cannot list the folder: [Errno 13] Permission denied"
    assert sorted(found) == ["a-b.jpeg", "a.jpg", "b.jpg"]


def test_one_picture(tree):
    assert [(row["image_id"], row["uri"]) for row in rows(tree / "a.jpg")] == [("a.jpg", str(tree / "a.jpg"))]


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


def test_a_line_for_each_caption_names_a_picture_once(tree):
    (tree / "l.csv").write_text("file,caption\nb.jpg,one\nb.jpg,two\na.jpg,three\n")
    assert ids(tree / "l.csv") == ["b.jpg", "a.jpg"]


def test_a_byte_order_mark_and_a_spreadsheets_blanks(tree):
    (tree / "l.csv").write_text("\ufefffile, caption\nb.jpg, one\n", encoding="utf-8")
    assert ids(tree / "l.csv") == ["b.jpg"]


def test_object_storage():
    memory = fsspec.filesystem("memory")
    memory.pipe({"/bucket/p/b c#%20?.jpg": b"1", "/bucket/p/a/x.png": b"22", "/bucket/p/n.txt": b"a/x.png"})
    found = rows("memory://bucket/p")
    assert [row["image_id"] for row in found] == ["a/x.png", "b c#%20?.jpg"]
    filesystem, path = locate(found[1]["uri"])
    assert filesystem.open_input_file(path).read() == b"1"
    assert ids("memory://bucket/p/*.jpg") == ["b c#%20?.jpg"]
    listed = rows("memory://bucket/p/n.txt")
    filesystem, path = locate(listed[0]["uri"])
    assert filesystem.open_input_file(path).read() == b"22"


@pytest.mark.parametrize(
    "images",
    [
        "s3://bucket/p?region=eu-west-1&endpoint_override=host:9000",
        "gs://anonymous@bucket/p",
    ],
)
def test_a_picture_is_read_with_the_rights_and_options_of_its_listing(images):
    filesystem, path = locate(images)
    assert path == "bucket/p"
    uri = filesystems.as_uri(filesystem, f"{path}/a b?#%20.jpg", images)
    assert locate(uri) == (filesystem, "bucket/p/a b?#%20.jpg")


def test_a_password_in_an_address_is_refused_without_repeating_it():
    with pytest.raises(UserError, match=r"AWS_SECRET_ACCESS_KEY.* as s3://bucket$") as raised:
        rows("s3://KEY:SECRET@bucket/p")
    assert "SECRET@" not in str(raised.value) and "KEY:" not in str(raised.value)


def test_google_is_not_asked_for_ever():
    filesystem, _ = locate("gs://anonymous@bucket/p")
    assert filesystem.__reduce__()[1][0]["retry_time_limit"].total_seconds() == 30


def make_wrong(folder):
    (folder / "empty").mkdir()
    (folder / "none").mkdir()
    (folder / "none" / "a.txt").write_text("x")
    (folder / "data.bin").write_bytes(b"x")
    (folder / "twice.csv").write_text("image_id,file\nx,a.jpg\nx,b.jpg\n")
    (folder / "column.csv").write_text("name,caption\nx,y\n")
    (folder / "line.jsonl").write_text('{"file": "a.jpg"}\n{"file": \n')
    (folder / "key.jsonl").write_text('{"image_id": "a"}\n')
    (folder / "list.jsonl").write_text("[1]\n")
    (folder / "blank.txt").write_text("\n\n")
    (folder / "latin.txt").write_bytes(b"caf\xe9.jpg\n")
    (folder / "no.parquet").write_bytes(b"no parquet")
    (folder / "quote.csv").write_text('file,caption\na.jpg,x\nb.jpg,"y\nc.jpg,z\n')
    (folder / "nothing.csv").write_text("file,caption\na.jpg,x\n,y\n")
    (folder / "short.csv").write_text("caption,file\nx,a.jpg\ny\n")
    (folder / "surrogate.jsonl").write_text('{"file": "a.jpg"}\n{"file": "\\ud83d.jpg"}\n')
    (folder / "nested.jsonl").write_text('{"file": "a.jpg"}\n{"file": "b.jpg", "x": ' + "[" * 100_000 + "\n")
    (folder / "null.jsonl").write_text('{"file": null}\n')
    (folder / "id.jsonl").write_text('{"file": "a.jpg", "image_id": ["a"]}\n')
    (folder / "version.jsonl").write_text('{"file": "a.jpg", "version": NaN}\n')
    return folder


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "no file or folder .*missing"),
        ("empty", "no picture in .*empty"),
        ("none", r"no picture in .*; 1 other files are there.*\.jpg"),
        ("data.bin", "neither a folder, nor a picture .* nor a listing or shard"),
        ("missing/*.jpg", "matches nothing, there is no folder"),
        ("none/*.jpg", "no picture in"),
        ("none/**.jpg", r"none/\*\*\.jpg: '\*\*' stands for folders .* write 'photos/\*\*/\*\.jpg'"),
        ("twice.csv", "gives image_id 'x' to several files"),
        ("column.csv", "has no uri, file, path; it has name, caption"),
        ("line.jsonl", "line 2"),
        ("key.jsonl", "line 1: has no uri, file, path; it has image_id"),
        ("list.jsonl", "line 1: not a mapping"),
        ("blank.txt", "no picture in"),
        ("latin.txt", "utf-8"),
        ("no.parquet", r"no\.parquet"),
        ("quote.csv", "line 3: .* are its quotes closed"),
        ("nothing.csv", "line 3: column file is empty"),
        ("short.csv", "line 3: column file is empty"),
        ("surrogate.jsonl", r"line 2: half of a character .*ud83d"),
        ("nested.jsonl", "line 2: nested too deeply"),
        ("null.jsonl", "line 1: file is null, expected a file's name"),
        ("id.jsonl", r'line 1: image_id is \["a"\], expected a string or a whole number'),
        ("version.jsonl", "line 1: version is NaN, expected a string or a whole number"),
        ("\0.jpg", r"\\x00.* is no name that can be read"),
        (os.fsdecode(b"\xff.jpg"), r"\\xff\.jpg' is no name that can be read"),
    ],
)
def test_mistakes(tmp_path, name, message):
    with pytest.raises(UserError, match=message):
        rows(make_wrong(tmp_path) / name)


def test_a_name_that_is_not_utf8(tree):
    with open(os.fsencode(tree) + b"/\xff.jpg", "wb"):
        pass
    os.makedirs(os.fsencode(tree) + b"/a/\xfe/deep")
    (tree / r"\xff.jpg").touch()
    for name in (b"\xff\\xfe.jpg", b"\\xff\xfe.jpg"):  # of one escaped form, if backslashes were left as they are
        with open(os.fsencode(tree) + b"/" + name, "wb"):
            pass
    wrong = "the name is not UTF-8; rename it"
    found = {row["image_id"]: row["problem"] for row in rows(tree)}
    assert {name: problem for name, problem in found.items() if problem} == {
        r"/\xff.jpg": wrong, r"/\xff\\xfe.jpg": wrong, r"/\\xff\xfe.jpg": wrong, r"a//\xfe/": wrong
    }  # fmt: skip
    assert found[r"\xff.jpg"] is None
    assert {row["image_id"] for row in rows(tree / "**" / "*.jpg") if row["problem"]} >= {r"/\xff.jpg", r"a//\xfe/"}


def test_a_json_line_may_leave_its_id_open(tree):
    (tree / "l.jsonl").write_text('{"file": "b.jpg", "image_id": null}')
    assert ids(tree / "l.jsonl") == ["b.jpg"]


def test_an_address_of_no_file_system():
    with pytest.raises(UserError, match="nope"):
        rows("nope://bucket/x")


# Many rows


@pytest.mark.parametrize("size", [1, 3, 7, 50])
def test_seen_is_a_set(size):
    numbers = np.random.default_rng(0).integers(0, 40, 100).tolist()
    seen, found = Seen(), []
    for start in range(0, 100, size):
        names = [str(number) for number in numbers[start : start + size]]
        fresh, twice = seen.compare(pa.chunked_array([names]), hash_texts(names)[:, 0])
        assert twice is None
        found += np.array(names)[fresh].tolist()
    assert found == list(dict.fromkeys(map(str, numbers)))
    assert sum(map(len, seen.runs)) == len(found)


@pytest.mark.parametrize("rows_a_chunk", [1, 100])
def test_an_id_of_two_files_far_apart(tmp_path, rows_a_chunk, monkeypatch):
    monkeypatch.setattr(listing, "CHUNK_ROWS", rows_a_chunk)
    lines = ["image_id,file", *(f"{number},{number}.jpg" for number in range(20)), "3,other.jpg"]
    (tmp_path / "l.csv").write_text("\n".join(lines))
    with pytest.raises(UserError, match=r"gives image_id '3' to several files, .*/3\.jpg and .*/other\.jpg;"):
        rows(tmp_path / "l.csv")


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


def test_a_listing_may_say_versions(tree):
    (tree / "l.csv").write_text("file,version\nb.jpg,7\na.jpg,\n")
    (tree / "l.jsonl").write_text('{"file": "b.jpg", "version": 7}\n{"file": "a.jpg"}')
    for name in ("l.csv", "l.jsonl"):
        assert [row["version"] for row in rows(tree / name)] == ["7", None]


def test_a_saved_listing_knows_how_many_there_are(make_photos, tmp_path):
    photos = Listing(str(make_photos(3)))
    assert len(pa.concat_tables(photos.begin(str(tmp_path / "l.parquet")))) == 3
    assert photos.total is None
    saved = Listing(str(tmp_path / "l.parquet"))
    saved.begin()
    assert saved.total == 3
