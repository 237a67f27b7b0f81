"""Captions read from each format, and mistakes in them."""

import gzip
import hashlib
import json
import sys

import pytest

from pipelines.errors import UserError
from pipelines.inputs.caption_formats import Captioned
from pipelines.inputs.captions import hold_out, read_captions
from pipelines.tracking.lineage import sha256_of
from tests.worlds.command import rnncond


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


@pytest.mark.parametrize("end", "\u2028\u2029\x85\x0b\x0c\x1c", ids=lambda end: f"U+{ord(end):04X}")
def test_nothing_but_a_line_feed_ends_a_line(tmp_path, end):
    lines = [json.dumps(line(captions=[f"A{end}dog ."]), ensure_ascii=False), json.dumps(line("b"))]
    (tmp_path / "c.jsonl").write_bytes("\r\n".join(lines).encode())
    assert [example.captions for example in read_captions(tmp_path / "c.jsonl")] == [DOG.captions, DOG.captions]
    (tmp_path / "t").write_bytes(f"a.jpg#0\tA{end}dog .\r\nb.jpg#0\tA cat\r\n".encode())
    assert [example.captions for example in read_captions(tmp_path / "t")] == [DOG.captions, ("A cat",)]


def test_captions_in_a_bucket(bucket):
    uri, put = bucket
    packed = gzip.compress(json.dumps(line()).encode())
    put("c.jsonl.gz", packed)
    assert read_captions(f"{uri}/c.jsonl.gz") == [DOG]
    assert sha256_of(f"{uri}/c.jsonl.gz") == hashlib.sha256(packed).hexdigest()
    put("flickr/token.txt", b"a.jpg#0\tA dog .\nb.jpg#0\tA cat")
    put("flickr/devImages.txt", b"b.jpg\n")
    assert read_captions(f"{uri}/flickr/token.txt") == [Captioned("b", "b.jpg", "val", ("A cat",))]
    parts = [json.dumps({"images": [{"id": n, "file_name": "x"}], "annotations": [{"image_id": n, "caption": "A"}]})
             for n in (7, 8)]  # fmt: skip
    put("coco/captions_val.json", parts[1].encode())
    put("coco/captions_train.json", parts[0].encode())
    assert [(found.image_id, found.split) for found in read_captions(f"{uri}/coco/")] == [("7", "train"), ("8", "val")]
    assert sha256_of(f"{uri}/coco") == hashlib.sha256("".join(parts).encode()).hexdigest()
    with pytest.raises(UserError, match=r"no file of captions .*/gone"):
        read_captions(f"{uri}/gone")
    with pytest.raises(UserError, match="no file system for this address"):
        read_captions("nowhere://c.jsonl")


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
        (json.dumps(line()) + "\n[1]", "line 2: found [1], expected a JSON object"),
        (json.dumps(line(captions="A dog")), "'captions' is \"A dog\", expected a list"),
        (json.dumps(line(captions=[1])), "'captions' is [1], expected a list of strings"),
        (json.dumps(line()) + "\n" + json.dumps(line("b", "trian")), "line 2: the split is 'trian', expected train"),
        (json.dumps(line(captions=[" "])), "'a' has no caption with words"),
        (json.dumps({"captions": ["A"]}), "neither image_id nor file"),
        (json.dumps(line()) + "\n" + json.dumps(line()), "1 image (a) more than once; an"),
        (json.dumps(line()) + "\n" + json.dumps(line(split="val")), "(a) more than once, 1 in train and val; an"),
        ("a.jpg#0\tA\nb.jpg A", "line 2: found 'b.jpg A', expected NAME#K<tab>caption"),
        (json.dumps(line([1])), "line 1: 'image_id' is [1], expected a whole number or a string"),
        (json.dumps(line(split=["val"])), "line 1: the split is ['val'], expected train"),
        ('{"images": [{"filename": "a.jpg", "sentences": []}]}', "images[0]: 'split' is missing"),
        ('{"images": null}', "c: 'images' is null, expected a list"),
        ('{"images": [3]}', "images[0]: found 3, expected a JSON object"),
        ('{"images": [{"filename": "a.jpg", "split": "val", "sentences": ["A"]}]}', 'images[0]: found "A", expected'),
        ('{"images": [{"filename": "a.jpg", "split": "val", "sentences": {}}]}', "'sentences' is {}, expected a list"),
        ('{"images": [], "annotations": [{"image_id": 1, "bbox": []}]}', "annotations[0]: 'caption' is missing"),
        ('{"images": [], "annotations": 3}', "c: 'annotations' is 3, expected a list"),
        ('{"images": [], "annotations": [null]}', "annotations[0]: found null, expected a JSON object"),
        (
            '{"images": [], "annotations": [{"image_id": [1], "caption": "A"}]}',
            "'image_id' is [1], expected a whole number",
        ),
        ('{"images": [], "annotations": [{"image_id": 1, "caption": 2}]}', "'caption' is 2, expected a string"),
        ('{"images": 3, "annotations": []}', "c: 'images' is 3, expected a list"),
        ('{"images": [[]], "annotations": []}', "images[0]: found [], expected a JSON object"),
        ('{"images": [{"id": {}}], "annotations": []}', "images[0]: 'id' is {}, expected a whole number or a string"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path, content, expected):
    (tmp_path / "c").write_text(content)
    with pytest.raises(UserError) as error:
        read_captions(tmp_path / "c")
    assert expected in str(error.value)


