"""Terms: who may write a set, and which parts count (FORMAT.md, "What is committed")."""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from feature_store.errors import StoreError
from feature_store.files import Files
from feature_store.parts import Part, from_table, to_table

MISSED_BEATS = 3
"""Heartbeats that a writer may miss before it counts as dead."""

WATCHED_BEATS = 2
"""Intervals for which a writer elsewhere is watched whatever its clock says; a beat may be late by one."""

SURELY_DEAD_SECONDS = 24 * 3600.0
"""Age of a heartbeat beyond which nobody waits: a clock set by the wrong time zone is wrong by 14 hours at most."""

READ_THREADS = 16
OWN_FILES = {"alive.json", "closed.json"}


@dataclass(frozen=True, order=True)
class TermName:
    """``000001-WRITER``: the folder of a term. Numbers order terms."""

    number: int
    writer: str

    def __str__(self) -> str:
        return f"{self.number:06d}-{self.writer}"

    @classmethod
    def parse(cls, folder: str) -> TermName | None:
        match = re.fullmatch(r"(\d{6,})-([0-9a-f]+)", folder)
        return cls(int(match[1]), match[2]) if match else None

    @classmethod
    def after(cls, terms: Iterable[TermName]) -> TermName:
        return cls(max((term.number for term in terms), default=0) + 1, secrets.token_hex(5))


@dataclass(frozen=True)
class Ledger:
    """The folder ``ledger/`` of a set, or of another thing that one writer changes at a time.

    Attributes:
        base: the file by which a term counts.
    """

    files: Files
    folder: str
    base: str = "base.parquet"

    def path(self, term: TermName, file: str) -> str:
        return f"{self.folder}/{term}/{file}"

    def terms(self) -> list[TermName]:
        """Folders of terms in order, also of those whose writer has not written its base yet."""
        return sorted(term for name in self.files.names(self.folder) if (term := TermName.parse(name)))

    def current(self) -> TermName | None:
        """The term that counts: the greatest whose writer has written its base."""
        terms = reversed(self.terms())
        return next((term for term in terms if self.files.exists(self.path(term, self.base))), None)

    def read(self) -> tuple[TermName | None, list[Part]]:
        """The term that counts, and every part it names, replaced ones included."""
        for _ in range(20):
            term = self.current()
            parts = mark_replaced(self.read_base(term) + self.entries(term)) if term else []
            # A term is removed only when a newer one counts, so what was read is whole if this one still does.
            if self.current() == term:
                return term, parts
        raise StoreError(f"{self.files.show(self.folder)} changes faster than it can be read; try again")

    def read_base(self, term: TermName) -> list[Part]:
        content = self.files.read(self.path(term, self.base))
        if content is None:
            return []
        try:
            return from_table(pq.read_table(pa.BufferReader(content)))
        except (pa.ArrowInvalid, KeyError) as error:
            shown = self.files.show(self.path(term, self.base))
            raise StoreError(f"{shown} is damaged: {error}. Restore this file from a backup.") from error

    def write_base(self, term: TermName, parts: list[Part]) -> None:
        with self.files.create(self.path(term, self.base)) as sink:
            pq.write_table(to_table(parts), sink, compression="zstd")

    def entry_names(self, term: TermName) -> list[str]:
        names = self.files.names(f"{self.folder}/{term}")
        return [name for name in names if name.endswith(".json") and name not in OWN_FILES]

    def entries(self, term: TermName) -> list[Part]:
        """Parts committed in ``term``. A half-written entry (possible where a file system does not put whole
        objects) is none: its part is computed again."""
        with ThreadPoolExecutor(READ_THREADS) as pool:
            found = pool.map(lambda name: self.entry(term, name), self.entry_names(term))
            return [part for part in found if part]

    def entry(self, term: TermName, file: str) -> Part | None:
        content = self.files.read(self.path(term, file))
        if content is None:
            return None
        try:
            return Part.from_json(content)
        except ValueError:
            return None

    def add(self, term: TermName, part: Part) -> None:
        self.files.write(self.path(term, f"{part.name}.json"), part.to_json())

    def taken_over_by(self, term: TermName) -> TermName | None:
        """A term that makes ``term``'s commits count for nothing, if there is one."""
        for other in reversed(self.terms()):
            if other.number > term.number:
                return other
            same_moment = other.number == term.number and other > term
            if same_moment and self.files.exists(self.path(other, self.base)):
                return other
        return None


@dataclass(frozen=True)
class TermHandle:
    """What a writer of a term needs to change ``folder``. Picklable."""

    files: Files
    folder: str
    term: TermName

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.files, f"{self.folder}/ledger")

    def refuse_if_taken_over(self) -> None:
        other = self.ledger.taken_over_by(self.term)
        if other:
            raise StoreError(
                f"{self.files.show(self.folder)}: another writer (term {other}) has taken over from this one (term "
                f"{self.term}), so nothing more is committed here. What was committed before is kept."
            )


def mark_replaced(parts: list[Part]) -> list[Part]:
    """``parts`` with ``replaced`` set on those in whose place a later one is."""
    when = {name: part.time for part in parts for name in part.replaces}
    return [replace(part, replaced=part.replaced or when.get(part.name, 0.0)) for part in parts]


@dataclass(frozen=True)
class Heartbeat:
    """``alive.json``: a writer's sign of life. Times are seconds since 1970, ``interval`` seconds."""

    host: str
    system: str
    pid: int
    started: str
    begun: float
    time: float
    interval: float

    @classmethod
    def first(cls, interval: float) -> Heartbeat:
        now = time.time()
        return cls(socket.gethostname(), system_id(), os.getpid(), process_start(os.getpid()), now, now, interval)

    def renewed(self) -> Heartbeat:
        return replace(self, time=time.time())

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Heartbeat | None:
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError):
            return None

    @property
    def lasts(self) -> float:
        """Seconds for which a heartbeat counts."""
        return MISSED_BEATS * self.interval

    @property
    def watched(self) -> float:
        """Seconds for which to wait for another heartbeat of a writer that only its heartbeats tell of. Its clock is
        not ours, so that what it seems to have missed is no proof."""
        age = time.time() - self.time
        if age > SURELY_DEAD_SECONDS:
            return 0.0
        return min(max(self.lasts - age, WATCHED_BEATS * self.interval), self.lasts)

    def process(self) -> Literal["alive", "gone", "unknown"]:
        """What can be told of the writer's process from here; unknown on another machine."""
        if not self.started or self.system != system_id():
            return "unknown"
        return "alive" if process_start(self.pid) == self.started else "gone"

    def seems_alive(self) -> bool:
        """What this one heartbeat tells: of a writer on another machine, whether it is recent."""
        process = self.process()
        return process == "alive" or (process == "unknown" and time.time() - self.time <= self.lasts)

    def describe(self) -> str:
        begun = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.begun))
        return f"host {self.host}, pid {self.pid}, writing since {begun}"


def system_id() -> str:
    """Which processes a pid is among: this boot of the machine and the container's pid namespace; "" if unknown."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + " " + os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def process_start(pid: int) -> str:
    """When a process started, in clock ticks since boot; "" if it is gone or the system does not tell."""
    try:
        # The command's name may hold spaces and brackets, so count from its end: state is field 3, start is field 22.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
