"""The page of a search: every trial in the table, the best first, a line each in parallel coordinates."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from pipelines.config.search_space import read_search
from pipelines.reporting import charts
from pipelines.reporting import search as report_search
from pipelines.tuning.trials import Record
from pipelines.verbs import report
from tests.worlds.remote import put_run

SCORES = {"000": [10.0, 30.0], "001": [20.0], "002": [5.0, 50.0, 40.0], "003": []}


@pytest.fixture
def found(tmp_path):
    section = (
        "tune={trials: 4, space: {training.learning_rate: {log: [1e-4, 1e-1]}, training.schedule.kind: [constant]}}"
    )
    search = read_search("show_tell.small", ["data.store=s", "data.captions=c", section], str(tmp_path / "found"))
    folder = tmp_path / "found"
    for number, (name, scores) in enumerate(SCORES.items()):
        trial = folder / "trials" / name
        trial.mkdir(parents=True)
        params = {"training.learning_rate": 10.0 ** (number - 4), "training.schedule.kind": "<cosine>"}
        status = "finished" if scores else "failed"
        (trial / "run.json").write_text(json.dumps({"params": params, "status": status, "reason": "too <high>"}))
        lines = [
            {"epoch": epoch, "CIDEr": score, "val_loss": 1 / score, "seconds": 1.5}
            for epoch, score in enumerate(scores, 1)
        ]
        (trial / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "run.json").write_text(json.dumps({"search": "random", "status": "finished"}))
    (folder / "search.yaml").write_text(search.to_yaml())
    (folder / "recipe.yaml").write_text("system: show_tell\n")
    return folder


class Cells(HTMLParser):
    def __init__(self):
        super().__init__()
        self.rows, self.inside, self.links = [], False, []

    def handle_starttag(self, tag, attributes):
        if tag == "tr":
            self.rows.append([])
        self.inside = tag in ("td", "th")
        if self.inside:
            self.rows[-1].append("")
        self.links += [value for key, value in attributes if key in ("src", "href") and not value.startswith("#")]

    def handle_endtag(self, tag):
        self.inside = False

    def handle_data(self, data):
        if self.inside:
            self.rows[-1][-1] += data


def test_what_the_best_model_writes_has_a_page_beside_it_once_it_was_evaluated(found, bucket, tmp_path):
    rows = [{"image_id": "a.png", "uri": "a.png", "caption": "a red dog", "log_prob": -4.2, "others": [],
             "references": ["a dog"], "scores": {"CIDEr": 10.0}}]  # fmt: skip
    (found / "evaluated.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    evaluation = {
        "model": {"id": "f" * 16, "system": "show_tell", "folder": str(found)}, "split": "val", "images": 1,
        "search": {"beam": 5}, "missing": [], "scores": {"CIDEr": 10.0}, "tokenizer": "ptb",
    }  # fmt: skip
    (found / "evaluation.json").write_text(json.dumps(evaluation))
    summary = report.run(str(found), None, None, None, 24, None).summary
    assert summary["trials"] == 4 and summary["page of the best model"] == str(found / "evaluated.html")
    assert "a red dog" in (found / "evaluated.html").read_text()
    cells = Cells()
    cells.feed((found / "report.html").read_text())
    assert cells.links == ["evaluated.html"]

    alone = tmp_path / "page.html"
    assert "page of the best model" not in report.run(str(found), to=str(alone)).summary
    cells = Cells()
    cells.feed(alone.read_text())
    assert cells.links == []

    uri = f"{bucket[0]}/found"
    trials = (found / "trials").rename(tmp_path / "trials")  # in object storage a trial is a run of its own
    remote = put_run(found, uri)
    for trial in trials.iterdir():
        put_run(trial, f"{uri}/trials/{trial.name}")
    summary = report.run(uri).summary
    assert summary["page"] == f"{uri}/report.html" and summary["page of the best model"] == f"{uri}/evaluated.html"
    assert "a red dog" in remote.files.read("evaluated.html").decode()


def test_the_table_has_every_trial_the_best_first_and_the_page_needs_nothing_else(found):
    outcome = report.run(str(found), None, None, None, 24, None)
    assert outcome.summary["trials"] == 4
    page = (found / "report.html").read_text()
    cells = Cells()
    cells.feed(page)
    assert cells.links == []
    assert cells.rows[0][:4] == ["trial", "CIDEr", "learning_rate", "kind"]
    assert [row[:3] for row in cells.rows[1:]] == [
        ["002", "50", "0.01"], ["000", "30", "0.0001"], ["001", "20", "0.001"], ["003", "", "0.1"],
    ]  # fmt: skip
    assert cells.rows[1][4:] == ["2", "3", "4.5", "finished"]
    assert "too &lt;high&gt;" in page and "<cosine>" not in page
    assert page.count('<polyline class="trial') == 3


def points_of(svg, name="trial"):
    lines = ElementTree.fromstring(str(svg)).findall("polyline")
    return {
        line.find("title").text: [tuple(map(float, pair.split(","))) for pair in line.get("points").split()]
        for line in lines
        if name in line.get("class")
    }


def texts_of(svg):
    return [text.text for text in ElementTree.fromstring(str(svg)).findall("text")]


def test_a_key_has_its_last_part_unless_two_end_alike():
    keys = ["model.hidden", "training.schedule.kind", "training.objective.kind"]
    assert list(report_search.last_parts(keys).values()) == ["hidden", *keys[1:]]


def test_parallel_coordinates_have_each_value_at_its_height():
    axes = {"rate": [1e-4, 1e-3, 1e-2], "kind": ["a", None, "a"], "size": [8, 16, 12], "score": [3.0, 1.0, 2.0]}
    svg = charts.parallel(axes, ["x", "y", "z"], ["rate"])
    found = {trial: [y for _, y in points] for trial, points in points_of(svg).items()}
    (low, middle, high) = (found[trial][0] for trial in "xyz")
    assert middle == pytest.approx((low + high) / 2, abs=0.1) and low > middle > high  # a logarithm, upwards
    assert [text for text in texts_of(svg) if text in ("0.0005", "0.002")] == ["0.0005", "0.002"]
    assert found["x"][1] == found["z"][1] != found["y"][1]
    assert found["z"][2] == pytest.approx((found["x"][2] + found["y"][2]) / 2, abs=0.1)
    assert [found[trial][3] for trial in "yzx"] == sorted((found[trial][3] for trial in "xyz"), reverse=True)
    assert len({points[-1][0] for points in points_of(svg).values()}) == 1
    assert list(points_of(svg, "best")) == ["x"]
    assert list(points_of(charts.parallel(axes, ["x", "y", "z"], lower_is_better=True), "best")) == ["y"]


def test_an_axis_of_choices_has_these_alone_and_whole_numbers_stay_whole():
    axes = {"hidden": [64, 48, 128], "layers": [1, 2, 1], "score": [3.0, 1.0, 2.0]}
    svg = charts.parallel(axes, ["x", "y", "z"], choices=["hidden"])
    assert texts_of(svg)[:7] == ["hidden", "48", "64", "128", "layers", "1", "2"]
    found = {trial: [y for _, y in points] for trial, points in points_of(svg).items()}
    assert found["y"][0] > found["x"][0] > found["z"][0]
    assert found["y"][0] - found["x"][0] == pytest.approx(found["x"][0] - found["z"][0], abs=0.2)


def test_few_axes_are_not_blown_up_over_the_page():
    axes = {"hidden": [64, 48], "score": [3.0, 1.0]}
    svg = ElementTree.fromstring(str(charts.parallel(axes, ["x", "y"])))
    style = dict(entry.split(": ") for entry in svg.get("style").split("; "))
    width = float(svg.get("viewBox").split()[2])
    assert float(style["min-width"][:-2]) <= width <= float(style["max-width"][:-2]) < 1.5 * width


def test_the_best_so_far_is_by_the_minutes_of_the_trials_in_the_order_in_which_they_ended(monkeypatch):
    ends = {"000": ("10:02", 1.0, 120), "001": ("10:01", 3.0, 60), "002": ("10:03", 5.0, 30), "003": (None, 4.0, 30)}
    found = []
    for name, (end, score, seconds) in ends.items():
        line = {"epoch": 1, "val_loss": 1.0, "seconds": float(seconds), "CIDEr": score}
        found.append(Record(name, {}, "finished", {"ended": end} if end else {}, [line]))
    drawn = []
    monkeypatch.setattr(charts, "line_chart", lambda series, *_, **__: drawn.append(series["best"]))
    report_search.progress(found, "CIDEr")
    assert drawn == [[(1, 3.0), (3, 3.0), (3.5, 5.0), (4, 5.0)]]


def test_the_best_of_many_curves_is_drawn_apart():
    svg = charts.line_chart({"a": [(1, 1.0)], "b": [(1, 3.0), (2, 2.0)]}, "max", only_last=True)
    assert [line.get("class") for line in ElementTree.fromstring(str(svg)).findall("polyline")] == ["other", "series-1"]
    assert 'class="best series-1"' in svg


def test_an_axis_has_numbers_also_where_no_round_one_is_within():
    shares, marks = charts.axis_places([0.0031, 0.0042], logarithmic=True)
    assert shares == [0, 1] and marks == [("0.0031", 0), ("0.0042", 1)]
    assert charts.axis_places([1e-4, 1e-2], logarithmic=True)[1][0] == ("0.0001", 0)
    assert len(charts.axis_places([64, 128])[1]) > 1 and len(charts.axis_places([0.101, 0.102])[1]) > 1


def test_trials_of_one_epoch_have_no_curves():
    line = {"val_loss": 1.0, "CIDEr": 2.0}
    short, long = ([{"epoch": epoch, **line} for epoch in range(1, count + 1)] for count in (1, 2))
    assert report_search.curves([Record("000", {}, "finished", {}, short)], "CIDEr") is None
    assert report_search.curves([Record("000", {}, "finished", {}, long)], "CIDEr") is not None


@pytest.mark.parametrize(("status", "shown"), [("interrupted", "interrupted"), ("running", "running")])
def test_a_trial_under_way_is_interrupted_once_nobody_searches(found, status, shown):
    (found / "trials/003/run.json").write_text(json.dumps({"params": {}, "status": "running"}))
    (found / "run.json").write_text(json.dumps({"search": "random", "status": status}))
    search = (found / "search.yaml").read_text()
    (found / "search.yaml").write_text(search.replace("trials: 4", "trials: 9"))
    page, _ = report_search.page_of(found)
    assert f"{status}: 4 trials, 5 to begin, " in page
    cells = Cells()
    cells.feed(page)
    assert [row[-1] for row in cells.rows if row[0] == "003"] == [shown]
