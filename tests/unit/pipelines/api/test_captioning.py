"""Captions from Python: whatever a picture is given as, by search or by sampling, with attention."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.api import Caption, UserError, load_captioner
from pipelines.features import backbones
from tests.worlds import captioner as world


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures, and a model that reads them."""
    folder = tmp_path_factory.mktemp("api")
    world.make_pictures(folder / "pictures")
    for number, path in enumerate(sorted((folder / "pictures").iterdir())):
        pixels = np.random.default_rng(number).integers(0, 255, (48, 64, 3), np.uint8)
        Image.fromarray(pixels).save(path)
    network = backbones.load(world.BACKBONE, "random", ("grid", "pooled"))
    world.model_reading(folder / "model", "show_attend_tell", "grid", network.recipe)
    world.model_reading(folder / "pooled", "show_tell", "pooled", network.recipe)
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return load_captioner(folder / "model")


def test_a_picture_is_a_path_bytes_or_pillows(folder, model):
    path = folder / "pictures" / "a.png"
    given = [str(path), path, path.read_bytes(), Image.open(path), path.as_uri()]
    captions = model.caption(given)
    assert len({caption.text for caption in captions}) == 1
    assert captions[0].text
    one = model.caption(path)
    assert isinstance(one, Caption)
    assert str(one) == one.text == captions[0].text
    assert one.score == pytest.approx(captions[0].score, abs=1e-4)


def test_a_picture_of_pillow_is_turned_upright(folder, model, tmp_path):
    """Orientation 3 of EXIF is upside down."""
    upright = Image.open(folder / "pictures" / "b.png")
    upright.rotate(180).save(tmp_path / "turned.png", exif=exif(3))
    turned = Image.open(tmp_path / "turned.png")
    assert model.caption(turned).log_prob == pytest.approx(model.caption(upright).log_prob, abs=1e-4)
    assert model.caption(upright.rotate(180)).log_prob != pytest.approx(model.caption(upright).log_prob, abs=1e-4)


def exif(orientation: int) -> Image.Exif:
    values = Image.Exif()
    values[0x0112] = orientation
    return values


def test_a_list_in_its_order_and_more_than_a_batch(folder, model):
    paths = sorted((folder / "pictures").iterdir()) * 3
    together = model.caption(paths)
    assert [caption.text for caption in together] == [model.caption(path).text for path in paths]
    assert len({caption.text for caption in together}) > 1, "the pictures differ, and so do their captions"
    assert model.caption([]) == []


def test_nbest_is_ordered_and_begins_with_the_caption(folder, model):
    caption = model.caption(folder / "pictures" / "a.png", beam=4, nbest=3)
    scores = [other.score for other in caption.alternatives]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)
    assert caption.alternatives[0] == (caption.text, caption.score)


def test_samples_are_drawn_and_a_seed_repeats_them(folder, model):
    path = folder / "pictures" / "a.png"
    drawn = model.caption(path, samples=8, seed=1)
    assert len(drawn.alternatives) == 8
    assert len({other.text for other in drawn.alternatives}) > 1
    assert drawn == model.caption(path, samples=8, seed=1)
    assert drawn != model.caption(path, samples=8, seed=2)
    likeliest = model.caption(path, samples=3, top_k=1)
    assert {other.text for other in likeliest.alternatives} == {model.caption(path, beam=1).text}, "top-1 is greedy"


def test_attention_is_a_map_for_each_word(folder, model):
    caption = model.caption(folder / "pictures" / "a.png", attention=True)
    assert caption.attention is not None
    assert caption.attention.shape == (len(caption.pieces), *model.grid)
    np.testing.assert_allclose(caption.attention.sum((1, 2)), 1, atol=2e-3)  # kept in float16
    assert "".join(caption.pieces) == caption.text
    assert caption.figure().svg.count("<use ") == 1 + len(caption.pieces)
    with pytest.raises(UserError, match="attention=True"):
        model.caption(folder / "pictures" / "a.png").figure()


def test_a_caption_without_a_word_has_a_map_for_none(model):
    row = {"caption": "", "score": -1.0, "log_prob": -1.0, "nbest": [], "pieces": [], "attention": []}
    caption = model._caption_of(row, Image.new("RGB", (8, 6)))
    assert caption.attention is not None and caption.attention.shape == (0, *model.grid)
    assert caption.figure().svg.count("<use ") == 1


def test_what_is_wrong_is_told(folder, model, tmp_path):
    good, broken = folder / "pictures" / "a.png", tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"2 of 3 pictures cannot be captioned:\n.*broken.jpg: not a picture.*\n.*gone"):
        model.caption([good, broken, tmp_path / "gone.jpg"])
    with pytest.raises(UserError, match=r"expected a path, bytes, a picture of Pillow .* got int"):
        model.caption(7)
    with pytest.raises(UserError, match=r"picture 1: expected .* got int"):
        model.caption([good, 7])
    with pytest.raises(UserError, match=r"no argument 'bean'.*Did you mean 'beam'"):
        model.caption(good, bean=3)
    with pytest.raises(UserError, match="temperature"):
        model.caption(good, samples=1, temperature=0)
    with pytest.raises(UserError, match="does not attend"):
        load_captioner(folder / "pooled").caption(good, attention=True)


def test_an_ensemble_of_a_model_with_itself_says_the_same(folder, model):
    path = folder / "pictures" / "a.png"
    both = load_captioner(folder / "model", folder / "model").caption(path)
    assert both.text == model.caption(path).text


@pytest.mark.heavy
def test_neither_ray_nor_mlflow_is_loaded(folder):
    code = (
        f"import sys\nfrom pipelines.api import load_captioner\nmodel = load_captioner({str(folder / 'model')!r})\n"
        f"print(model.caption({str(folder / 'pictures' / 'a.png')!r}))\n"
        "assert not {'ray', 'mlflow'} & set(sys.modules)"
    )
    root = str(Path(__file__).parents[4])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
