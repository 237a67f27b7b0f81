"""The command line of ``rnncond run``."""

from __future__ import annotations

from typing import Annotated

from typer import Argument, Option

from pipelines.cli import options
from pipelines.console import Outcome
from pipelines.workflow.commands import Output

app = options.application()

EXAMPLES = """
Examples:

  rnncond run pipeline.yaml

  rnncond run pipeline.yaml photos=more.jsonl stages.train.args.overrides.seed=2

  rnncond run pipeline.yaml --from evaluate

  rnncond run pipeline.yaml --dry-run

Run the same command again to resume after a failure, or to do what new data ask for.
"""


@app.command(epilog=EXAMPLES)
def run(
    pipeline: Annotated[str, Argument(metavar="PIPELINE", help="a YAML file with `stages:`")],
    overrides: Annotated[
        list[str] | None, Argument(metavar="KEY=VALUE", help="variable=value or key.path=value", show_default=False)
    ] = None,
    out: Annotated[
        str | None,
        Option(help="folder of pipeline.json (default: `out` of the file)"),
        Output(),
    ] = None,
    start: Annotated[
        str | None,
        Option("--from", metavar="STAGE", help="do this stage and those after it even if they are up to date"),
    ] = None,
    dry_run: Annotated[bool, Option("--dry-run", help="say which stages would be done and why, and do none")] = False,
    address: options.Address = None,
) -> Outcome:
    """Do the stages of a pipeline that are not up to date, in their order."""
    from pipelines.cli.commands import stage_command
    from pipelines.verbs import run as verb

    return verb.run(stage_command, pipeline, overrides or (), out=out, start=start, dry_run=dry_run, address=address)
