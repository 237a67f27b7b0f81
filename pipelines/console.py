"""How a verb talks to its user: progress, a final summary, errors in one message."""

from __future__ import annotations

import math
import re
import sys
import threading
import time
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

from pipelines.events import EVENTS
from pipelines.silence import SILENCE

LOG_SECONDS = 10
"""Between two progress lines of a job without a terminal."""
EVENT_SECONDS = 1
"""Between two events of progress."""


@dataclass
class Outcome:
    """What a verb did.

    Attributes:
        summary: shown as a table, and as JSON under ``--json``.
        failed: inputs that could not be done; any makes the exit code 3.
        failures: some of them, for the eye: "name: reason".
        trouble: what those of ``failed`` are called: "7 failed".
        hint: the command to try next.
        code: the exit code, where ``failed`` does not say it.
        printed: the verb has printed its result to standard output, so the summary is for ``--json`` alone.
    """

    summary: dict[str, Any]
    failed: int = 0
    failures: list[str] = field(default_factory=list)
    hint: str | None = None
    code: int | None = None
    printed: bool = False
    trouble: str = "failed"


def visible(text: object, lines: bool = False) -> str:
    """``text`` as a terminal may be given it: characters that move the cursor, change the direction of writing or are
    no characters at all (halves of a pair, which stand for bytes of a name) are shown as escapes.

    Args:
        lines: leave line breaks as they are; a name has none.
    """
    kept = f"{JOINERS}\n" if lines else JOINERS
    return "".join(
        character
        if character in kept or unicodedata.category(character) not in INVISIBLE
        else character.encode("unicode_escape").decode("ascii")
        for character in str(text)
    )


INVISIBLE = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode's categories of what is not printed: control, format (joiners and marks of direction), surrogate, and
separators of lines and paragraphs."""
JOINERS = "\u200c\u200d"
"""Format characters that words and emoji are written with."""


def terminal(results: bool = False) -> Console:
    """Standard error, where everything is told but results, which go to standard output. What is printed is text: no
    markup, no names of emoji, no highlighting."""
    past = None if results else SILENCE.past
    return Console(file=past, stderr=not results, markup=False, emoji=False, highlight=False, soft_wrap=True)


@contextmanager
def for_results(file: TextIO) -> Iterator[None]:
    """Lines that are the results of a verb go to ``file``, whatever becomes of standard output."""
    global _results
    _results, before = file, _results
    try:
        yield
    finally:
        _results = before


def results() -> TextIO:
    """Where a verb writes lines that are its results."""
    return _results or sys.stdout


_results: TextIO | None = None


def show(outcome: Outcome) -> None:
    WAITING.end()
    out = terminal(results=not outcome.printed)
    summary = {} if outcome.printed else outcome.summary
    lines = [tuple(map(visible, shown(key, value))) for key, value in summary.items()]
    width = max((len(label) for label, _ in lines), default=0)
    for label, text in lines:
        out.print(Text.assemble("  ", (f"{label:<{width}}", "bold"), "  ", text))
    if outcome.failed:
        out.print(Text(f"{outcome.failed:,} {outcome.trouble}:", "yellow"))
        for failure in outcome.failures:
            out.print(f"  {visible(failure)}")
        if outcome.failed > len(outcome.failures):
            out.print(f"  and {outcome.failed - len(outcome.failures):,} more")
    if outcome.hint:
        out.print(f"\n{visible(outcome.hint, lines=True)}")


AMOUNT = re.compile(r"\b(hours|gigabytes of|megabytes of|gigabytes|megabytes)\b ?")


def shown(key: str, value: Any) -> tuple[str, str]:
    """A label and a value of a summary as a person reads them. What programs are given in hours, or in gigabytes, so
    that all runs have one unit, has the unit here that fits: "time  11 s", "memory per worker  350 MB"."""
    label = key if "." in key else key.replace("_", " ")  # a recipe's key can be copied
    amount = AMOUNT.search(label)
    numbers = value if isinstance(value, list) else [value]
    if amount is None or not all(type(number) in (int, float) for number in numbers):
        return label, in_words(value)
    unit = amount[1].removesuffix(" of")
    texts = [in_time(number * 3600) if unit == "hours" else in_bytes(number * BYTES[unit]) for number in numbers]
    name = "time " if unit == "hours" else ""
    return AMOUNT.sub(name, label).replace(" ,", ",").strip() or "size", " to ".join(texts)


BYTES = {"gigabytes": 1e9, "megabytes": 1e6}


def in_words(value: Any) -> str:
    """A value of a summary: numbers with four digits, or all that are before the point."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.4g}"
    return str(value)


