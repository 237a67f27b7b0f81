"""The command line of ``rnncond train``."""

from __future__ import annotations

from typing import Annotated

from typer import Option

from pipelines.cli import options
from pipelines.console import Outcome
from pipelines.workflow.commands import Output

app = options.application()

EXAMPLES = """
Examples:

  rnncond train show_tell.small data.store=features data.captions=captions.jsonl

  rnncond train show_attend_tell.small data.store=features data.captions=captions.jsonl --out runs/attend \\
  training.epochs=20

  rnncond train encdec_bidirectional.small data.source=train.en.gz data.target=train.de.gz \\
  data.validation_source=val.en.gz data.validation_target=val.de.gz

  rnncond train runs/attend/recipe.yaml seed=2 --out runs/attend2      (a saved recipe is a recipe)

  rnncond train show_tell.small data.store=s3://bucket/features data.captions=s3://bucket/captions.jsonl \\
  --out s3://bucket/runs/nightly --address auto

  rnncond train show_tell.small ... cluster.workers=2 cluster.cpus_per_worker=0.5

Run the same command again to resume after an interruption; with a larger training.epochs, a finished run goes on, too.
"""


@app.command(epilog=EXAMPLES)
def train(
    recipe: options.Recipe,
    overrides: options.Overrides = None,
    out: Annotated[
        str | None,
        Option(help="the run's folder, or a uri such as s3://bucket/runs/NAME (default: runs/RECIPE)"),
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
    """Train a captioner on the features of a store and a file of captions, or a translator on pairs of sentences.

    OUT gets best/ and last/ (models), the resolved recipe, metrics.jsonl and samples.jsonl.
    """
    from pipelines.verbs.train import run

    return run(
        recipe, overrides or (), out=out, address=address, restart=restart, tracking_uri=tracking_uri, cfg=cfg,
        limit=limit, dry_run=dry_run, sample=sample, price_per_hour=price_per_hour, wait=wait,
    )  # fmt: skip
