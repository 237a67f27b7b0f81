"""What became of the inputs of a run."""

from __future__ import annotations

import dataclasses
import math
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from feature_store import Dataset
from pipelines.cluster.resources import Plan
from pipelines.console import Outcome, plural

EXAMPLES = 20
"""Failures that are shown."""


@dataclass
class RunSummary:
    """What became of the inputs of a run.

    Attributes:
        listed: all inputs. ``done_before`` of them had a row already, ``failed_before`` had failed and were left out.
        rows, failed: the inputs of this run.
        changed: inputs with another version than that which was read; among those done or failed before, unless they
            were done again.
        whole: whether all inputs are looked at; with ``--limit`` the first alone are, so nothing is known of others.
        store: where the rows go, as its user calls it.
        not_listed: rows of inputs that the listing does not have: they left the source, or are of another one.
        moved_example: an input whose uri differs from that of the row that marks it as done; "" if none does, None as
            long as none was compared.
        units, bytes: of the parts that this run committed.
        retries: requests to storage that workers made again.
        deferred: inputs that ill storage kept from being read; ``deferred_shown`` names some with the reason.
        failures: some inputs without a row, "id: stage: reason".
        cpu: seconds that the workers' processors were busy, and those of other nodes for them.
        done_elsewhere: inputs that other nodes decoded.
        memory: most bytes that a worker's process has held.
        input_seconds, input_seconds_squared: sums over the units of the seconds that an input of the unit took.
        called: when the run was asked for, seconds since 1970.
        begun, ended: when the first unit began and the last one ended, likewise.
        remarks: what workers had to say, the first of each topic.
        plan: the workers; None where there was nothing to do.
        workers: how many of them began: little work has no use for all.
    """

    listed: int = 0
    done_before: int = 0
    failed_before: int = 0
    rows: int = 0
    failed: int = 0
    units: int = 0
    bytes: int = 0
    retries: int = 0
    deferred: int = 0
    deferred_shown: list[str] = field(default_factory=list)
    changed: int = 0
    not_listed: int = 0
    whole: bool = True
    store: str = "DIR"
    moved_example: str | None = None
    failures: list[str] = field(default_factory=list)
    cpu: float = 0.0
    done_elsewhere: int = 0
    memory: int = 0
    input_seconds: float = 0.0
    input_seconds_squared: float = 0.0
    called: float = field(default_factory=time.time)
    begun: float = math.inf
    ended: float = 0.0
    remarks: dict[str, str] = field(default_factory=dict)
    plan: Plan | None = None
    workers: int | None = None

    @property
    def seconds(self) -> float:
        """From the first unit's beginning to the last one's end: the run without starting up and closing down."""
        return max(self.ended - self.begun, 0.0)

    @property
    def seconds_per_input(self) -> tuple[float, float]:
        """Mean over the units, and the standard deviation between them, of what an input takes of a worker's time."""
        count = max(self.units, 1)
        mean = self.input_seconds / count
        variance = max(self.input_seconds_squared / count - mean**2, 0.0) * count / max(count - 1, 1)
        return mean, math.sqrt(variance)

    def add(self, report: dict[str, Any]) -> None:
        """Count a work unit; ``report`` is a row of ``actor.REPORT``."""
        self.rows += report["rows"]
        self.failed += report["failed"]
        self.units += 1
        self.bytes += report["bytes"]
        self.cpu += report["cpu"]
        self.done_elsewhere += report["done_elsewhere"]
        self.retries += report["retries"]
        self.memory = max(self.memory, report.get("memory") or 0)
        each = (report["ended"] - report["begun"]) / max(report["rows"] + report["failed"], 1)
        self.input_seconds += each
        self.input_seconds_squared += each**2
        self.deferred += len(report["deferred"])
        self.deferred_shown += list(filter(None, report["deferred"]))[: EXAMPLES - len(self.deferred_shown)]
        self.show(report["failures"])
        self.begun, self.ended = min(self.begun, report["begun"]), max(self.ended, report["ended"])

    def show(self, failures: list[str]) -> None:
        self.failures += failures[: EXAMPLES - len(self.failures)]

    def outcome(
        self, inputs: str, more: dict[str, Any], redo_changed: bool, hint: str | None = None, source: Sequence[str] = ()
    ) -> Outcome:
        """What a verb shows at its end: the numbers of ``inputs`` ("images"), ``more``, some failures, and what the
        user may want to do next, ``hint`` if nothing else.

        Args:
            source: where the inputs are listed, as the user wrote it: words of the command line.
        """
        numbers = self.numbers(inputs) | more
        return Outcome(
            numbers, self.failed + self.failed_before, self.failures, self.hint(inputs, redo_changed, source) or hint
        )

    def numbers(self, inputs: str) -> dict[str, Any]:
        """The numbers, by the names that a verb shows."""
        shown: dict[str, Any] = {inputs: self.listed, "already_done": self.done_before, "computed": self.rows}
        shown["changed"] = self.changed
        if self.not_listed:
            shown["no_longer_listed"] = self.not_listed
        if self.units:
            shown[f"{inputs}_per_second"] = round((self.rows + self.failed) / max(self.seconds, 1e-9), 1)
            shown["seconds_to_start"] = round(max(self.begun - self.called, 0.0), 2)
            shown |= {"seconds": round(self.seconds, 2), "cpu_seconds": round(self.cpu, 2)}
            shown |= {"parts": self.units, "megabytes": significant(self.bytes / 1e6)}
        if self.done_elsewhere:
            shown["decoded_elsewhere"] = self.done_elsewhere
        if self.retries:
            shown["storage_asked_again"] = self.retries
        if self.plan:
            begun = self.plan.workers if self.workers is None else self.workers
            shown["workers"] = dataclasses.replace(self.plan, workers=begun).describe()
        return shown

    def hint(self, inputs: str, redo_changed: bool, source: Sequence[str] = ()) -> str | None:
        """What the user may want to do about inputs that were left as they are; see ``outcome``."""
        hints = []
        if self.failed_before:
            failed = f"{self.failed_before:,} {plural('input', self.failed_before)}"
            hints.append(f"{failed} failed in an earlier run and had no second try; --retry-failed gives one.")
        if self.changed and not redo_changed:
            changed = f"{self.changed:,} {plural('input', self.changed)}"
            hints.append(f"{changed} changed after the last reading; --redo-changed reads again what changed.")
        if self.not_listed:
            keeps = (
                f"The set keeps {self.not_listed:,} {plural('row', self.not_listed)} of {inputs} that were not listed"
            )
            of = shlex.join(source) if source else "IMAGES" if inputs == "images" else "TEXT"
            certify = f"`rnncond store certify {shlex.quote(self.store)} --of {of} --prune --dry-run`"
            what = "pictures" if inputs == "images" else inputs
            text = "" if inputs == "images" else " What --text writes has those of this time alone."
            which = f"{certify} lists those of removed {what}.{text}"
            hints.append(f"{keeps} this time: removed since, or of another source. {which}")
        if self.moved_example:
            hints.append(
                f"Some count as done by their names, but were read from elsewhere: {self.moved_example}. If they have "
                "only been moved, all is well; if they are others, give these another output."
            )
        return "\n".join(hints) or None


