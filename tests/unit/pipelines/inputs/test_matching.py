"""Captions and images by one rule: each caption meets its own image or is counted and named."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import UserError
from pipelines.inputs.caption_formats import Captioned
from pipelines.inputs.matching import match_captions


def example(image_id, file="", aliases=()):
    return Captioned(image_id, file, "train", ("A dog .",), aliases)


DOG = example("a", "images/a.jpg")


@pytest.mark.parametrize(
    "ids",
    [
        ["a", "b"],
        ["images/a.jpg", "images/b.jpg"],
        ["images/a", "images/b"],
        ["b.jpg"],
        ["/data/images/a.jpg", "/data/images/b.jpg"],
        ["s3://bucket/images/a.jpg", "s3://bucket/images/b.jpg"],
        [r"C:\images\a.jpg", r"C:\images\b.jpg"],
        ["./images/a.jpg", "./images/b.jpg"],
        ["a.png", "b.png"],
    ],
)
def test_the_spelling_of_the_images_is_found(ids):
    matches = match_captions([DOG, example("b", "images/b.jpg"), example("c", "images/c.jpg")], [*ids, "zebra"])
    assert [example.image_id for example in matches] == ids
    assert len(matches.without_image) == 3 - len(ids)
    assert matches.without_captions == ["zebra"]
    assert "1 (zebra)" in matches.describe()


def test_folders_do_not_matter_where_they_say_nothing():
    ids = ["val/a.jpg", "train/b.jpg"]
    assert [found.image_id for found in match_captions([DOG, example("b", "images/b.jpg")], ids)] == ids


def test_everything_matched_has_nothing_to_tell():
    assert match_captions([DOG], ["a"]).describe() == ""


def test_a_name_that_several_share_is_not_guessed_and_the_others_match():
    several = [example("1", "x/a.jpg"), example("2", "y/a.jpg"), example("3", "x/b.jpg")]
    with pytest.raises(UserError, match=r"of 2 images.*among the 1 .* 2 names \(1, 2\) fit several images or captions"):
        match_captions(several[:2], ["a"])
    matches = match_captions(several, ["a", "b"])
    assert [found.image_id for found in matches] == ["b"]
    assert (matches.without_image, matches.ambiguous, matches.without_captions) == (["a", "a"], ["a", "a"], ["a"])
    assert "fit several images or captions: 2 (a, a)" in matches.describe()
    matches = match_captions([example("a"), example("b")], ["x/a.jpg", "y/a.jpg", "x/b.jpg"])
    assert [found.image_id for found in matches] == ["x/b.jpg"]
    assert (matches.without_image, matches.ambiguous) == (["a"], ["a"])
    assert matches.without_captions == ["x/a.jpg", "y/a.jpg"]


def test_one_file_name_in_two_folders_is_two_images_below_any_root():
    both = [example("train/1", "train/1.jpg"), example("val/1", "val/1.jpg")]
    ids = ["coco/train/1.jpg", "coco/val/1.jpg"]
    assert [found.image_id for found in match_captions(both, ids)] == ids
    assert [found.image_id for found in match_captions(both, ids[::-1])] == ids


def test_folders_that_agree_for_some_images_have_to_for_all():
    """a/2 of the captions is not b/2 of the images, although most names without folders would meet."""
    ours = [example(f"a/{n}", f"a/{n}.jpg") for n in range(1, 5)]
    matches = match_captions(ours, ["a/1.jpg", "b/2.jpg", "b/3.jpg", "b/4.jpg"])
    assert [found.image_id for found in matches] == ["a/1.jpg"]
    assert matches.without_image == ["a/2.jpg", "a/3.jpg", "a/4.jpg"]


@pytest.mark.parametrize(
    ("examples", "ids"),
    [
        # Karpathy's split against results with COCO's ids, and the other way round (self-critical.pytorch#86, #117).
        ([example("COCO_val2014_000000391895", "val2014/COCO_val2014_000000391895.jpg", ("391895",))], ["391895"]),
        ([example("COCO_val2014_000000391895")], ["391895"]),
        ([example("391895")], ["COCO_val2014_000000391895"]),
        ([example("391895")], ["train2017/000000391895.jpg"]),
        ([example("000000391895")], ["391895"]),
        ([example("391895")], ["391895.0"]),
        ([example("391895.0")], ["391895"]),
        ([example("42", "VizWiz_train_00000042.jpg")], ["images/VizWiz_train_00000042.jpg"]),
        # As one system writes an accent and as another does.
        ([example("cafe\u0301", "cafe\u0301.jpg")], ["caf\xe9.jpg"]),
        ([example("my dog", "my dog.jpg")], ["photos/my dog.jpg"]),
    ],
)
def test_other_names_of_an_image(examples, ids):
    assert [found.image_id for found in match_captions(examples, ids)] == ids


def test_numbers_alone_do_not_make_two_names_one():
    with pytest.raises(UserError, match=r"'IMG_1' for one, .* 1 to be matched, 'shot_1.jpg' for one"):
        match_captions([example("IMG_1", "IMG_1.jpg")], ["shot_1.jpg"])
    with pytest.raises(UserError, match="of 1 image,"):
        match_captions([example("IMG_000001", "IMG_000001.jpg")], ["shot_000001.jpg"])


LETTERS = string.ascii_lowercase + string.digits + " _.-é日"
NAME = st.text(LETTERS, min_size=1, max_size=6).map(lambda name: f"x{name}x")
PATH = st.lists(NAME, min_size=1, max_size=3).map("/".join)


@given(st.lists(PATH, min_size=1, unique=True), st.lists(PATH), st.data())
def test_what_both_sides_name_alike_meets_and_nothing_is_lost(common, more, data):
    """Whatever the names: by path each caption meets its own image, and each that does not is named, once."""
    more = [path for path in dict.fromkeys(more) if path not in common]
    cut = data.draw(st.integers(0, len(more)))
    ours, theirs = common + more[:cut], common + more[cut:]
    matches = match_captions([example(f"#{path}", path) for path in ours], theirs)
    meets = {found.file: found.image_id for found in matches}
    assert {path: path for path in common}.items() <= meets.items()
    assert len(meets) + len(matches.without_image) == len(ours)
    assert sorted([*meets.values(), *matches.without_captions]) == sorted(theirs)
    assert set(matches.ambiguous) <= set(matches.without_image)


@given(st.lists(st.integers(0, 10**11), min_size=1, unique=True), st.integers(0, 3), st.randoms(use_true_random=False))
def test_ids_as_numbers_as_text_and_as_coco_names_are_the_same_images(numbers, way, random):
    spell = [str, "COCO_val2014_{:012d}".format, "{:012d}.jpg".format, "{}.0".format][way]
    ids = [spell(number) for number in numbers]
    random.shuffle(ids)
    matches = match_captions([example(str(number), aliases=("x",)) for number in numbers], ids)
    assert [found.image_id for found in matches] == [spell(number) for number in numbers]
    assert not matches.describe()
