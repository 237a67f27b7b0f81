"""Each format of captions: splits, ids and lists as people write them, and what does not belong together."""

import json

import pytest

from pipelines.errors import UserError
from pipelines.inputs.caption_formats import Captioned, split_in_name
from pipelines.inputs.captions import read_captions


def write(path, *lines):
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


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


FLICKR = ["my dog.jpg#0\tA dog .", "cat.jpg#0\tA cat .", "cow.jpg#0\tA cow .", "my dog.jpg#1\tA pet ."]


def flickr(folder, train: bytes, lines=FLICKR):
    path = folder / "x.token.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    (folder / "x.trainImages.txt").write_bytes(train)
    (folder / "x.devImages.txt").write_bytes(b"cow.jpg\n")
    return path


@pytest.mark.parametrize(
    "train",
    [
        b"my dog.jpg\ncat.jpg\n",
        b"my dog.jpg\r\ncat.jpg",
        b"\n  my dog.jpg  \n\ncat.jpg\t\n",
        "my dog.jpg\ncat.jpg\n".encode("utf-8-sig"),
        "my dog.jpg\r\ncat.jpg\r\n".encode("utf-16"),
        "my dog.jpg\ncat.jpg\n".encode("utf-16-le"),
    ],
)
def test_a_list_of_a_split_has_a_name_a_line_in_any_encoding_that_can_be_told(tmp_path, train):
    found = read_captions(flickr(tmp_path, train))
    assert {example.file: example.split for example in found} == {
        "my dog.jpg": "train", "cat.jpg": "train", "cow.jpg": "val"
    }  # fmt: skip


def test_a_list_in_another_encoding_is_refused_with_its_name(tmp_path):
    with pytest.raises(UserError, match=r"x\.trainImages\.txt cannot be read: line 2 is not text in UTF-8 .*latin1"):
        read_captions(flickr(tmp_path, b"cat.jpg\ncaf\xe9.jpg\n"))


def test_an_accent_is_one_however_a_system_stores_it(tmp_path):
    lines = ["cafe\u0301.jpg#0\tA", "cow.jpg#0\tB"]
    assert len(read_captions(flickr(tmp_path, "caf\xe9.jpg\n".encode(), lines))) == 2


def test_images_in_no_list_and_names_without_captions_are_counted_and_named(tmp_path, capsys):
    assert [example.file for example in read_captions(flickr(tmp_path, b"cat.jpg\nhen.jpg\n"))] == [
        "cat.jpg",
        "cow.jpg",
    ]
    told = capsys.readouterr().err
    assert "1 image (my dog.jpg) in none of the lists of splits beside it; left out" in told
    assert "name 1 image (hen.jpg) without captions" in told
    path = flickr(tmp_path, b"horse.jpg\n", [line for line in FLICKR if "cow" not in line])
    with pytest.raises(UserError, match=r"none of its 2 images .*2 \(my dog.jpg, cat.jpg\), the lists 2 \(cow.jpg,"):
        read_captions(path)


@pytest.mark.parametrize(
    "name", ["latestImages.txt", "constrainImages.txt", "x.trainImages.txt.bak", "trainImages.text"]
)
def test_no_other_file_is_a_list_of_a_split(tmp_path, name):
    path = write(tmp_path / "x.token.txt", "a.jpg#0\tA")
    (tmp_path / name).write_text("b.jpg\n")
    assert [example.file for example in read_captions(path)] == ["a.jpg"]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("captions_val2014.json", "val"),
        ("captions_train2017.json.gz", "train"),
        ("coco_test_karpathy.json", "test"),
        ("captionsVal2014.json", "val"),
        ("VAL.json", "val"),
        ("dev-captions.json", "val"),
        ("flickr validation.json", "val"),
        ("captions_latest.json", None),
        ("contest.json", None),
        ("retrieval.json", None),
        ("constraints.json", None),
        ("values_trains_attest.json", None),
        ("captions_trainval2014.json", None),
        ("train_and_val.json", None),
        ("évaltest.json", None),
    ],
)
def test_a_split_is_a_word_of_the_name(name, split):
    assert split_in_name(name) == split


