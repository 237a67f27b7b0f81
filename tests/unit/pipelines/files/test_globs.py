"""Globs: what matches, in any file system, and what a wildcard does not stand for."""

import pytest
from pyarrow import fs

from pipelines.files.globs import is_glob, matching, root_of

LOCAL = fs.LocalFileSystem()


@pytest.fixture
def folder(tmp_path):
    for name in ("a.jpg", "b.png", "deep/a.jpg", "deep/er/c.jpg", "odd [1].jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*.jpg", ["a.jpg", "odd [1].jpg"]),
        ("?.*", ["a.jpg", "b.png"]),
        ("*/*.jpg", ["deep/a.jpg"]),
        ("**/*.jpg", ["a.jpg", "deep/a.jpg", "deep/er/c.jpg", "odd [1].jpg"]),
        ("[ab].png", ["b.png"]),
        ("odd [[]1].*", ["odd [1].jpg"]),
        ("none*", []),
    ],
)
def test_what_matches(folder, pattern, names):
    found = [file.path.removeprefix(f"{folder}/") for file in matching(LOCAL, f"{folder}/{pattern}")]
    assert sorted(found) == sorted(names)


def test_a_wildcard_in_a_name_that_is_there_stands_for_itself(folder):
    assert is_glob(LOCAL, f"{folder}/*.jpg") and not is_glob(LOCAL, f"{folder}/odd [1].jpg")
    assert not is_glob(LOCAL, f"{folder}/a.jpg") and not is_glob(LOCAL, f"{folder}/gone.jpg")


def test_the_root_is_above_the_first_wildcard():
    assert [root_of(pattern) for pattern in ("/a/b*/c", "/a/b/c?.jpg", "/*")] == ["/a", "/a/b", "/"]


def test_two_stars_within_a_name_are_refused():
    with pytest.raises(ValueError, match=r"\*\*"):
        matching(LOCAL, "/photos/**.jpg")
