"""What others write to the terminal's standard error is thrown away for a while; what is told to the user is not."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


class Silence:
    """Whether it is silent, and the way past it. One of this process, ``SILENCE``."""

    def __init__(self) -> None:
        self.past: TextIO | None = None
        self.stream: TextIO | None = None

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Nothing reaches the terminal's stderr, from C++ neither, but what is written to ``past``. What goes wrong in
        the block must be raised."""
        sys.stderr.flush()
        before, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        # One stream for all silences, never closed: a thread may be writing to it when one ends.
        if self.stream is None:
            self.stream = open(os.dup(2), "w", buffering=1, encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
        else:
            os.dup2(2, self.stream.fileno())
        self.past = self.stream
        try:
            os.dup2(nowhere, 2)
            yield
        finally:
            self.past = None
            os.dup2(before, 2)
            os.close(before)
            os.close(nowhere)


SILENCE = Silence()
