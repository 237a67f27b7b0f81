"""The command line of ``rnncond tune``."""

from __future__ import annotations

from typing import Annotated

from typer import Option

from pipelines.cli import options
from pipelines.console import Outcome
from pipelines.workflow.commands import Output

app = options.application()

EXAMPLES = """
Examples:

  rnncond tune show_tell.small data.store=features data.captions=captions.jsonl

  rnncond tune show_tell.small data.store=features data.captions=captions.jsonl tune.trials=30 \\
  'tune.space.model.dropout={uniform: \\[0.2, 0.7]}' tracking.registered_model=captioner

  rnncond tune show_tell.small ... tune.algorithm=grid tune.trials=null 'tune.space={model.hidden: \\[128, 256]}'

  rnncond tune show_tell.small ... tune.algorithm=pbt tune.asha=null \\
  'tune.space={training.learning_rate: {log: \\[1e-4, 1e-2]}}'

Run the same command again to resume after an interruption; with more tune.trials, a finished search goes on, too.
"""


@app.command(epilog=EXAMPLES)
def tune(
    recipe: options.Recipe,
    overrides: options.Overrides = None,
    out: Annotated[
        str | None,
        Option(help="the search's folder, or a uri such as s3://bucket/runs/NAME (default: runs/RECIPE.search)"),
        Output(by_default="here"),
    ] = None,
    restart: options.Restart = False,
    cfg: options.Cfg = False,
    tracking_uri: options.TrackingUri = None,
    limit: options.TrainLimit = None,
    dry_run: options.TrainDryRun = False,
    sample: options.SampleSteps = 8,
    price_per_hour: options.PricePerHour = None,
    wait: options.Wait = 3600,
    address: options.Address = None,
) -> Outcome:
    """Search for the values of a recipe that train the best model: its section `tune` says what to vary, and how.

    OUT gets trials/, each a run, trials.jsonl, the best trial's recipe.yaml, and its model in best/.
    """
    from pipelines.verbs.tune import run

    return run(
        recipe, overrides or (), out=out, address=address, restart=restart, tracking_uri=tracking_uri, cfg=cfg,
        limit=limit, dry_run=dry_run, sample=sample, price_per_hour=price_per_hour, wait=wait,
    )  # fmt: skip
