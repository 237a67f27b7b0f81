"""Addresses of pictures inside of files, and what is hidden."""

import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.inputs import members
from tests.worlds.listings import listed


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("bytes://512+30::s3://b/a.tar?region=x", ("bytes://512+30", "s3://b/a.tar?region=x")),
        ("cell://1/20/image.bytes::/a::b.parquet", ("cell://1/20/image.bytes", "/a::b.parquet")),
        ("bytes://1+2::two\nlines.tar", ("bytes://1+2", "two\nlines.tar")),
        ("/photos/bytes::x.jpg", None),
        ("bytes://1+::x.tar", None),
    ],
)
def test_an_address_and_the_file_that_it_lies_in(uri, expected):
    assert members.parse_address(uri) == expected


def test_the_size_of_a_stretch_is_known_before_it_is_read():
    assert (members.size_of("bytes://512+30"), members.size_of("cell://0/1/image")) == (30, None)


@pytest.mark.parametrize(("version", "ours"), [("5-1700000000", True), ("5-0", True), ("7", False), (None, False)])
def test_a_version_of_ours_is_told_from_one_that_a_listing_gave(version, ours):
    assert members.is_ours(version) == ours


@pytest.mark.parametrize("kind", ["folder", "tar", "glob", "Hugging Face"])
def test_hidden_files_and_folders_are_passed_over_alike(tmp_path, kind):
    """Each of them is a failure otherwise: a Mac puts ``._a.jpg`` beside ``a.jpg`` (RFC 1740)."""
    shown, hidden = ["a.jpg", "b/c.jpg"], ["._a.jpg", "__MACOSX/._a.jpg", ".thumbnails/a.jpg", "b/.hidden/x/a.jpg"]
    names = [*hidden[:2], *shown, *hidden[2:]]
    for name in names:
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(b"x")
    match kind:
        case "tar":
            images, first = tmp_path / "photos.tar", "photos.tar/./"
            with tarfile.open(images, "w") as archive:
                for name in names:
                    archive.add(tmp_path / "photos" / name, f"./{name}")
        case "Hugging Face":
            images, first = tmp_path / "t.parquet", "t.parquet/"
            pq.write_table(pa.table({"image": [{"bytes": b"x", "path": name} for name in names]}), images)
            shown = ["00000002", "00000003"]
        case "glob":
            images, first = tmp_path / "photos" / "**" / "*.jpg", ""
        case _:
            images, first = tmp_path / "photos", ""
    rows, ignored = listed(images)
    assert [row["image_id"] for row in rows] == [first + name for name in shown]
    assert ignored == (0 if kind == "glob" else len(hidden))  # which * does not stand for
