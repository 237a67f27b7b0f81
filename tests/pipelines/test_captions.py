"""Captions read from each format, mistakes in them, and their join with images."""

import gzip
import json

import pytest

from pipelines.captions import Captioned, hold_out, join, read_captions
from pipelines.console import UserError


def write(path, *lines):
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


def line(image_id="a", split="train", captions=("A dog .",), **more):
    return {"image_id": image_id, "file": f"images/{image_id}.jpg", "split": split, "captions": captions, **more}


DOG = Captioned("a", "images/a.jpg", "train", ("A dog .",))


def test_a_listing_keeps_order_and_ignores_other_keys(tmp_path):
    path = write(tmp_path / "c.jsonl", line("b", "val", ["Two  cats\n sit", "Cats"]), "", line(german=["Ein Hund"]))
    assert read_captions(path) == [Captioned("b", "images/b.jpg", "val", ("Two cats sit", "Cats")), DOG]


def test_a_compressed_listing_and_one_of_a_single_pretty_object(tmp_path):
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(json.dumps(line()).encode()))
    assert read_captions(tmp_path / "c.jsonl.gz") == [DOG]
    (tmp_path / "c.json").write_text(json.dumps(line(), indent=2))
    assert read_captions(tmp_path / "c.json") == [DOG]


def test_karpathy(tmp_path):
    def entry(name, split):
        return {"filename": name, "filepath": "val2014", "split": split, "sentences": [{"raw": "A", "tokens": ["a"]}]}

    path = write(
        tmp_path / "d.json", {"dataset": "coco", "images": [entry("x.jpg", "restval"), entry("y.jpg", "test")]}
    )
    x, y = read_captions(path)
    assert x == Captioned("x", "val2014/x.jpg", "train", ("A",))
    assert (y.image_id, y.split) == ("y", "test")


def test_coco_from_a_folder_of_both_files(tmp_path):
    for split, number in (("train", 7), ("val", 8)):
        notes = [{"id": 1, "image_id": number, "caption": "One"}, {"id": 2, "image_id": number, "caption": "Two"}]
        images = [{"id": number, "file_name": f"{split}{number}.jpg"}, {"id": 99, "file_name": "undescribed.jpg"}]
        write(tmp_path / f"captions_{split}2014.json", {"images": images, "annotations": notes})
    assert read_captions(tmp_path) == [
        Captioned("7", "train7.jpg", "train", ("One", "Two")),
        Captioned("8", "val8.jpg", "val", ("One", "Two")),
    ]


def test_flickr_tokens_take_splits_from_the_lists_beside_them(tmp_path):
    path = write(tmp_path / "Flickr8k.token.txt", "a.jpg#0\tA dog .", "b.jpg#0\tA cat", "a.jpg#1\tDog", "c.jpg#0\tNo")
    write(tmp_path / "Flickr_8k.trainImages.txt", "a.jpg")
    write(tmp_path / "Flickr_8k.devImages.txt", "b.jpg")
    assert read_captions(path) == [
        Captioned("a", "a.jpg", "train", ("A dog .", "Dog")),
        Captioned("b", "b.jpg", "val", ("A cat",)),
    ]


def test_without_any_split_about_one_image_in_twenty_is_held_out_by_its_id_alone(tmp_path):
    names = [f"{number}.jpg" for number in range(2000)]
    held = [e.file for e in read_captions(write(tmp_path / "t", *(f"{n}#0\tA" for n in names))) if e.split == "val"]
    assert 60 <= len(held) <= 140
    half = read_captions(write(tmp_path / "t", *(f"{n}#0\tA" for n in names[:1000])))
    assert [e.file for e in half if e.split == "val"] == [name for name in held if int(name[:-4]) < 1000]
    assert {e.split for e in hold_out([Captioned(n, n, "", ("A",)) for n in names] + [DOG])} == {"train"}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "begins with ''"),
        ("name,caption\na,b", "begins with 'name,caption'"),
        ('{"image_id": "a"', "1 of 1 entries are wrong:\n  line 1"),
        (json.dumps(line()) + "\n[1]", "line 2: found '[1]', expected a JSON object"),
        (json.dumps(line(captions="A dog")), "a list of strings"),
        (json.dumps(line()) + "\n" + json.dumps(line("b", "trian")), "line 2: the split is 'trian', expected train"),
        (json.dumps(line(captions=[" "])), "'a' has no caption with words"),
        (json.dumps({"captions": ["A"]}), "neither image_id nor file"),
        (json.dumps(line()) + "\n" + json.dumps(line()), "1 image (a) more than once"),
        ("a.jpg#0\tA\nb.jpg A", "line 2: found 'b.jpg A', expected NAME#K<tab>caption"),
        ('{"images": [{"filename": "a.jpg", "sentences": []}]}', "images[0]: 'split' is missing"),
        ('{"images": [], "annotations": [{"image_id": 1, "bbox": []}]}', "annotations with bbox, image_id"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path, content, expected):
    (tmp_path / "c").write_text(content)
    with pytest.raises(UserError) as error:
        read_captions(tmp_path / "c")
    assert expected in str(error.value)


def test_no_such_file_no_text_and_many_mistakes(tmp_path):
    with pytest.raises(UserError, match=r"no file of captions .*nothing"):
        read_captions(tmp_path / "nothing")
    (tmp_path / "image.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(UserError, match="not text in UTF-8"):
        read_captions(tmp_path / "image.jpg")
    with pytest.raises(UserError, match=r"7 of 7 .*(?s:.*)and 2 more"):
        read_captions(write(tmp_path / "c", *['{"image_id": "a"}'] * 7))
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=r"no file captions_\*\.json"):
        read_captions(tmp_path / "folder")


@pytest.mark.parametrize(
    "ids",
    [["a", "b"], ["images/a.jpg", "images/b.jpg"], ["images/a", "images/b"], ["b.jpg"], ["val/a.jpg", "train/b.jpg"]],
)
def test_join_finds_the_spelling_of_the_images(ids):
    examples = [DOG, Captioned("b", "images/b.jpg", "val", ("A",)), Captioned("c", "images/c.jpg", "val", ("A",))]
    joined = join(examples, [*ids, "zebra"])
    assert [example.image_id for example in joined] == ids
    assert len(joined.without_image) == 3 - len(ids)
    assert joined.without_captions == ["zebra"]
    assert "1 (zebra)" in joined.describe()


def test_join_does_not_use_a_spelling_that_two_examples_share():
    examples = [Captioned("1", "x/a.jpg", "train", ("A",)), Captioned("2", "y/a.jpg", "train", ("A",))]
    with pytest.raises(UserError, match="None of 2 captioned images is among the 1"):
        join(examples, ["a"])


def test_join_of_everything_has_nothing_to_tell():
    assert join([DOG], ["a"]).describe() == ""
