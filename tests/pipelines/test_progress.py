"""What a job without a terminal says of its progress."""

from __future__ import annotations

import pytest

from pipelines import console
from pipelines.console import Progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets: ``clock(seconds)``."""
    now = [1000.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])

    def at(seconds: float) -> None:
        now[0] = 1000.0 + seconds

    return at


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
        assert capsys.readouterr().err == "caption: 300 of 1,500 images, 6.7 images/s, 3 failed, 3.0 min left\n"