DEEP = '{"a":' * 100_000
HALF = r"A \ud83d dog"


def coco(image_id="1", caption='"A"', file='"a.jpg"', more=""):
    return (
        f'{{{more} "images": [{{"id": {image_id}, "file_name": {file}}}],'
        f' "annotations": [{{"image_id": {image_id}, "caption": {caption}}}]}}'
    )


def karpathy(sentence='"A"', file='"a.jpg"'):
    return f'{{"images": [{{"filename": {file}, "split": "val", "sentences": [{{"raw": {sentence}}}]}}]}}'


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (DEEP, "the first JSON object cannot be read: nested too deeply"),
        (json.dumps(line()) + "\n" + DEEP, "line 2: nested too deeply"),
        (coco(more=f'\n"info": {DEEP},\n'), "the first JSON object cannot be read: nested too deeply"),
        (coco("1" * 5000), "the first JSON object cannot be read: a number has thousands of digits"),
        (json.dumps(line()) + "\n" + f'{{"image_id": {"1" * 5000}}}', "line 2: a number has thousands of digits"),
        (f'{{"image_id": "a", "captions": ["{HALF}"]}}', f"line 1: half of a character (a lone surrogate) in '{HALF}'"),
        (f'{{"image_id": "{HALF}", "captions": ["A"]}}', f"line 1: half of a character (a lone surrogate) in '{HALF}'"),
        (f'{{"file": "{HALF}", "captions": ["A"]}}', f"line 1: half of a character (a lone surrogate) in '{HALF}'"),
        (f'{{"image_id": "a", "captions": {{"a": "{HALF}"}}}}', rf"""'captions' is {{"a": "{HALF}"}}, exp"""),
        (coco(caption=f'"{HALF}"'), f"annotations[0]: half of a character (a lone surrogate) in '{HALF}'"),
        (coco(f'"{HALF}"'), f"annotations[0]: half of a character (a lone surrogate) in '{HALF}'"),
        (coco(file=f'"{HALF}"'), f"images[0]: half of a character (a lone surrogate) in '{HALF}'"),
        (karpathy(f'"{HALF}"'), f"images[0]: half of a character (a lone surrogate) in '{HALF}'"),
        (karpathy(file=f'"{HALF}"'), f"images[0]: half of a character (a lone surrogate) in '{HALF}'"),
        ('{"image_id": NaN, "captions": ["A"]}', "line 1: 'image_id' is NaN, expected a whole number or a string"),
        ('{"image_id": true, "captions": ["A"]}', "line 1: 'image_id' is true, expected a whole number or a string"),
        (coco("NaN"), "annotations[0]: 'image_id' is NaN, expected a whole number or a string"),
        (karpathy(file="NaN"), "images[0]: 'filename' is NaN, expected a string"),
    ],
)  # fmt: skip
def test_json_that_cannot_be_used_is_one_message_of_the_command(tmp_path, capsys, content, expected):
    (tmp_path / "c").write_text(content)
    (tmp_path / "said").write_text("a\tA dog")
    files = ["--hypotheses", str(tmp_path / "said"), "--references", str(tmp_path / "c")]
    assert rnncond("evaluate", *files, "--kind", "captions", "--json") == 2
    told = capsys.readouterr()
    assert expected in json.loads(told.out)["error"]
    assert "Traceback" not in told.err


def test_values_too_deep_to_be_shown_are_refused_all_the_same(tmp_path):
    """At every depth about that at which reading and writing JSON give up."""
    for depth in range(sys.getrecursionlimit() - 300, sys.getrecursionlimit(), 5):
        (tmp_path / "c").write_text('{"image_id": 1, "captions": %s}' % ('{"a":' * depth + "1" + "}" * depth))
        with pytest.raises(UserError, match=r"expected a list|nested too deeply"):
            read_captions(tmp_path / "c")


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
