"""Curves, notes and settings of a report; tests/unit/pipelines/verbs/test_report.py has whole pages."""

from __future__ import annotations

from types import SimpleNamespace

from pipelines.reporting import page
from pipelines.reporting.load import ReportData

PART = SimpleNamespace(
    TEMPLATE="pictures.html", RANK="CIDEr", UNIT="pictures", about=lambda evaluation: {"split": evaluation.get("split")}
)


def test_a_curve_for_each_measure_that_was_taken():
    metrics = [
        {"epoch": 1, "train_loss": 3.0},  # an epoch without validation
        {"epoch": 2, "train_loss": 2.0, "CIDEr": None, "val_loss": None},
        {"epoch": 3, "train_loss": 2.0, "val_loss": 2.5, "CIDEr": 7.0, "BLEU-4": None},
    ]
    assert [(curve["title"], curve["labels"]) for curve in page.curves(metrics)] == [
        ("Loss per word", ["training", "validation"]),
    ]  # of CIDEr there is a point, which is no curve
    assert page.curves([{"epoch": 1}]) == []


def test_settings_leave_out_what_is_not_known():
    evaluation = {
        "model": {"folder": "runs/a", "id": None}, "split": "val", "search": {"length_penalty": "gnmt", "beam": None},
        "left_out": {"SPICE": "no Java"},
    }  # fmt: skip
    assert page.settings(evaluation, PART) == {
        "model": "runs/a", "split": "val", "search: length penalty": "gnmt", "no SPICE": "no Java"
    }  # fmt: skip


def test_notes_count_all_of_which_some_are_shown():
    assert page.notes(12345, PART)["Examples"] == "spread evenly over 12,345 pictures"


def test_scores_come_in_their_order_and_unknown_ones_behind(tmp_path):
    scores = {"new metric": 1.5, "BLEU-4": 2.5, "CIDEr": 3.5}
    rows = [{"image_id": str(value), "caption": "", "scores": {"CIDEr": value}} for value in (1.0, 2.0)]
    content = ReportData(str(tmp_path / "<run>"), evaluation={"scores": scores}, rows=rows, total=2)
    shown = page.render(PART, content, {}, [])
    places = [shown.index(name) for name in ("CIDEr</", "BLEU-4</", "new metric</")]
    assert places == sorted(places)
    assert "<svg" in shown, "the spread of the pictures' scores"
    assert "&lt;run&gt;" in shown and "<run>" not in shown
    one = ReportData(str(tmp_path), evaluation={"scores": scores}, rows=rows[:1], total=1)
    assert "<svg" not in page.render(PART, one, {}, [])
