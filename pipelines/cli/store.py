"""The command line of ``rnncond store``."""

from __future__ import annotations

from typing import Annotated

from typer import Argument, Option

from pipelines.cli import options
from pipelines.console import Outcome
from pipelines.workflow.commands import Output

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
def info(directory: Directory, fingerprint: options.OneOfAll = None) -> Outcome:
    """Show what is in a store: sets, their recipes, rows, failures, parts and bytes, and who is writing."""
    from pipelines.verbs.store import maintenance

    return maintenance.info(directory, fingerprint)


@app.command(
    epilog=examples(
        "rnncond store verify features/",
        "rnncond store verify features/ --drop      then run `rnncond features` again, as it says",
    )
)
def verify(
    directory: Directory,
    fingerprint: options.OneOfAll = None,
    drop: Annotated[
        bool, Option("--drop", help="take damaged parts out, so that running again computes them again")
    ] = False,
    takeover: options.Takeover = False,
) -> Outcome:
    """Read every byte and compare it with the ledger: checksums, schema, counts, order, and ids that occur twice.

    The exit code is 3 if there is any problem.
    """
    from pipelines.verbs.store import maintenance

    return maintenance.verify(directory, fingerprint, drop, takeover)


@app.command(
    epilog=examples(
        "rnncond store use captioned/ 3f9a       what readers get from now on; so is a rollback",
        "rnncond store use captioned/ newest     the set that a run completed last, and each that one completes later",
    )
)
def use(
    directory: Directory,
    chosen: Annotated[
        str, Argument(metavar="SET", help="a fingerprint or its beginning, or newest: what a run completed last")
    ],
) -> Outcome:
    """Name the set that readers get who name none: `report`, `evaluate`, queries, pipelines.

    The change is one file, put in place whole: a reader gets the one set or the other.
    """
    from pipelines.verbs.store import current

    return current.use(directory, chosen)


@app.command(
    epilog=examples(
        "rnncond store certify captioned/ --of photos/",
        "rnncond store certify captioned/ --of photos/ --prune --dry-run",
        "rnncond store certify captioned/ --check captioned/certificates/3f9a61c05d2e8b74.json",
    )
)
def certify(
    directory: Directory,
    of: Annotated[
        str | None,
        Option(
            metavar="IMAGES",
            help="the source: a folder, a glob, a prefix, shards or a listing; of translations the text",
        ),
    ] = None,
    column: Annotated[
        str | None, Option(help="column of the sentences, where --of is a table of text (default: source)")
    ] = None,
    check: Annotated[
        str | None, Option(metavar="FILE", help="in place of --of: verify that this certificate still holds")
    ] = None,
    fingerprint: options.Fingerprint = None,
    to: Annotated[
        str | None, Option(help="the certificate's file (default: certificates/SET.json in the store)"), Output()
    ] = None,
    check_bytes: Annotated[
        bool, Option("--bytes", help="also read every file and compare its checksum with the ledger's")
    ] = False,
    prune: Annotated[
        bool, Option("--prune", help="drop the rows and failures of what the source does not have any more")
    ] = False,
    dry_run: Annotated[
        bool, Option("--dry-run", help="with --prune: say what would be dropped, and drop nothing")
    ] = False,
    anyway: Annotated[
        bool, Option("--anyway", help="with --prune: drop them although they are most of the set")
    ] = False,
    takeover: options.Takeover = False,
) -> Outcome:
    """Certify that a set has all pictures, or sentences, of its source: what is missing, stale, or not there any more.

    By id and version the hash of the listing equals that of rows and failures, or the exit code is 3. The certificate
    has model, versions and checksums; its last line is the SHA-256 of the rest.
    """
    from pipelines.errors import UserError
    from pipelines.verbs.store import certificate

    if (of is None) == (check is None):
        raise UserError("Say either --of IMAGES, to certify, or --check FILE, to verify a certificate.")
    if check is not None:
        if to or prune or fingerprint or column:
            raise UserError("--check FILE verifies the certificate alone; leave out --to, --prune, --set and --column.")
        return certificate.check(directory, check, check_bytes)
    if (dry_run or anyway) and not prune:
        raise UserError("--dry-run and --anyway are of --prune; say --prune, too.")
    return certificate.certify(
        directory, str(of), fingerprint, to=to, check_bytes=check_bytes, drop=prune, dry_run=dry_run, anyway=anyway,
        takeover=takeover, column=column,
    )  # fmt: skip


@app.command(
    epilog=examples(
        "rnncond store diff captioned/ --set 3f9a --set 71c2                        what the second says otherwise",
        "rnncond store diff captioned/ --set 3f9a --set current --to changed.parquet",
    )
)
def diff(
    directory: Directory,
    sets: Annotated[list[str], Option("--set", metavar="SET", help="given twice: the older set, then the newer one")],
    to: Annotated[
        str | None, Option(help="write all that changed to this file: .parquet, .json or .csv"), Output(local=True)
    ] = None,
    count: Annotated[int, Option(help="number of examples to show", min=0)] = 10,
) -> Outcome:
    """Compare two sets of captions or of translations: counts, examples, and how the scores moved."""
    from pipelines.errors import UserError
    from pipelines.verbs.store import diff as differences

    if len(sets) != 2:
        raise UserError(f"--set is expected twice, the older set and then the newer one; found {len(sets)}.")
    before, after = sets
    return differences.run(directory, before, after, to, count)


@app.command(epilog=examples("rnncond store compact features/", "rnncond store compact features/ --target-mb 512"))
def compact(
    directory: Directory,
    fingerprint: options.OneOfAll = None,
    target_mb: Annotated[int, Option(min=1, help="size of a part to aim at, in MB")] = 128,
    takeover: options.Takeover = False,
) -> Outcome:
    """Merge small parts into large ones. May be stopped at any time; readers are not disturbed."""
    from pipelines.verbs.store import maintenance

    return maintenance.compact(directory, fingerprint, target_mb, takeover)


@app.command(
    epilog=examples("rnncond store vacuum features/ --dry-run", "rnncond store vacuum features/ --grace-hours 1")
)
def vacuum(
    directory: Directory,
    fingerprint: options.OneOfAll = None,
    grace_hours: Annotated[
        float, Option(min=0, help="keep what was replaced less than this ago, for those who still read it")
    ] = 24.0,
    dry_run: Annotated[bool, Option("--dry-run", help="list what would be removed, and remove nothing")] = False,
    takeover: options.Takeover = False,
) -> Outcome:
    """Remove what no reader can need any more: parts that were compacted, files of writers that died, old terms."""
    from pipelines.verbs.store import maintenance

    return maintenance.vacuum(directory, fingerprint, grace_hours, dry_run, takeover)