def significant(value: float) -> float:
    """With three digits, so that what is small is not nothing."""
    return float(f"{value:.3g}")


def name_current(dataset: Dataset, whole: bool = True) -> tuple[dict[str, Any], str]:
    """Note that ``dataset`` has all of its inputs: readers of its store get it from now on, unless another was chosen.

    Args:
        whole: whether a run has done all of them; after one of ``--limit`` readers keep what they had.

    Returns:
        What a verb shows: the store, its set and the one that readers get; and what the user may want to do next.
    """
    current = (None if whole else dataset.store.current(dataset.kind)) or dataset.store.completed(dataset)
    out = dataset.store.files.shown
    where = shlex.quote(out)
    shown: dict[str, Any] = {"out": out, "set": dataset.fingerprint, "current_set": current.fingerprint}
    if current.pinned:
        shown["current_set_by"] = f"`rnncond store use`; `rnncond store use {where} newest` ends it"
    if current.fingerprint == dataset.fingerprint:
        return shown, f"Next: rnncond report {where}"
    if not whole and not current.pinned:
        return shown, (
            f"Readers of {where} still get the set {current.fingerprint}; this one becomes theirs when the command "
            "without --limit has done the rest."
        )
    return shown, (
        f"Readers of {where} get the set {current.fingerprint}, which was chosen with `rnncond store use`. To give "
        f"them this one{'' if whole else ', as far as it is done'}: rnncond store use {where} {dataset.fingerprint}"
    )


def describe_failures(failures: pa.Table) -> list[str]:
    """The first failed inputs, for the eye."""
    rows = failures.slice(0, EXAMPLES).to_pylist()
    return [f"{row[failures.column_names[0]]}: {row['stage']}: {row['reason']}" for row in rows]
