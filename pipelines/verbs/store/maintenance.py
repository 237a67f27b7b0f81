"""What is in a store, whether it is sound, and how to keep it quick to read."""

from __future__ import annotations

import shlex
import time
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from feature_store import Dataset, Store, StoreError, maintenance
from pipelines.config.dotted import flat
from pipelines.console import Outcome, Progress, in_bytes, tell, tell_result
from pipelines.files import buckets

SHOWN_PROBLEMS = 20


def info(directory: str, fingerprint: str | None = None) -> Outcome:
    """What is in a store: sets, their recipes, rows, failures, parts and bytes, and who is writing."""
    store = Store(directory)
    sets = store.datasets()
    if len(sets) < 2 or fingerprint:
        return Outcome({"store": directory, **details(store.open(fingerprint))})
    summary = {"store": directory, "sets": len(sets)}
    current = [store.current(kind) for kind in {dataset.kind for dataset in sets}]
    marks = {chosen.fingerprint: ", current, pinned" if chosen.pinned else ", current" for chosen in current if chosen}
    for dataset in sets:
        snapshot = dataset.snapshot()
        size = maintenance.size_of(snapshot)
        summary[dataset.fingerprint] = (
            f"{dataset.kind}: {snapshot.rows:,} rows, {snapshot.failed:,} failed, "
            f"{len(snapshot.parts):,} parts, {in_bytes(size)}"
            f"{marks.get(dataset.fingerprint, '')}"
        )
    return Outcome(summary, hint=f"All of one set: rnncond store info {shlex.quote(directory)} --set FINGERPRINT")


def details(dataset: Dataset) -> dict[str, object]:
    snapshot = dataset.snapshot()
    size, parts = maintenance.size_of(snapshot), len(snapshot.parts)
    return {
        "fingerprint": dataset.fingerprint,
        "kind": dataset.kind,
        **{f"recipe.{key}": value for key, value in flat(dataset.recipe)},
        "columns": ", ".join(dataset.schema.names),
        "rows": snapshot.rows,
        "failed_inputs": snapshot.failed,
        "parts": parts,
        "bytes": size,
        "mean_part_bytes": size // max(parts, 1),
        "writer": describe_writer(dataset),
    }


def describe_writer(dataset: Dataset) -> str:
    seen = dataset.writer()
    if seen is None:
        return "none"
    shown = f"{seen.describe()}, last seen {time.time() - seen.time:,.0f} s ago"
    if seen.seems_alive():
        return shown
    doubt = "" if seen.process() == "gone" else ", unless its clock differs from this one"
    return f"{shown} (dead{doubt}; run its command again)"


def verify(directory: str, fingerprint: str | None = None, drop: bool = False, takeover: bool = False) -> Outcome:
    """Compare every byte with the ledger: checksums, schema, counts, order, and ids that occur twice."""
    problems: list[str] = []
    failed_again = 0
    total = Counter[str]()
    for dataset in chosen(directory, fingerprint):
        with Progress("verify", "parts", len(dataset.snapshot().parts)) as progress:
            verified = maintenance.verify(dataset, lambda _: progress.advance(1))
        total.update(sets=1, parts=verified.parts, rows=verified.rows, failed_inputs=verified.failures)
        total.update(bytes=verified.bytes, damaged_parts=len(verified.damaged))
        problems += [f"{dataset.fingerprint} {problem}" for problem in verified.problems]
        failed_again += verified.failed_again
        if drop and verified.damaged:
            maintenance.drop(dataset, verified.damaged, takeover)
    summary: dict[str, Any] = {"store": directory, **total}
    damaged = total["damaged_parts"]
    if drop:
        summary["dropped_parts"] = damaged
    hint = None
    if damaged:
        again = "Run the command that made this store again"
        if failed_again:
            again += f" with --retry-failed (of what was dropped, up to {failed_again:,} had failed before)"
        take_out = f"rnncond store verify {shlex.quote(directory)} --drop"
        hint = (
            f"{again}: it computes what was dropped."
            if drop
            else f"{take_out}   takes the damaged parts out, to be computed again"
        )
    return Outcome(summary, len(problems), problems[:SHOWN_PROBLEMS], hint)


def compact(
    directory: str,
    fingerprint: str | None = None,
    target_mb: int = maintenance.PART_BYTES >> 20,
    takeover: bool = False,
) -> Outcome:
    """Merge small parts into large ones."""
    total = Counter[str]()
    for dataset in chosen(directory, fingerprint):
        with Progress("compact", "new parts", None) as progress:
            done = maintenance.compact(dataset, target_mb << 20, takeover, lambda _: progress.advance(1))
        total.update(asdict(done))
    hint = f"rnncond store vacuum {shlex.quote(directory)}   frees the old parts, a day after"
    return Outcome({"store": directory, **total}, hint=hint)


def vacuum(
    directory: str,
    fingerprint: str | None = None,
    grace_hours: float = maintenance.GRACE_SECONDS / 3600,
    dry_run: bool = False,
    takeover: bool = False,
) -> Outcome:
    """Remove what no reader can need any more: parts that were compacted, files of writers that died, old terms."""
    total = Counter[str]()
    for dataset in chosen(directory, fingerprint):
        done = maintenance.vacuum(dataset, grace_hours * 3600, dry_run, takeover)
        total.update(files=len(done.files), terms=len(done.terms), bytes=done.bytes)
        if dry_run:
            for path in [*done.files, *done.terms]:
                tell_result(f"{dataset.folder}/{path}")
    total.update(vacuum_uploads(directory, grace_hours, dry_run))
    hint = "Nothing was removed; run again without --dry-run." if dry_run else None
    return Outcome({"store": directory, **total}, hint=hint)


def vacuum_uploads(directory: str, grace_hours: float, dry_run: bool) -> dict[str, int]:
    """Remove the uploads in pieces that killed writers left; how many there were, where the storage has such."""
    files = Store(directory).files
    before = datetime.now(UTC) - timedelta(hours=grace_hours)
    try:
        uploads = buckets.unfinished_uploads(files.filesystem, files.root, before)
        if uploads and not dry_run:
            buckets.abort_uploads(files.filesystem, files.root, uploads)
    except OSError as error:  # rights that a writer need not have
        tell(f"Unfinished uploads were left: {error}. The bucket's lifecycle rule can remove them.")
        return {}
    if dry_run:
        for upload in uploads:
            tell_result(f"{upload.key} (an upload that began at {upload.begun:%Y-%m-%d %H:%M} and was not finished)")
    return {"unfinished_uploads": len(uploads)} if uploads else {}


def chosen(directory: str, fingerprint: str | None) -> list[Dataset]:
    """The set asked for, or all sets."""
    store = Store(directory)
    if fingerprint:
        return [store.open(fingerprint)]
    sets = store.datasets()
    if not sets:
        store.open()  # says what is missing
        raise StoreError(f"{directory} has no sets")
    return sets
