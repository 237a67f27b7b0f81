"""The command line of ``rnncond status``."""

from __future__ import annotations

from typing import Annotated

from typer import Argument, Option

from pipelines.cli import options
from pipelines.console import Outcome

app = options.application()

EXAMPLES = """
Examples:

  rnncond status captioned/

  rnncond status s3://bucket/captions --total 1000000 --watch

  rnncond status runs/show_attend_tell --json
"""


@app.command(epilog=EXAMPLES)
def status(
    out: Annotated[
        str,
        Argument(metavar="OUT", help="a store, or the folder of a run, a search or a pipeline; also s3:// or gs://"),
    ],
    fingerprint: options.OneOfAll = None,
    total: Annotated[
        int | None, Option(min=0, help="how many inputs there are, for what is left (default: as the last run knew)")
    ] = None,
    watch: Annotated[bool, Option("--watch", help="show it again and again, until nobody is at work")] = False,
    every: Annotated[float, Option(min=0.1, help="with --watch: seconds between two looks")] = 5.0,
) -> Outcome:
    """Say what is done, failed and left, at what rate, by whom, and when somebody last gave a sign of life."""
    from pipelines.verbs.status import run

    return run(out, fingerprint, total, every if watch else None)
