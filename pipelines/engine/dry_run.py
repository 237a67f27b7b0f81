"""``--dry-run`` of the batch verbs: a sample is done on the machine or the cluster as it is, and the whole estimated.

The sample goes through the same driver as a real run, into a store of its own that is removed again, so what is timed
is what will be done. Inputs that have their row already are no part of the estimate.
"""

from __future__ import annotations

import dataclasses
import math
import re
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from feature_store import Dataset, Store
from pipelines.cluster.connection import is_joining
from pipelines.config.choices import Decoding
from pipelines.console import Outcome, Progress
from pipelines.engine import driver
from pipelines.engine.resume import Pending
from pipelines.engine.summary import RunSummary, significant
from pipelines.engine.workers import MakeWorker
from pipelines.errors import UserError
from pipelines.files import filesystems

UNITS = 4
"""Units of work that a sample is done in; what they differ by is the estimate's uncertainty."""
STUDENT = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26}
"""Student's t at 97.5%, by degrees of freedom."""
PRICE = re.compile(r"(?P<before>[$€£¥]|[A-Z]{3})?\s*(?P<amount>\d+(\.\d+)?)\s*(?P<behind>[$€£¥]|[A-Z]{3})?")


class Price(NamedTuple):
    """What an hour of all machines together costs."""

    amount: float
    currency: str

    @classmethod
    def parse(cls, text: str) -> Price:
        """
        Raises:
            UserError: there is no amount, or no currency.
        """
        match = PRICE.fullmatch(text.strip())
        currency = match and (match["before"] or match["behind"])
        if match is None or not currency or (match["before"] and match["behind"]):
            raise UserError(
                f"--price-per-hour: found {text!r}, expected an amount with its currency for an hour of all machines "
                "together, as '1.20 USD' or '€0.95'."
            )
        return cls(float(match["amount"]), currency)

    def of(self, hours: float, low: float, high: float) -> str:
        """The price of so many hours, and of their bounds: to the hundredth, or to two digits where that is nothing."""
        amounts = [self.amount * value for value in (hours, low, high)]
        shown, least, most = (f"{value:.2f}" if value >= 0.1 else f"{value:.2g}" for value in amounts)
        return f"{shown} {self.currency} ({least} to {most})"


def student(count: int) -> float:
    """By how many standard errors the mean of ``count`` values may be off with 95% probability."""
    return STUDENT.get(count - 1, 2.1)


START_VARIES = 0.5
"""Share by which the start of another run may be shorter or longer: it was measured once, and a busy machine, or
libraries that the disk has not read before, make it twice as long."""


class Estimate(NamedTuple):
    """Seconds, with the bounds between which they lie with 95% probability, as far as the sample tells."""

    seconds: float
    low: float
    high: float

    def after(self, startup: float) -> Estimate:
        """The same work with the seconds before it."""
        starts = (startup, startup * (1 - START_VARIES), startup * (1 + START_VARIES))
        return Estimate(*(work + start for work, start in zip(self, starts, strict=True)))

    @property
    def hours(self) -> tuple[float, float, float]:
        """The three in hours."""
        return self.seconds / 3600, self.low / 3600, self.high / 3600


def time_needed(startup: float, estimate: Estimate) -> dict[str, Any]:
    """What a dry run tells of the time; ``startup`` seconds of ``estimate`` are before the first work."""
    hours, low, high = estimate.hours
    return {
        "seconds to start": round(startup, 1),
        "hours": significant(hours),
        "hours, 95%": [significant(low), significant(high)],
    }


def estimate(summary: RunSummary, left: int, startup: float) -> Estimate:
    """How long ``left`` inputs take, by the units of a sample.

    Args:
        summary: of the sample.
        startup: seconds before the first unit, which a real run has, too.
    """
    assert summary.plan is not None, "a sample has inputs"
    mean, spread = summary.seconds_per_input
    count = summary.units
    error = student(count) * spread / math.sqrt(count) if count > 1 else mean
    of_each = left / summary.plan.workers
    return Estimate(*(of_each * value for value in (mean, max(mean - error, 0.0), mean + error))).after(startup)


