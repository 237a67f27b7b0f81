"""A uri may end with options of its file system, ``s3://bucket/pairs.tsv?region=us-east-1``: a file's name ends before
them, whatever is read from it or written to it."""

from __future__ import annotations

import io
import json

import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipelines.files.filesystems import folder_and_name, locate, suffix_of
from pipelines.files.row_lines import write_rows
from pipelines.files.text import packing_of, unpacked
from pipelines.inputs.captions import read_captions
from pipelines.inputs.corpus import Corpus
from pipelines.inputs.listing import Listing
from pipelines.verbs.caption import is_one_picture

OPTIONS = "?region=us-east-1"
ROWS = [{"id": "7", "source": "Ein Hund", "target": "A dog"}]


def content(uri: str) -> bytes:
    filesystem, path = locate(uri)
    with filesystem.open_input_file(path) as file:
        return file.read()


@pytest.mark.parametrize("name", ["pairs.tsv", "pairs.csv.gz", "pairs.jsonl"])
def test_a_table_is_written_and_read_as_what_its_name_says(bucket, name):
    uri = f"{bucket[0]}/{name}{OPTIONS}"
    write_rows(uri, [ROWS], ("id", "source"), "--text", "store")
    (chunk,) = Corpus(uri).chunks()
    assert [(row["id"], row["source"], row["target"]) for row in chunk.to_pylist()] == [tuple(ROWS[0].values())]
    assert content(uri).startswith(b"\x1f\x8b") == name.endswith("gz")


def test_a_folder_of_captions(bucket):
    uri, put = bucket
    coco = {"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": [{"image_id": 1, "caption": "a dog"}]}
    put("coco/captions_val2014.json", json.dumps(coco).encode())
    (example,) = read_captions(f"{uri}/coco{OPTIONS}")
    assert example.captions == ("a dog",)


def test_pictures_and_a_listing_of_them(bucket):
    uri, put = bucket
    picture = io.BytesIO()
    Image.new("RGB", (8, 8)).save(picture, "JPEG")
    put("photos/1.jpg", picture.getvalue())
    one, saved = f"{uri}/photos/1.jpg{OPTIONS}", f"{uri}/lists/l.parquet{OPTIONS}"
    assert is_one_picture(one) and not is_one_picture(f"{uri}/photos{OPTIONS}")
    listed = [chunk.to_pylist() for chunk in Listing(f"{uri}/photos{OPTIONS}").begin(saved)]
    assert [row["image_id"] for rows in listed for row in rows] == ["1.jpg"]
    assert pq.read_table(io.BytesIO(content(saved)))["uri"].to_pylist() == [one]


def test_names_by_hand():
    assert (suffix_of("s3://b/x.JPG?region=a.b"), suffix_of("x?region=a.jpg")) == (".jpg", ".jpg")
    assert (packing_of("s3://b/x.csv.gz?region=a"), unpacked("s3://b/x.csv.gz?region=a")) == ("gzip", "s3://b/x.csv")
    assert folder_and_name("s3://b/c/x.json?region=a") == ("s3://b/c?region=a", "x.json")
    assert [folder_and_name(path) for path in ("x", "/x", "a/x")] == [(".", "x"), ("/", "x"), ("a", "x")]
