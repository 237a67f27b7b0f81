"""File systems of paths and uris, and folders walked file by file."""

import os

import fsspec
import pytest

from pipelines.errors import UserError
from pipelines.files import filesystems
from pipelines.files.filesystems import locate, names_in, type_of, version_of, walk


def walked(root, **options) -> list[str]:
    """What is below ``root``, named from there."""
    filesystem, path = locate(str(root))
    return [file.path.removeprefix(path).removeprefix("/") for file in walk(filesystem, path, **options)]


def test_files_come_in_the_order_of_their_paths(tree):
    expected = sorted(str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file())
    assert walked(tree) == expected and "a-b.jpeg" in expected


def test_a_link_to_a_folder_above_is_followed_once(tree):
    (tree / "a" / "up").symlink_to(tree)
    assert walked(tree) == walked(tree) and "a/up/b.jpg" not in walked(tree)
    assert len(walked(tree)) == 8


def test_a_folder_that_is_not_entered_is_not_opened(tree, a_is_closed):
    assert "a/" in walked(tree)
    assert not [name for name in walked(tree, enter=lambda folder: False) if name.startswith("a/")]


def test_folders_deeper_than_pythons_calls_are_walked(tmp_path):
    here = os.getcwd()
    os.chdir(tmp_path)
    try:
        for _ in range(1200):
            os.mkdir("d")
            os.chdir("d")
        open("x", "w").close()
    finally:
        os.chdir(here)
    assert walked(tmp_path) == ["d/" * 1200 + "x"]
    # What removes folders after tests has no more calls than Python.
    (tmp_path / "stays").touch()
    os.remove(tmp_path / ("d/" * 1200) / "x")
    os.removedirs(tmp_path / ("d/" * 1200))


def test_a_folder_that_is_not_there_cannot_be_listed(tmp_path):
    with pytest.raises(UserError, match=r"Cannot list .*nowhere"):
        walked(tmp_path / "nowhere")


def test_object_storage_is_walked_alike():
    fsspec.filesystem("memory").pipe({"/walked/a/x": b"1", "/walked/a-b": b"2", "/walked/b": b"3"})
    assert walked("memory://walked") == ["a-b", "a/x", "b"]


def test_a_version_changes_with_size_and_time(tmp_path):
    def version(content: str, nanoseconds: int) -> str:
        (tmp_path / "x").write_text(content)
        os.utime(tmp_path / "x", ns=(0, nanoseconds))
        filesystem, path = locate(str(tmp_path / "x"))
        return version_of(filesystem, filesystem.get_file_info(path))

    assert version("ab", 1_000_000_001) == "2-1000000001"
    assert len({version("ab", 1_000_000_001), version("abc", 1_000_000_001), version("ab", 1_000_000_002)}) == 3


def test_what_lies_at_a_path(tree):
    filesystem, path = locate(str(tree))
    assert [type_of(filesystem, f"{path}/{name}").name for name in ("a", "b.jpg", "nothing")] == [
        "Directory", "File", "NotFound",
    ]  # fmt: skip


@pytest.mark.parametrize("uri", ["a\0.jpg", os.fsdecode(b"\xff.jpg")])
def test_a_name_that_no_file_has(uri):
    with pytest.raises(UserError, match="is no name that can be read"):
        locate(uri)


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


def test_google_is_not_asked_for_ever():
    filesystem, _ = locate("gs://anonymous@bucket/p")
    assert filesystem.__reduce__()[1][0]["retry_time_limit"].total_seconds() == 30


def test_names_of_a_folder_without_those_that_are_no_text(tmp_path, bucket):
    for name in (b"b", b"a.txt", b"caf\xe9.jpg"):
        open(os.path.join(os.fsencode(tmp_path), name), "w").close()
    assert names_in(*locate(str(tmp_path))) == ["a.txt", "b"]
    bucket[1]("folder/x", b"")
    assert names_in(*locate(f"{bucket[0]}/folder")) == ["x"]
    with pytest.raises(UserError, match="Cannot list"):
        names_in(*locate(str(tmp_path / "gone")))
