"""Silence for others, while what is told is heard."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pipelines.console import Waiting, tell, tell_error
from pipelines.silence import SILENCE


def test_others_are_not_heard_and_what_is_told_is(capfd):
    for _ in range(2):
        with SILENCE.kept():
            os.write(2, b"a library in C++\n")
            tell("own words")
            subprocess.run([sys.executable, "-c", "import sys; sys.stderr.write('a child')"], check=True)
            tell_error("a mistake")
        os.write(2, b"after\n")
        assert capfd.readouterr().err == "own words\nerror: a mistake\nafter\n"


def test_a_wait_is_told_in_silence(capfd):
    waiting = Waiting()
    waiting.what = "train"
    with SILENCE.kept():
        waiting.phase("starting Ray")
        waiting.told -= 10
        waiting.tell()
    assert "train: starting Ray" in capfd.readouterr().err


def test_silence_ends_with_an_error(capfd):
    with pytest.raises(ValueError, match="broken"), SILENCE.kept():
        raise ValueError("broken")
    assert SILENCE.past is None
    os.write(2, b"heard\n")
    assert capfd.readouterr().err == "heard\n"
