"""``rnncond store``: what is in a store, whether it is sound, and how to keep it quick to read."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from feature_store import Dataset, Store, StoreError, maintenance
from pipelines.console import Outcome, Progress

app = typer.Typer(
    help="Look after the store that features and captions are kept in.",
    epilog="For example: rnncond store verify DIR",
    rich_markup_mode=None,
    add_completion=False,
)

SHOWN_PROBLEMS = 20

Root = Annotated[str, typer.Argument(metavar="DIR", help="The store: a folder, or a uri such as s3://bucket/prefix.")]
Set = Annotated[str, typer.Option("--set", metavar="FINGERPRINT", help="Which set, if the store has several.")]
Takeover = Annotated[
    bool, typer.Option("--takeover", help="Write although another writer seems to be at work. Its work is refused.")
]


@app.command()
def info(directory: Root, fingerprint: Set = "") -> Outcome:
    """What is in a store: sets, their recipes, rows, failures, parts and bytes, and who is writing.

    \b
    Examples:
      rnncond store info features/
      rnncond store info s3://bucket/features --set 3f9a
      rnncond store info features/ --json
    """
    store = Store(directory)
    sets = store.datasets()
    if len(sets) < 2 or fingerprint:
        return Outcome({"store": directory, **details(store.open(fingerprint))})
    summary = {"store": directory, "sets": len(sets)}
    for dataset in sets:
        snapshot = dataset.snapshot()
        size = maintenance.size_of(snapshot)
        summary[dataset.fingerprint] = (
            f"{dataset.kind}: {snapshot.rows:,} rows, {snapshot.failed:,} failed, "
            f"{len(snapshot.parts):,} parts, {in_words(size)}"
        )
    return Outcome(summary, hint=f"All of one set: rnncond store info {directory} --set FINGERPRINT")


def details(dataset: Dataset) -> dict[str, object]:
    snapshot = dataset.snapshot()
    size, parts = maintenance.size_of(snapshot), len(snapshot.parts)
    return {
        "fingerprint": dataset.fingerprint,
        "kind": dataset.kind,
        **{f"recipe.{key}": value for key, value in dataset.recipe.items()},
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
    age = time.time() - seen.time
    process = seen.process()
    said = f"{seen.describe()}, last seen {age:,.0f} s ago"
    if process == "gone":
        return f"{said} (dead; run its command again)"
    if process == "unknown" and age > seen.lasts:
        return f"{said} (dead, unless its clock differs from this one; run its command again)"
    return said


@app.command()
def verify(
    directory: Root,
    fingerprint: Set = "",
    drop: Annotated[
        bool, typer.Option("--drop", help="Take damaged parts out, so that running again computes them again.")
    ] = False,
    takeover: Takeover = False,
) -> Outcome:
    """Read every byte and compare it with the ledger: checksums, schema, counts, order, and ids that occur twice.

    Exit code 3 if there is any problem.

    \b
    Examples:
      rnncond store verify features/
      rnncond store verify features/ --drop      then run `rnncond features` again, as it says
    """
    problems, damaged, failed_again = [], 0, 0
    summary = {"store": directory, "sets": 0, "parts": 0, "rows": 0, "failed_inputs": 0, "bytes": 0}
    for dataset in chosen(directory, fingerprint):
        with Progress("verify", "parts", len(dataset.snapshot().parts)) as progress:
            found = maintenance.verify(dataset, lambda _: progress.advance(1))
        summary["sets"] += 1
        summary["parts"] += found.parts
        summary["rows"] += found.rows
        summary["failed_inputs"] += found.failures
        summary["bytes"] += found.bytes
        problems += [f"{dataset.fingerprint} {problem}" for problem in found.problems]
        damaged += len(found.damaged)
        failed_again += found.failed_again
        if drop and found.damaged:
            maintenance.drop(dataset, found.damaged, takeover)
    summary["damaged_parts"] = damaged
    if drop:
        summary["dropped_parts"] = damaged
    hint = None
    if damaged:
        again = "Run the command that made this store again"
        if failed_again:
            again += f" with --retry-failed (of what was dropped, up to {failed_again:,} had failed before)"
        hint = (
            f"{again}: it computes what was dropped."
            if drop
            else f"rnncond store verify {directory} --drop   takes the damaged parts out, to be computed again"
        )
    return Outcome(summary, len(problems), problems[:SHOWN_PROBLEMS], hint)


@app.command()
def compact(
    directory: Root,
    fingerprint: Set = "",
    target_mb: Annotated[int, typer.Option(min=1, help="Size that a part aims at.")] = maintenance.PART_BYTES >> 20,
    takeover: Takeover = False,
) -> Outcome:
    """Merge small parts into large ones. May be stopped at any time; readers are not disturbed.

    \b
    Examples:
      rnncond store compact features/
      rnncond store compact features/ --target-mb 512
    """
    summary = {"store": directory, "parts_before": 0, "parts_after": 0, "bytes_before": 0, "bytes_after": 0}
    for dataset in chosen(directory, fingerprint):
        with Progress("compact", "new parts", None) as progress:
            done = maintenance.compact(dataset, target_mb << 20, takeover, lambda _: progress.advance(1))
        for key in list(summary)[1:]:
            summary[key] += getattr(done, key)
    return Outcome(summary, hint=f"rnncond store vacuum {directory}   frees the old parts, a day after")


@app.command()
def vacuum(
    directory: Root,
    fingerprint: Set = "",
    grace_hours: Annotated[
        float, typer.Option(min=0, help="Keep what was replaced less than this ago, for those who still read it.")
    ] = maintenance.GRACE_SECONDS / 3600,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be removed, and remove nothing.")] = False,
    takeover: Takeover = False,
) -> Outcome:
    """Remove what no reader can need any more: parts that were compacted, files of writers that died, old terms.

    \b
    Examples:
      rnncond store vacuum features/ --dry-run
      rnncond store vacuum features/ --grace-hours 1
    """
    summary = {"store": directory, "files": 0, "terms": 0, "bytes": 0}
    for dataset in chosen(directory, fingerprint):
        done = maintenance.vacuum(dataset, grace_hours * 3600, dry_run, takeover)
        summary["files"] += len(done.files)
        summary["terms"] += len(done.terms)
        summary["bytes"] += done.bytes
        if dry_run:
            for path in [*done.files, *done.terms]:
                typer.echo(f"{dataset.folder}/{path}", err=True)
    return Outcome(summary, hint="Nothing was removed; run again without --dry-run." if dry_run else None)


def chosen(directory: str, fingerprint: str) -> list[Dataset]:
    """The set asked for, or all sets."""
    store = Store(directory)
    if fingerprint:
        return [store.open(fingerprint)]
    sets = store.datasets()
    if not sets:
        store.open()  # says what is missing
        raise StoreError(f"{directory} has no sets")
    return sets


def in_words(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 1e6 else f"{size / 1e3:,.1f} kB"
