"""Charts as SVG: points where the numbers say, round ticks, one number or many."""

import re
from xml.etree import ElementTree

import pytest

from pipelines.reporting import charts


def points(svg, number=1):
    line = ElementTree.fromstring(str(svg)).find(f"polyline[@class='series-{number}']").get("points")
    return [tuple(map(float, pair.split(","))) for pair in line.split()]


def texts(svg):
    return [text.text for text in ElementTree.fromstring(str(svg)).iter("text")]


def test_a_line_has_its_points_in_proportion():
    svg = charts.line_chart({"loss": [(1, 4.0), (2, 3.0), (5, 0.0)]})
    (x1, y1), (x2, y2), (x3, y3) = points(svg)
    assert (x2 - x1) / (x3 - x1) == pytest.approx(1 / 4, abs=0.01)
    assert (y2 - y1) / (y3 - y1) == pytest.approx(1 / 4, abs=0.01)
    assert y1 < y3  # upwards in the picture


def test_the_best_point_of_the_last_series_is_marked():
    series = {"training": [(1, 9.0), (2, 1.0)], "validation": [(1, 5.0), (2, 3.25), (3, 4.0)]}
    assert "3.25" in texts(charts.line_chart(series, "min"))
    assert "5" in texts(charts.line_chart(series, "max"))
    svg = charts.line_chart(series, "min")
    marked = re.search(r'class="best series-2" cx="([\d.]+)" cy="([\d.]+)"', svg)
    assert tuple(map(float, marked.groups())) == points(svg, 2)[1]


def test_a_single_epoch_and_equal_values_can_be_drawn():
    for only in ([(1, 0.0)], [(1, 2.0), (2, 2.0)]):
        for x, y in points(charts.line_chart({"x": only}, "max")):
            assert 0 <= x <= charts.WIDTH and 0 <= y <= charts.HEIGHT


def test_letters_that_reach_below_their_line_are_not_cut():
    svg = ElementTree.fromstring(str(charts.line_chart({"x": [(1, 2.0), (2, 3.0)]}, "max")))
    lines = [float(text.get("y")) for text in svg.iter() if text.tag.endswith("text")]
    assert len(lines) > 4 and max(lines) <= charts.HEIGHT - 4  # of letters 11 high a third may be below


@pytest.mark.parametrize(
    ("low", "high", "about", "whole", "expected"),
    [
        (0, 10, 5, False, [0, 2, 4, 6, 8, 10]),
        (0.3, 0.92, 4, False, [0.2, 0.4, 0.6, 0.8, 1.0]),
        (1, 15, 6, True, [0, 5, 10, 15]),
        (1, 3, 6, True, [1, 2, 3]),
        (-5, 5, 2, False, [-5, 0, 5]),
    ],
)
def test_ticks_are_round_and_enclose(low, high, about, whole, expected):
    assert charts.ticks(low, high, about, whole) == pytest.approx(expected)


def test_a_histogram_counts_every_value_once():
    svg = charts.histogram([0, 1, 1, 2, 15.9, 16], bins=16)
    bars = [float(bar.get("height")) for bar in ElementTree.fromstring(str(svg)).findall("rect")]
    highest = max(bars)
    assert sum(bar / highest * 2 for bar in bars) == pytest.approx(6, abs=0.05)
    assert "mean 5.98" in texts(svg)
    assert charts.histogram([0, 0], bins=4).count("<rect") == 1


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (3.0, "3"), (2.50, "2.5"), (0.125, "0.12"), (85.53, "85.5"), (1e-5, "1e-05")],
)
def test_numbers_are_short(value, text):
    assert charts.number_text(value) == text


def test_labels_are_escaped():
    ElementTree.fromstring(str(charts.line_chart({"<b> & co": [(1, 1), (2, 2)]}, across="<i>")))
