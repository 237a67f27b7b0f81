import os

import fsspec
import pyarrow as pa
import pytest

from pipelines.errors import UserError
from pipelines.files import filesystems
from pipelines.files.filesystems import locate
from pipelines.inputs import listing
from pipelines.inputs.listing import Listing
from tests.worlds.listings import ids, rows


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


def test_a_line_for_each_caption_names_a_picture_once(tree):
    (tree / "l.csv").write_text("file,caption\nb.jpg,one\nb.jpg,two\na.jpg,three\n")
    assert ids(tree / "l.csv") == ["b.jpg", "a.jpg"]


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


def test_a_password_in_an_address_is_refused_without_repeating_it():
    with pytest.raises(UserError, match=r"AWS_SECRET_ACCESS_KEY.* as s3://bucket$") as raised:
        rows("s3://KEY:SECRET@bucket/p")
    assert "SECRET@" not in str(raised.value) and "KEY:" not in str(raised.value)


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


def test_an_address_of_no_file_system():
    with pytest.raises(UserError, match="nope"):
        rows("nope://bucket/x")


# Many rows


@pytest.mark.parametrize("rows_a_chunk", [1, 100])
def test_an_id_of_two_files_far_apart(tmp_path, rows_a_chunk, monkeypatch):
    monkeypatch.setattr(listing, "CHUNK_ROWS", rows_a_chunk)
    lines = ["image_id,file", *(f"{number},{number}.jpg" for number in range(20)), "3,other.jpg"]
    (tmp_path / "l.csv").write_text("\n".join(lines))
    with pytest.raises(UserError, match=r"gives image_id '3' to several files, .*/3\.jpg and .*/other\.jpg;"):
        rows(tmp_path / "l.csv")


def test_a_saved_listing_knows_how_many_there_are(make_photos, tmp_path):
    photos = Listing(str(make_photos(3)))
    assert len(pa.concat_tables(photos.begin(str(tmp_path / "l.parquet")))) == 3
    assert photos.total is None
    saved = Listing(str(tmp_path / "l.parquet"))
    saved.begin()
    assert saved.total == 3


def test_a_hidden_folder_above_a_glob_lets_no_hidden_files_in(tmp_path, monkeypatch):
    folder = tmp_path / ".data" / "photos"
    folder.mkdir(parents=True)
    for name in ("1.jpg", "._1.jpg", ".DS_Store"):
        (folder / name).touch()
    monkeypatch.chdir(folder)
    assert ids(f"{folder}/*") == ids("*") == ids("../photos/*") == ["1.jpg"]
    assert ids(f"{folder}/.*") == [".DS_Store", "._1.jpg"], "which are asked for"
