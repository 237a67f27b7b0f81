"""The command line of ``rnncond store``."""

from __future__ import annotations

from typing import Annotated

from typer import Argument, Option

from pipelines.cli import options
from pipelines.console import Outcome

app = options.application(
    help="Look after the store that features, captions and translations are kept in.",
    epilog="For example: rnncond store verify DIR",
)

Directory = Annotated[str, Argument(metavar="DIR", help="the store: a folder, or a uri such as s3://bucket/prefix")]


def examples(*lines: str) -> str:
    return "\n\n".join(["Examples:", *(f"  {line}" for line in lines)])


@app.command(
    epilog=examples(
        "rnncond store info features/",
        "rnncond store info s3://bucket/features --set 3f9a",
        "rnncond store info features/ --json",
    )
)
def info(directory: Directory, fingerprint: options.Fingerprint = None) -> Outcome:
    """Show what is in a store: sets, their recipes, rows, failures, parts and bytes, and who is writing."""
    from pipelines.verbs import store

    return store.info(directory, fingerprint or "")


@app.command(
    epilog=examples(
        "rnncond store verify features/",
        "rnncond store verify features/ --drop      then run `rnncond features` again, as it says",
    )
)
def verify(
    directory: Directory,
    fingerprint: options.Fingerprint = None,
    drop: Annotated[
        bool, Option("--drop", help="take damaged parts out, so that running again computes them again")
    ] = False,
    takeover: options.Takeover = False,
) -> Outcome:
    """Read every byte and compare it with the ledger: checksums, schema, counts, order, and ids that occur twice.

    The exit code is 3 if there is any problem.
    """
    from pipelines.verbs import store

    return store.verify(directory, fingerprint or "", drop, takeover)


@app.command(epilog=examples("rnncond store compact features/", "rnncond store compact features/ --target-mb 512"))
def compact(
    directory: Directory,
    fingerprint: options.Fingerprint = None,
    target_mb: Annotated[int, Option(min=1, help="size of a part to aim at, in MB")] = 128,
    takeover: options.Takeover = False,
) -> Outcome:
    """Merge small parts into large ones. May be stopped at any time; readers are not disturbed."""
    from pipelines.verbs import store

    return store.compact(directory, fingerprint or "", target_mb, takeover)


@app.command(
    epilog=examples("rnncond store vacuum features/ --dry-run", "rnncond store vacuum features/ --grace-hours 1")
)
def vacuum(
    directory: Directory,
    fingerprint: options.Fingerprint = None,
    grace_hours: Annotated[
        float, Option(min=0, help="keep what was replaced less than this ago, for those who still read it")
    ] = 24.0,
    dry_run: Annotated[bool, Option("--dry-run", help="list what would be removed, and remove nothing")] = False,
    takeover: options.Takeover = False,
) -> Outcome:
    """Remove what no reader can need any more: parts that were compacted, files of writers that died, old terms."""
    from pipelines.verbs import store

    return store.vacuum(directory, fingerprint or "", grace_hours, dry_run, takeover)
