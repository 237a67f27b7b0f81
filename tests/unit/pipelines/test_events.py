"""Events: a line of JSON for each step, for programs."""

from __future__ import annotations

import json
import os

import pytest

from pipelines.cli.commands import take_common
from pipelines.console import Progress
from pipelines.errors import UserError
from pipelines.events import EVENTS, EventLog
from tests.worlds.command import rnncond


@pytest.fixture(autouse=True)
def closed():
    yield
    EVENTS.close()


def read(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_lines_are_added_and_nothing_where_no_file_is_open(tmp_path):
    log, path = EventLog(), tmp_path / "events.jsonl"
    log.emit("phase", phase="before")
    for phase in ("starting Ray", 'a "quoted" one'):
        log.open(str(path))
        log.emit("phase", phase=phase, path=tmp_path)
        log.close()
    lines = read(path)
    assert [line["phase"] for line in lines] == ["starting Ray", 'a "quoted" one']
    assert all(line["event"] == "phase" and line["time"] > 1e9 and line["path"] == str(tmp_path) for line in lines)


def test_a_file_that_cannot_be_written_is_a_mistake(tmp_path, capsys):
    with pytest.raises(UserError, match=r"--events .*nowhere"):
        EventLog().open(str(tmp_path / "nowhere" / "events"))
    with pytest.raises(UserError, match="--events: expected the name of a file"):
        take_common(["--events"])
    if os.path.exists("/dev/full"):
        log = EventLog()
        log.open("/dev/full")
        log.emit("phase")  # the disk is full, and the verb goes on
        log.close()


def test_progress_is_told_as_events(tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.console.EVENT_SECONDS", 0)
    EVENTS.open(str(tmp_path / "events"))
    with Progress("caption", "images", 10) as progress:
        progress.phase("loading weights")
        progress.phase("loading weights")
        progress.within(3)
        progress.advance(4, failed=1)
        progress.phase("first units")
        progress.advance(6)
    lines = read(tmp_path / "events")
    assert [line["phase"] for line in lines if line["event"] == "phase"] == ["loading weights"], "each phase once"
    done = [(line["done"], line["failed"], line["total"]) for line in lines if line["event"] == "progress"]
    assert done == [(3, 0, 10), (4, 1, 10), (10, 1, 10), (10, 1, 10)]


def test_a_verb_ends_with_its_outcome_or_its_error(tmp_path, capsys):
    path = tmp_path / "events"
    assert rnncond("recipes", "list", f"--events={path}") == 0
    assert rnncond("recipes", "show", "nothing", "--events", path) == 2
    outcome, error = read(path)
    assert (outcome["event"], outcome["failed"]) == ("outcome", 0)
    assert "show_tell.small" in outcome["summary"]["recipes"]
    assert (error["event"], error["code"]) == ("error", 2)
    assert "no recipe 'nothing'" in error["message"]
