"""What a worker has done of the unit in work, and which comes next. It knows nothing of Ray, which one picture alone
does not need."""

from __future__ import annotations

import time
from typing import Any

import pyarrow as pa

TELL_SECONDS = 1
"""Between two messages of a worker to the driver's side."""


class UnitCounter:
    """In a worker's process: how many inputs of the unit in work are done, and what else its report says.

    Attributes:
        done_elsewhere, cpu_elsewhere: inputs of the unit that other nodes decoded, and the processor seconds of that.
        remarks: what the user should know, by topic; the driver tells the first that it gets of each.
        waiting: inputs of the units that wait here for their turn, by number.
        alone: whether nothing of the next unit may be touched before this one is done.
    """

    def __init__(self) -> None:
        self.attempts: Any = None
        self.done_elsewhere, self.cpu_elsewhere = 0, 0.0
        self.remarks: dict[str, str] = {}
        self.waiting: dict[int, pa.Table] = {}
        self.alone = False
        self.number, self.done, self.told = 0, 0, 0.0

    def begin(self, attempts: Any, number: int) -> None:
        """The unit ``number`` begins; ``attempts`` is a handle of an actor of ``Attempts``."""
        self.attempts, self.number, self.done, self.told = attempts, number, 0, time.monotonic()
        self.done_elsewhere, self.cpu_elsewhere, self.remarks, self.alone = 0, 0.0, {}, False
        self.waiting.pop(number, None)

    def following(self) -> pa.Table | None:
        """Inputs of the unit that comes next, which may be read ahead; None as long as there is none."""
        return None if self.alone else next(iter(list(self.waiting.values())), None)

    def remark(self, topic: str, text: str) -> None:
        self.remarks[topic] = text

    def add(self, count: int) -> None:
        """``count`` more are done. Nothing outside the engine's actors."""
        self.done += count
        if self.attempts is not None and time.monotonic() - self.told >= TELL_SECONDS:
            self.told = time.monotonic()
            self.attempts.note.remote(self.number, self.done)


COUNTER = UnitCounter()
"""Of this process, in which one worker works."""
