"""Which pictures are shown, what part of them the network saw, and heat maps."""

import base64
import io
from math import ceil

import numpy as np
import pytest
from PIL import Image

from pipelines.features.preprocess import Preprocess
from pipelines.reporting.gallery import Attention, Card, crop_box, heat_png, show


def preprocess(crop=224, resize=256, fit="shorter"):
    return Preprocess((crop, crop), (resize, resize), "bilinear", (0, 0, 0), (1, 1, 1), fit)


@pytest.mark.parametrize(
    ("size", "how", "expected"),
    [
        ((512, 256), preprocess(), (0.28125, 0.0625, 0.71875, 0.9375)),  # 224 of 512 across, of 256 down
        ((256, 512), preprocess(), (0.0625, 0.28125, 0.9375, 0.71875)),
        ((300, 300), preprocess(224, 224), (0, 0, 1, 1)),
        ((640, 320), preprocess(224, 256, "squash"), (0.0625, 0.0625, 0.9375, 0.9375)),
    ],
)
def test_the_part_of_the_picture_that_the_network_saw(size, how, expected):
    assert crop_box(how, *size) == pytest.approx(expected)


@pytest.mark.parametrize("size", [(480, 200), (190, 400), (333, 333)])
def test_that_part_is_what_the_preprocessing_keeps(size):
    """A white picture with a black frame around that part: what the network gets is white all over."""
    left, top, right, bottom = crop_box(preprocess(), *size)
    image = np.zeros((size[1], size[0], 3), np.uint8)
    down, across = slice(int(top * size[1]), ceil(bottom * size[1])), slice(int(left * size[0]), ceil(right * size[0]))
    image[down, across] = 255
    assert preprocess()(Image.fromarray(image)).mean() > 253
    smaller = np.zeros_like(image)
    smaller[down.start + 9 : down.stop - 9, across.start + 9 : across.stop - 9] = 255
    assert preprocess()(Image.fromarray(smaller)).mean() < 250


def test_a_heat_map_is_a_pixel_a_place_with_the_weight_as_opacity():
    image = Image.open(io.BytesIO(base64.b64decode(heat_png(np.array([[0, 1], [0.5, 0], [0, 0]])).split(",")[1])))
    alpha = np.asarray(image)[..., 3]
    assert alpha.shape == (3, 2)
    assert alpha[0, 1] > alpha[1, 0] > alpha[0, 0] == 0


def test_attention_has_a_row_a_word_and_sums_to_one():
    seen = Attention(2, 2, ["a", " dog"], np.array([[1, 1, 1, 1], [0, 0, 3, 1]]))
    assert seen.weights.tolist() == [[0.25] * 4, [0, 0, 0.75, 0.25]]
    card = Card("x", "a dog", attention=seen)
    assert [piece for piece, _ in card.strip()] == ["a", " dog"]
    assert card.data() == {"rows": 2, "columns": 2, "weights": seen.weights.tolist()}
    with pytest.raises(ValueError, match=r"2 words over 2 x 3 places need \(2, 6\)"):
        Attention(2, 3, ["a", " dog"], np.ones((2, 4)))


def test_only_what_is_above_an_even_share_is_shown():
    sharp = Attention(1, 4, ["a", "dog"], np.array([[0.85, 0.05, 0.05, 0.05], [0.25, 0.25, 0.55, 0]]))
    even = 0.25
    assert sharp.opacity[0].tolist() == pytest.approx([1, 0, 0, 0])
    assert sharp.opacity[1].tolist() == pytest.approx([0, 0, (0.55 / 1.05 - even) / (0.85 - even), 0])
    spread = Attention(1, 4, ["a"], np.array([[0.30, 0.25, 0.25, 0.20]]))
    assert spread.opacity[0].tolist() == pytest.approx([0.05 / even, 0, 0, 0])


def test_a_picture_is_made_small_and_one_that_is_gone_is_told(tmp_path):
    Image.new("RGB", (2000, 1000), "red").save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"nothing")
    card = show(Card("a", "red"), [str(tmp_path / "nothing.png"), str(tmp_path / "a.png")], preprocess())
    image = Image.open(io.BytesIO(base64.b64decode(card.picture.split(",")[1])))
    assert image.size == (card.width, card.height) == (480, 240)
    assert card.crop == pytest.approx(crop_box(preprocess(), 2000, 1000))
    assert not card.missing
    seen = Attention(1, 1, ["red"], np.ones((1, 1)))
    assert "not a picture" in show(Card("b", "x", attention=seen), [str(tmp_path / "b.png")], None).missing
    assert "nothing.png" in show(Card("c", "x"), [str(tmp_path / "nothing.png")], None).missing
    assert "do not say where" in show(Card("d", "x"), [], None).missing
