"""What unit tests do without: a disk that is waited for."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(scope="module", autouse=True)
def nothing_is_flushed():
    """Of what is flushed, and when, ``tests.worlds.disk`` keeps account; that it reaches the disk is shown in
    ``tests/faults``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)  # which refuses what is no open file as well
        yield