def run(
    dataset: Dataset,
    chunks: Iterable[pa.Table],
    make_worker: MakeWorker,
    row_bytes: int,
    inputs: str,
    options: driver.Options,
    decode: Decoding | None = "local",
    source: Sequence[str] = (),
) -> Outcome:
    """Try a sample of what a run would do, and estimate the run. ``driver.run`` has the arguments.

    Args:
        inputs: what they are called, as "images".
        source: where they are listed, as words of the command line.
        decode: where they are decoded, as the user chose it; "local" where nothing is to be decoded.

    Raises:
        UserError, StoreError: as ``driver.run``; a price without a currency.
    """
    price = None if options.price_per_hour is None else Price.parse(options.price_per_hour)
    before = RunSummary(whole=options.limit is None, store=dataset.store.files.shown)
    pending = Pending(dataset.snapshot(), before, options.retry_failed, options.redo_changed)
    left, held, kept = 0, list[pa.Table](), 0
    for chunk in pending.chunks(driver.limited(chunks, options.limit)):
        left += chunk.num_rows
        if kept < options.sample:
            held.append(chunk)
            kept += chunk.num_rows
    left += sum(changed.num_rows for changed in pending.changed)
    held += pending.changed if not held else []
    facts: dict[str, Any] = {inputs: before.listed, "already done": before.done_before}
    facts |= {"changed": before.changed, "left to do": left}
    left_alone = before.hint(inputs, options.redo_changed, source)
    if not left:
        hints = ["Nothing is left to do, so a run would end at once.", left_alone]
        return Outcome(facts, hint="\n".join(filter(None, hints)))
    sample = spread_over(pa.concat_tables([table.select(held[0].column_names) for table in held]), options.sample)
    tried = dataclasses.replace(
        options, limit=None, retry_failed=False, redo_changed=False, takeover=False,
        rows_per_part=math.ceil(sample.num_rows / UNITS),
    )  # fmt: skip
    began = time.time()
    with temporary_store(dataset.store, is_joining(options.address)) as store:
        own = dataclasses.replace(dataset, store=store)
        progress = Progress("dry run", inputs, None)
        listed = sample.drop_columns([name for name in ("tries", "part") if name in sample.column_names])
        summary = driver.run(own, [listed], make_worker, progress, row_bytes, tried)
    startup = max(summary.begun - began, 0.0)
    facts |= about(summary, estimate(summary, left, startup), left, startup, inputs, price)
    hint = f"Nothing was written. The sample took {time.time() - began:.0f} s; its rows are not kept."
    if (note := where_decoded(summary, decode)) is not None:
        facts["decoded_elsewhere"] = summary.done_elsewhere
        hint = f"{hint}\n{note}"
    if left_alone:
        hint = f"{hint}\n{left_alone}"
    return Outcome(facts, summary.failed, summary.failures, hint, code=0)


def about(
    summary: RunSummary, needed: Estimate, left: int, startup: float, inputs: str, price: Price | None
) -> dict[str, Any]:
    """What a dry run tells."""
    assert summary.plan is not None, "a sample has inputs"
    mean, _ = summary.seconds_per_input
    done = summary.rows + summary.failed
    facts: dict[str, Any] = {
        "tried": done,
        "failed of these": summary.failed,
        f"{inputs}_per_second": round(summary.plan.workers / max(mean, 1e-9), 2),
        **time_needed(startup, needed),
        "gigabytes written": significant(summary.bytes / done * left / 1e9),
        "gigabytes of memory per worker": significant(summary.memory / 1e9),
        "workers": summary.plan.describe(),
    }
    if price is not None:
        facts["price"] = price.of(*needed.hours)
    return facts


def where_decoded(summary: RunSummary, decode: Decoding | None) -> str | None:
    """What the rate of a sample leaves out of a run in which other nodes may decode; None where none may."""
    assert summary.plan is not None, "a sample has inputs"
    if decode == "local" or (decode is None and not summary.plan.gpus):
        return None
    done = summary.rows + summary.failed
    if summary.done_elsewhere:
        return (
            f"Other nodes decoded {summary.done_elsewhere:,} of the {done:,}. Their processes began to start with the "
            "sample, so a run may be faster; a larger --sample tells."
        )
    return (
        f"The workers' own CPUs decoded all {done:,}, so the rate is that of --decode local. Other nodes help a run "
        "once their processes have started, which takes seconds; a --sample of thousands tells by how much."
    )


def refuse_kept(options: driver.Options, outputs: Mapping[str, Any]) -> None:
    """Refuse outputs that a dry run would leave, and what means nothing without one.

    Args:
        outputs: by option; None where the user named none.

    Raises:
        UserError: an option does not go with the others.
    """
    if options.dry_run and (given := [name for name, value in outputs.items() if value is not None]):
        raise UserError(f"{' and '.join(given)}: a dry run keeps nothing; leave it out, or leave out --dry-run.")
    refuse_lone_price(options.price_per_hour, options.dry_run)


def refuse_lone_price(price_per_hour: str | None, dry_run: bool) -> None:
    """Raises UserError where there is a price without a currency, or without a dry run."""
    if price_per_hour is not None:
        Price.parse(price_per_hour)
        if not dry_run:
            raise UserError("--price-per-hour is for --dry-run, which estimates the price of a run; say that, too.")


def spread_over(inputs: pa.Table, count: int) -> pa.Table:
    """``count`` of the inputs, evenly spread: the first alone may all be of one camera, or all be short."""
    count = min(count, inputs.num_rows)
    return inputs.take(np.linspace(0, inputs.num_rows - 1, count).round().astype(np.int64)).combine_chunks()


def temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder of this machine for what a dry run writes, which is removed with the block."""
    return tempfile.TemporaryDirectory(prefix="rnncond-dry-run-", ignore_cleanup_errors=True)


@contextmanager
def temporary_store(store: Store, on_cluster: bool) -> Iterator[Store]:
    """A store for a sample, which is removed: beside ``store`` where other machines have to see it, too."""
    shown = store.files.shown
    if "://" not in shown and not on_cluster:
        with temporary_folder() as folder:
            yield Store(folder)
        return
    place = f"{shown.rstrip('/')}.dry-run-{uuid.uuid4().hex[:8]}"
    try:
        yield Store(place)
    finally:
        filesystem, inside = filesystems.locate(place)
        with suppress(OSError):  # nothing may have been written
            filesystem.delete_dir(inside)