def in_time(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 120:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{round(seconds, 2):.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def in_bytes(count: float) -> str:
    """Bytes as a person says them."""
    size, unit = next((one for one in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")) if count >= one[0]), (1, "bytes"))
    value = count / size
    return f"{value:,.0f} {unit}" if value >= 100 or size == 1 else f"{value:,.3g} {unit}"


def plural(noun: str, count: float) -> str:
    return noun if count == 1 else f"{noun}s"


def in_rate(per_second: float, unit: str) -> str:
    """A rate in seconds, minutes or hours, whichever gives a number that is not rounded to nothing."""
    seconds, name = next((one for one in ((1, "s"), (60, "min")) if per_second * one[0] >= 0.1), (3600, "h"))
    return f"{per_second * seconds:.1f} {unit}/{name}"


class Waiting:
    """What goes on before there is anything to tell: a line every ``LOG_SECONDS``, so that no wait is silent.

    Whatever is told, and a bar, ends that. One of this process, ``WAITING``; without ``begin`` it says nothing.
    """

    def __init__(self) -> None:
        self.what, self.now = "", ""
        self.since = self.told = 0.0

    def begin(self, what: str, now: str) -> None:
        """From here on ``what``, a verb, does ``now``."""
        self.what, self.told = what, time.monotonic()
        self.phase(now)
        threading.Thread(target=self._tell_again, name="waiting", daemon=True).start()

    def phase(self, now: str) -> None:
        """What goes on from here on; nothing that is worth a line, if empty."""
        self.now, self.since = now, time.monotonic()
        self.tell(AT_ONCE)

    def end(self) -> None:
        """Something else is told."""
        self.now, self.told = "", time.monotonic()

    def _tell_again(self) -> None:
        while True:
            time.sleep(1)
            self.tell()

    def tell(self, after: float = LOG_SECONDS) -> None:
        """A line, if nothing was told for so many seconds."""
        now, present = self.now, time.monotonic()
        if self.what and now and present - self.told >= after:
            self.told = present
            terminal().print(visible(f"{self.what}: {now}{so_far(present - self.since)}"))


AT_ONCE = 5
"""Seconds without a word after which a new phase is told when it begins: it may keep the interpreter to itself."""
WAITING = Waiting()


def so_far(seconds: float) -> str:
    """Behind what goes on: for how long it has, if that is worth telling."""
    return f", {in_time(seconds)} so far" if seconds >= 1 else ""


def tell(message: str) -> None:
    WAITING.end()
    terminal().print(visible(message, lines=True))


def tell_result(text: str) -> None:
    """A line of a list that was asked for."""
    WAITING.end()
    terminal(results=True).print(visible(text, lines=True))


def tell_error(message: str) -> None:
    WAITING.end()
    terminal().print(Text.assemble(("error:", "red bold"), " ", visible(message, lines=True)))


class Progress:
    """A bar on a terminal, a line every ``LOG_SECONDS`` elsewhere; rate, failures and time left in both.

    with Progress("features", "images", total) as progress:
        progress.advance(32, failed=1)
    """

    def __init__(self, what: str, unit: str, total: int | None) -> None:
        self.what, self.unit, self.total = what, unit, total
        self.done = self.failed = self.before = 0
        self.inside, self.emitted, self.advanced = 0, 0.0, 0.0
        self.note, self.now = "", ""
        self.until = math.inf
        """When the work ends in any case, by ``time.monotonic``."""
        self.bar: RichProgress | None = None
        self.lock = threading.Lock()

    def __enter__(self) -> Progress:
        WAITING.phase("")
        self.started: float | None = None  # starting up is no part of the rate
        self.entered = self.logged = time.monotonic()
        if sys.stderr.isatty():
            self.bar = RichProgress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}", markup=False),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=terminal(),
                transient=True,
            )
            self.task = self.bar.add_task(visible(self.what), total=self.total, rate="")
            self.bar.start()
        else:
            self.ended = threading.Event()
            self.timer = threading.Thread(target=self._tell_again, name="progress", daemon=True)
            self.timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.done:
            EVENTS.emit("progress", **self.numbers())
        if self.bar:
            self.bar.stop()
        else:
            self.ended.set()
            self.timer.join()

    @property
    def left(self) -> int | None:
        """Units that are not finished; None as long as the total is not known."""
        return None if self.total is None else max(self.total - self.done, 0)

    def advance(self, count: int, failed: int = 0, note: str = "", took: float | None = None) -> None:
        """``count`` more units are finished, of which ``failed`` failed; ``note`` is shown behind the numbers.

        Args:
            took: seconds that these were in work. Without them those before the first news are of no rate.
        """
        if self.started is None:
            self.started, self.before = time.monotonic() - (took or 0.0), count if took is None else 0
        self.advanced = time.monotonic()
        self.done += count
        self.failed += failed
        self.inside = max(self.inside - count, 0)
        self.note, self.now = note, ""
        self.show()

    def within(self, count: int) -> None:
        """Of what is in work ``count`` units are done, too, but not kept yet."""
        if count and self.started is None:
            self.started, self.before = time.monotonic(), count
        self.inside = count
        self.show()

    def phase(self, now: str) -> None:
        """What goes on before the first unit is finished."""
        if now != self.now and not self.done:
            self.now = now
            EVENTS.emit("phase", what=self.what, phase=now)
            if WAITING.what and time.monotonic() - WAITING.told >= AT_ONCE:
                self.logged -= LOG_SECONDS
            self.show()

    def show(self) -> None:
        """The present numbers, on the bar or as a line, and as an event."""
        if time.monotonic() - self.emitted >= EVENT_SECONDS and (self.done or self.inside):
            self.emitted = time.monotonic()
            EVENTS.emit("progress", **self.numbers())
        if self.bar:
            rate = self.describe() or visible(self.now)
            self.bar.update(self.task, completed=self.done + self.inside, total=self.total, rate=rate)
        else:
            self.tell()

    def numbers(self) -> dict[str, Any]:
        """What is done, as an event has it."""
        done = {"done": self.done + self.inside, "failed": self.failed, "total": self.total}
        return {"what": self.what, "unit": self.unit, **done, "rate": round(self.rate(), 3)}

    def _tell_again(self) -> None:
        while not self.ended.wait(1):
            self.tell()

    def tell(self) -> None:
        """A line, if it is time for one; also where nothing has been finished yet, which may take minutes."""
        with self.lock:
            if time.monotonic() - self.logged < LOG_SECONDS:
                return
            self.logged = time.monotonic()
        of = f" of {self.total:,}" if self.total else ""
        count = self.done + self.inside
        shown = self.now if self.now and not count else f"{count:,}{of} {self.unit}"
        waited = "" if self.rate() else so_far(time.monotonic() - self.entered).removeprefix(", ")
        tell(", ".join(filter(None, [f"{self.what}: {shown}", self.describe(), waited, self.time_left()])))

    def describe(self) -> str:
        failed = [f"{self.failed:,} failed"] if self.failed else []
        rate = [in_rate(self.rate(), self.unit)] if self.rate() else []
        return ", ".join([*rate, *failed, *([visible(self.note)] if self.note else [])])

    def rate(self) -> float:
        """Units a second; 0 also where a worker that has died took more with it than has been done since."""
        if self.started is None:
            return 0.0
        return max(self.done + self.inside - self.before, 0) / max(time.monotonic() - self.started, 1e-9)

    def time_left(self) -> str:
        if not self.total or not self.rate():
            return ""
        bound = max(self.until - time.monotonic(), 0.0)
        left = (self.total - self.done - self.inside) / self.rate()
        if not self.inside and self.started is not None and self.done > self.before:
            # By the rate when the last one was finished, so that it falls while the next ones take their time.
            now = time.monotonic()
            left *= (self.advanced - self.started) / (now - self.started)
            left -= now - self.advanced
            if left < 1 and self.done < self.total:  # it takes longer than those before, nobody knows how long
                return ""
        return f"{in_time(min(left, bound))} left"
