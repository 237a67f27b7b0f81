"""Figures are well-formed SVG, with what they show in it."""

from __future__ import annotations

import base64
import io
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from pipelines.api.figures import CELL, Figure, matrix_figure, picture_figure
from pipelines.errors import UserError
from pipelines.features.preprocess import Preprocess

NS = {"svg": "http://www.w3.org/2000/svg"}
HREF = "{http://www.w3.org/1999/xlink}href"
RED = Image.new("RGB", (300, 200), (255, 0, 0))


def heat_of(image: ElementTree.Element) -> np.ndarray:
    """The alpha of a map of attention."""
    data = base64.b64decode(image.attrib[HREF].partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(data)))[..., 3]


def test_each_word_has_its_map_over_the_picture():
    weights = np.zeros((2, 2, 3))
    weights[0, 0, 0] = weights[1, 1, 2] = 1
    root = ElementTree.fromstring(picture_figure(RED, ["a & b", " dog"], weights).svg)
    assert [text.text for text in root.iterfind(".//svg:text", NS)] == [None, "a & b", "dog"]
    heats = [heat_of(image) for image in root.iterfind(".//svg:g/svg:image", NS)]
    assert [np.unravel_index(heat.argmax(), heat.shape) for heat in heats] == [(0, 0), (1, 2)]
    assert all((heat > 0).sum() == 1 for heat in heats)


def test_the_map_lies_over_the_part_that_the_network_saw():
    """Of 300 x 200 pixels the square of 200 in the middle: from 1/6 to 5/6 of the width."""
    preprocess = Preprocess((200, 200), (200, 200), "bilinear", (0, 0, 0), (1, 1, 1))
    root = ElementTree.fromstring(picture_figure(RED, ["dog"], np.full((1, 2, 2), 0.25), crop=preprocess).svg)
    (heat,) = root.iterfind(".//svg:g/svg:image", NS)
    assert float(heat.attrib["x"]) == pytest.approx(CELL / 6, abs=0.1)
    assert float(heat.attrib["width"]) == pytest.approx(CELL * 4 / 6, abs=0.1)
    assert float(heat.attrib["y"]) == pytest.approx(0, abs=0.1)


def test_regions_are_where_their_boxes_are():
    boxes = np.array([[0, 0, 150, 200], [150, 0, 300, 200]], np.float32)
    root = ElementTree.fromstring(picture_figure(RED, ["dog"], np.array([[0.0, 1.0]]), boxes).svg)
    (heat,) = (heat_of(image) for image in root.iterfind(".//svg:g/svg:image", NS))
    assert heat[:, : heat.shape[1] // 2].max() == 0
    assert heat[:, heat.shape[1] // 2 :].min() > 0


def test_a_matrix_stands_alone_and_escapes_words():
    drawn = matrix_figure(["ein", " Hund"], ["a", " <dog>", " </s>"], np.eye(2, 3))
    root = ElementTree.fromstring(drawn.svg)
    assert [text.text for text in root.iterfind("svg:text", NS)] == ["a", "<dog>", "</s>"]
    assert len(list(root.iterfind(".//svg:rect[@class='cell']", NS))) == 2
    assert root.find("svg:style", NS) is not None


def test_jupyter_shows_it_and_it_is_saved(tmp_path):
    figure = Figure("<svg/>")
    assert figure._repr_svg_() == "<svg/>"
    figure.save(tmp_path / "a.svg")
    assert (tmp_path / "a.svg").read_text() == "<svg/>"
    with pytest.raises(UserError, match=r"a\.png: .*\.svg"):
        figure.save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"The figure cannot be written to .*a\.svg: No such file or directory"):
        figure.save(tmp_path / "none" / "a.svg")