def coco(folder, images, annotations, name="captions_val.json"):
    whole = {"images": [{"id": i, "file_name": f"{n}.jpg"} for n, i in enumerate(images)],
             "annotations": [{"image_id": i, "caption": "A dog"} for i in annotations]}  # fmt: skip
    return write(folder / name, whole)


@pytest.mark.parametrize("image", [int, str, float])
@pytest.mark.parametrize("annotation", [int, str, float, lambda n: str(n) if n % 2 else n])
def test_ids_are_the_same_as_numbers_and_as_text(tmp_path, image, annotation, capsys):
    if str in (image, annotation) and float in (image, annotation):
        image = annotation = float  # "5.0" is no id that anybody writes
    found = read_captions(coco(tmp_path, map(image, range(10)), map(annotation, range(10))))
    assert len(found) == 10
    assert capsys.readouterr().err == ""


def test_annotations_of_images_that_are_not_listed_are_counted_and_named(tmp_path, capsys):
    found = read_captions(coco(tmp_path, [1, 2, 3], [1, 1, 2, 8, 9, 9]))
    assert [example.image_id for example in found] == ["1", "2"]
    told = capsys.readouterr().err
    assert "captions of 2 images (8, 9) that it does not list" in told
    assert "lists 1 image (3) without captions" in told
    with pytest.raises(UserError, match=r"none of the 2 images with captions .* say 2 \(8, 9\), the images 1 \(1\)"):
        read_captions(coco(tmp_path, [1], [8, 9]))
    with pytest.raises(UserError, match="names 1 image \\(5\\) more than once"):
        read_captions(coco(tmp_path, [5, "5"], [5]))


def test_one_file_name_in_two_folders_is_two_images(tmp_path):
    lines = [{"file": f"{folder}/1.jpg", "split": "val", "captions": ["A"]} for folder in ("a", "b")]
    found = read_captions(write(tmp_path / "c.jsonl", *lines, {"file": "b/2.jpg", "captions": ["B"]}))
    assert [example.image_id for example in found] == ["a/1.jpg", "b/1.jpg", "2"]
    with pytest.raises(UserError, match=r"1 image \(a/1.jpg\) more than once"):
        read_captions(write(tmp_path / "c.jsonl", lines[0], lines[0]))
    images = [{"filename": "x.jpg", "filepath": folder, "split": "val", "sentences": [{"raw": "A"}]}
              for folder in ("train2014", "val2014")]  # fmt: skip
    found = read_captions(write(tmp_path / "d.json", {"images": images}))
    assert [example.image_id for example in found] == ["train2014/x.jpg", "val2014/x.jpg"]


def test_karpathy_tells_the_ids_that_results_have(tmp_path):
    def aliases(**ids):
        entry = {"filename": "x.jpg", "split": "val", "sentences": [{"raw": "A"}], **ids}
        return read_captions(write(tmp_path / "d.json", {"images": [entry]}))[0].aliases

    assert aliases(cocoid=391895, imgid=0) == ("391895",)
    assert aliases(imgid=7) == ("7",)
    assert aliases() == ()


def test_captions_in_utf_16_as_windows_writes_them(tmp_path):
    (tmp_path / "t").write_bytes("a.jpg#0\tEin schöner Hund .\r\n".encode("utf-16"))
    assert read_captions(tmp_path / "t")[0].captions == ("Ein schöner Hund .",)
    entry = {"image_id": 5, "file": "a.jpg", "split": "validation", "captions": ["Schön"]}
    (tmp_path / "c.jsonl").write_bytes(json.dumps(entry, ensure_ascii=False).encode("utf-16"))
    assert read_captions(tmp_path / "c.jsonl") == [Captioned("5", "a.jpg", "val", ("Schön",))]
