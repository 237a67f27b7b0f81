"""What is told on a terminal and elsewhere: names as they are, progress line by line."""

from __future__ import annotations

import math
import threading

import pytest

from pipelines import console
from pipelines.console import Outcome, Progress, Waiting


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets: ``clock(seconds)``."""
    now = [1000.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    for timer in (Progress, Waiting):
        monkeypatch.setattr(timer, "_tell_again", lambda progress: None)

    def at(seconds: float) -> None:
        now[0] = 1000.0 + seconds

    return at


def test_what_a_dead_worker_had_done_is_no_rate(clock, capsys):
    with Progress("caption", "images", 100) as progress:
        progress.within(64)
        clock(20)
        progress.within(2)  # the unit was begun again
        assert capsys.readouterr().err == "caption: 2 of 100 images, 20 s so far\n"
        assert progress.numbers()["rate"] == 0


def test_a_line_says_rate_failures_and_time_left(clock, capsys):
    with Progress("caption", "images", None) as progress:
        clock(5)
        progress.advance(100)  # before it, workers started: no part of the rate
        assert capsys.readouterr().err == ""
        clock(15)
        progress.advance(50, failed=2)
        clock(20)
        progress.advance(50)  # too soon for another line
        assert capsys.readouterr().err == "caption: 150 images, 5.0 images/s, 2 failed\n"
        clock(35)
        progress.total = 1500  # known when the listing has ended
        progress.advance(100, failed=1)
        # 200 in the 30 s since the first news; 1200 are left.
        assert capsys.readouterr().err == "caption: 300 of 1,500 images, 6.7 images/s, 3 failed, 3 min left\n"


def test_the_time_left_falls_while_nothing_is_finished(clock):
    """By the rate of the last one: two in 20 s, so the third takes 10 s more."""
    with Progress("tune", "trials", 3) as progress:
        clock(5)
        progress.advance(1, took=5)
        clock(20)
        progress.advance(1)
        assert progress.time_left() == "10 s left"
        clock(26)
        assert progress.time_left() == "4 s left"
        clock(90)
        assert progress.time_left() == "", "it takes longer than the first two"
        progress.advance(1)
        assert progress.time_left() == "0 s left"


def test_the_time_left_is_no_longer_than_until_the_work_ends(clock):
    with Progress("tune", "epochs", 100) as progress:
        progress.until = 1060.0  # the clock begins at 1,000
        clock(10)
        progress.advance(10, took=10)
        assert progress.time_left() == "50 s left"
        progress.until = math.inf
        assert progress.time_left() == "90 s left"


def test_a_line_before_anything_is_finished(clock, capsys):
    """From the timer, which tells each second whether it is time for one."""
    with Progress("caption", "images", 1500) as progress:
        clock(9)
        progress.tell()
        clock(11)
        progress.tell()
        progress.tell()
        assert capsys.readouterr().err == "caption: 0 of 1,500 images, 11 s so far\n"
        progress.phase("starting 2 workers")
        clock(150)
        progress.tell()
        assert capsys.readouterr().err == "caption: starting 2 workers, 2 min so far\n"


@pytest.mark.parametrize(
    ("count", "seconds", "shown"),
    [(1, 10, "0.1 trials/s"), (1, 20, "3.0 trials/min"), (2, 3600, "2.0 trials/h"), (300, 10, "30.0 trials/s")],
)
def test_a_slow_rate_is_of_minutes_or_hours(count, seconds, shown):
    assert console.in_rate(count / seconds, "trials") == shown


def test_a_key_of_a_recipe_is_shown_as_it_is_written(capsys):
    console.show(Outcome({"best_trial": "001", "training.learning_rate": 0.5}))
    lines = capsys.readouterr().out.splitlines()
    assert [line.strip().rpartition("  ")[0].rstrip() for line in lines] == ["best trial", "training.learning_rate"]


def test_the_timer_tells(monkeypatch, capsys):
    told = threading.Event()
    monkeypatch.setattr(console, "LOG_SECONDS", 0)
    monkeypatch.setattr(console, "tell", lambda line: told.set())
    with Progress("caption", "images", None):
        assert told.wait(60)


def test_units_of_several_workers_count_from_the_beginning_of_the_first(clock, capsys):
    """Four workers, each with a unit of 100 images that takes 20 s: 20 images a second, and not 300 in an instant."""
    with Progress("caption", "images", None) as progress:
        for end in (25, 25.1, 25.2, 25.3):  # the first began at 5
            clock(end)
            progress.advance(100, took=20)
        assert progress.rate() == pytest.approx(400 / 20.3)


NASTY = [
    ("team:dog:1.jpg", "team:dog:1.jpg"),  # no emoji
    ("[bold]1[/].jpg", "[bold]1[/].jpg"),  # no markup
    ("[/red]", "[/red]"),  # markup that would be an error
    ("x\x1b]0;owned\x07\x1b[31mred.jpg", "x\\x1b]0;owned\\x07\\x1b[31mred.jpg"),
    ("a\nall is well", "a\\nall is well"),
    ("\x9b2K", "\\x9b2K"),  # the one-character form of ESC [
    ("gpj.\u202excod", "gpj.\\u202excod"),  # which a terminal would show as docx.jpg
    ("a\u2066b\u200fc", "a\\u2066b\\u200fc"),
    ("caf\udce9.jpg", "caf\\udce9.jpg"),  # a byte of a name that is no UTF-8
    ("写真/café 👩\u200d🚀.jpg", "写真/café 👩\u200d🚀.jpg"),
    ("می\u200cشود", "می\u200cشود"),
]


@pytest.mark.parametrize(("name", "shown"), NASTY)
def test_names_are_shown_as_they_are_and_can_do_nothing_to_a_terminal(name, shown, capsys):
    console.show(Outcome({name: name}, 1, [f"{name}: read: gone"], f"rnncond report {name}"))
    lines = capsys.readouterr().out.split("\n")
    assert lines[0] == f"  {shown}  {shown}"
    assert lines[2] == f"  {shown}: read: gone"
    for tell in (console.tell, console.tell_error):
        tell(f"Left out: {name}")
        assert capsys.readouterr().err.endswith(f"Left out: {shown}\n".replace("\\n", "\n"))


def test_a_terminal_shows_names_as_they_are_too(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    console.show(Outcome({"store": "s3://bucket/:dog:"}, 1, ["\x1b[2J:fire:.jpg"]))
    shown = capsys.readouterr().out
    assert ":dog:" in shown and "\\x1b[2J:fire:.jpg" in shown and "\x1b[2J" not in shown


def test_messages_keep_their_lines(capsys):
    console.tell_error("2 mistakes:\n  a\n  b")
    assert capsys.readouterr().err == "error: 2 mistakes:\n  a\n  b\n"


@pytest.mark.parametrize(
    ("key", "value", "label", "text"),
    [
        ("hours", 0.0031, "time", "11 s"),
        ("hours", 3.5, "time", "3.5 h"),
        ("hours, 95%", [0.0001, 0.02], "time, 95%", "0.36 s to 72 s"),
        ("processor hours of each worker", 0.1, "processor time of each worker", "6 min"),
        ("gigabytes written", 0.0000123, "written", "12.3 kB"),
        ("gigabytes of memory per worker", 0.351, "memory per worker", "351 MB"),
        ("megabytes", 1.5, "size", "1.5 MB"),
        ("images_per_second", 12.0, "images per second", "12"),
        ("model.hidden", 64, "model.hidden", "64"),
        ("hours", None, "hours", "None"),
    ],
)
def test_an_amount_is_shown_in_the_unit_that_fits(key, value, label, text):
    assert console.shown(key, value) == (label, text)


@pytest.mark.parametrize(
    ("count", "shown"), [(0, "0 bytes"), (999, "999 bytes"), (1234, "1.23 kB"), (2.5e8, "250 MB"), (3.2e12, "3,200 GB")]
)
def test_bytes_as_a_person_says_them(count, shown):
    assert console.in_bytes(count) == shown


def test_no_wait_is_silent_until_something_is_told(clock, capsys, monkeypatch):
    waiting = Waiting()
    monkeypatch.setattr(console, "WAITING", waiting)
    clock(20)
    waiting.phase("scoring")
    waiting.tell()
    assert capsys.readouterr().err == "", "no verb was begun"
    waiting.begin("evaluate", "loading libraries")
    clock(23)
    waiting.tell()
    waiting.phase("loading the model")
    assert capsys.readouterr().err == ""
    clock(30)
    waiting.tell()
    clock(39)
    waiting.tell()
    assert capsys.readouterr().err == "evaluate: loading the model, 7 s so far\n"
    clock(40)
    waiting.tell()
    assert capsys.readouterr().err == "evaluate: loading the model, 17 s so far\n"
    console.tell("There are ten of them.")
    clock(60)
    waiting.tell()
    assert capsys.readouterr().err == "There are ten of them.\n"
    waiting.phase("scoring")
    assert capsys.readouterr().err == "evaluate: scoring\n", "at once, since it may let nobody else talk"
    clock(70)
    with Progress("captions", "images", 10) as progress:
        waiting.tell()
        progress.phase("starting Ray")
        assert capsys.readouterr().err == "captions: starting Ray\n"
        clock(90)
        waiting.tell()
    assert "scoring" not in capsys.readouterr().err
