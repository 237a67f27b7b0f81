"""Globs: the folders that they enter, and the shards and listings that they find."""

import os
import subprocess

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.errors import UserError
from pipelines.files import filesystems
from pipelines.inputs import listing, table_shards
from pipelines.inputs.listing import Listing
from tests.worlds.listings import rows


def problems(images) -> dict[str, str | None]:
    """Of each id, in order."""
    return {row["image_id"]: row["problem"] for row in rows(images)}


def ids(images) -> list[str]:
    return list(problems(images))


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.jpg", ["a.jpg", "b.jpg"]),
        ("*", ["a-b.jpeg", "a.jpg", "b.jpg", "noend", "notes.md"]),
        ("a/[12].*", ["1.webp", "2.PNG"]),
        ("**/*.PNG", ["a/2.PNG"]),
        ("?.jpg", ["a.jpg", "b.jpg"]),
    ],
)
def test_glob(tree, pattern, expected):
    assert ids(tree / pattern) == expected


def test_a_folder_whose_name_looks_like_a_glob(tmp_path):
    (tmp_path / "[2014] a*b").mkdir()
    (tmp_path / "[2014] a*b" / "x.jpg").write_bytes(b"")
    assert ids(tmp_path / "[2014] a*b") == ["x.jpg"]


def test_a_tree_of_more_folders_than_calls_may_nest(tmp_path):
    deep = "d/" * 1100
    try:
        subprocess.run(["mkdir", "-p", tmp_path / deep], check=True)
        (tmp_path / deep / "deep.jpg").touch()
        (tmp_path / "e.jpg").touch()
        assert ids(tmp_path) == [f"{deep}deep.jpg", "e.jpg"]
    finally:
        subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)  # pytest cannot


@pytest.mark.parametrize(
    ("pattern", "read", "expected"),
    [
        ("*.jpg", ["."], ["a.jpg", "b.jpg"]),
        ("[a]/*", [".", "a"], ["a/1.webp", "a/2.PNG"]),
        ("?/c*/*.jpg", [".", "a", "b", "b/c1"], ["b/c1/x.jpg"]),
        ("b?/**/*.jpg", [".", "b2", "b2/c", "b2/c/d"], ["b2/c/d/y.jpg", "b2/z.jpg"]),
    ],
)
def test_a_glob_enters_the_folders_that_can_hold_a_match(tree, monkeypatch, pattern, read, expected):
    for name in ("b/c1/x.jpg", "b/c1/deep/x.jpg", "b/d/x.jpg", "b2/c/d/y.jpg", "b2/z.jpg"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).touch()
    os.makedirs(os.fsencode(tree) + b"/b/d/\xff")
    entered, real = [], filesystems._local_children

    def children(root):
        entered.append(os.path.relpath(root, tree))
        if entered[-1] in ("b/c1/deep", "b/d"):
            raise PermissionError(13, "Permission denied")
        return real(root)

    monkeypatch.setattr(filesystems, "_local_children", children)
    assert problems(tree / pattern) == dict.fromkeys(expected)
    assert entered == read


def test_a_folder_that_a_glob_cannot_enter_is_a_problem_of_its_own(tree, a_is_closed):
    os.makedirs(os.fsencode(tree) + b"/\xff")
    found = problems(tree / "*" / "1.*")
    assert found.keys() == {"a/", r"/\xff/"} and all(found.values())


def test_a_glob_that_begins_at_the_top(tree):
    _, first, rest = str(tree).split("/", 2)
    assert ids(f"/{first[:-1]}?/{rest}/b.jp*") == [f"{first}/{rest}/b.jpg"]


# Shards and listings


def test_saved_listings_of_a_folder_that_grows_list_each_picture_once(make_photos, tmp_path):
    photos = make_photos(3)
    (tmp_path / "saved").mkdir()
    list(Listing(str(photos)).begin(str(tmp_path / "saved" / "day1.parquet")))
    (photos / "new.jpg").write_bytes(b"x")
    list(Listing(str(photos)).begin(str(tmp_path / "saved" / "day2.parquet")))
    both = Listing(str(tmp_path / "saved" / "*.parquet"))
    assert sorted(row["image_id"] for chunk in both.chunks() for row in chunk.to_pylist()) == sorted(ids(photos))
    assert both.total is None


def test_a_broken_table_of_a_glob_is_a_problem_of_its_own(tmp_path):
    for name in "ac":
        pq.write_table(pa.table({"image": [b"x", b"y"]}), tmp_path / f"{name}.parquet")
    (tmp_path / "b.parquet").write_bytes(b"PAR1xxxx")
    found = problems(tmp_path / "*.parquet")
    assert found.pop("b.parquet").startswith("cannot be read, its pictures from here on are lost: ")
    assert list(found) == [f"{name}.parquet/0000000{row}" for name in "ac" for row in (0, 1)]
    assert not any(found.values())
    pq.write_table(pa.table({"caption": ["a listing's mistake"]}), tmp_path / "b.parquet")
    with pytest.raises(UserError, match=r"b\.parquet: has no uri, file, path"):
        ids(tmp_path / "*.parquet")


def test_a_table_that_breaks_off_keeps_what_was_read(tmp_path, monkeypatch):
    pq.write_table(pa.table({"image": [b"x", b"y"]}), tmp_path / "a.parquet")
    real = table_shards.table_cells

    def cells(*arguments):
        yield next(real(*arguments))
        raise OSError("broken off")

    monkeypatch.setattr(table_shards, "table_cells", cells)
    found = problems(tmp_path / "*.parquet")
    assert found["a.parquet/00000000"] is None and "from here on are lost: broken off" in found["a.parquet"]
    with pytest.raises(UserError, match="broken off"):
        ids(tmp_path / "a.parquet")


def test_rows_without_an_id_are_those_of_their_shard(tmp_path):
    for name in "ab":
        pq.write_table(pa.table({"image_id": [None, name], "image": [b"x", b"y"]}), tmp_path / f"{name}.parquet")
    assert ids(tmp_path / "*.parquet") == ["a.parquet/00000000", "a", "b.parquet/00000000", "b"]


@pytest.mark.parametrize("rows_a_chunk", [1, 100])
def test_an_id_of_two_shards_names_both(tmp_path, monkeypatch, rows_a_chunk):
    monkeypatch.setattr(listing, "CHUNK_ROWS", rows_a_chunk)
    for name, own in [("a", ["x", "y"]), ("b", ["z", "y"])]:
        pq.write_table(pa.table({"image_id": own, "image": [b"x", b"y"]}), tmp_path / f"{name}.parquet")
    with pytest.raises(UserError, match=r"gives image_id 'y' to several files.*1/image::.*a\.parquet and .*b\.parquet"):
        ids(tmp_path / "*.parquet")


def test_a_glob_may_ask_for_hidden_files(tree):
    """As in a shell, a star stands for no dot at the beginning of a name."""
    assert [row["image_id"] for chunk in Listing(f"{tree}/a/.*").chunks() for row in chunk.to_pylist()] == [
        ".hidden.jpg"
    ]
    assert ".hidden.jpg" not in [
        row["image_id"] for chunk in Listing(f"{tree}/a/*").chunks() for row in chunk.to_pylist()
    ]
