"""The command line of ``rnncond report``."""

from __future__ import annotations

from typing import Annotated

from typer import Argument, Option

from pipelines.cli import options
from pipelines.console import Outcome
from pipelines.workflow.commands import Output

app = options.application()

EXAMPLES = """
Examples:

  rnncond report runs/show_attend_tell

  rnncond report runs/show_tell.small.search

  rnncond report captioned --data captions.jsonl --to captioned.html --count 60

  rnncond report captioned --compare 3f9a

  rnncond report translated --data test.de
"""


@app.command(epilog=EXAMPLES)
def report(
    out: Annotated[
        str,
        Argument(
            metavar="OUT",
            help="a run's or a search's folder, or what `rnncond caption` or `rnncond translate` wrote; also s3:// or gs://",
        ),
    ],
    images: Annotated[str | None, Option(help="folder of the pictures, if they have moved")] = None,
    data: Annotated[str | None, Option(help="reference captions or translations, to show beside the model's")] = None,
    column: Annotated[
        str | None, Option(help="column of the reference translations, where --data is a table (default: target)")
    ] = None,
    to: Annotated[
        str | None,
        Option(help="the page's file (default: OUT/report.html)"),
        Output(local=True, by_default="beside", beside=("out",)),
    ] = None,
    count: Annotated[
        int,
        Option(help="number of pictures or sentences to show, with --compare as many that changed beside them", min=1),
    ] = 24,
    fingerprint: options.Fingerprint = None,
    compare: Annotated[
        str | None, Option(metavar="SET", help="an older set of OUT: show what changed, with both texts")
    ] = None,
) -> Outcome:
    """Write one self-contained HTML page: pictures or sentences with the model's text, attention, curves and scores."""
    from pipelines.verbs.report import run

    return run(out, images, data, to, count, fingerprint, compare, column)
