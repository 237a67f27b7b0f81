"""The command line of ``rnncond promote``."""

from __future__ import annotations

from typing import Annotated

from typer import Option

from pipelines.cli import options
from pipelines.console import Outcome

app = options.application()

EXAMPLES = """
Examples:

  rnncond promote --model runs/show_attend_tell --name captioner

  rnncond promote --model runs/show_attend_tell --name captioner --data captions.jsonl --split test

  rnncond promote --model runs/gnmt --name translator --source test.en --data test.de

  rnncond promote --model models:/captioner/2 --name captioner --anyway    the way back to version 2

  rnncond caption photos/ --model models:/captioner@champion --out captioned
"""
HELD_OUT = "Scores on held-out data"


@app.command(epilog=EXAMPLES)
def promote(
    model: Annotated[str, Option(help="a run's folder, a model's folder, runs:/ID or models:/NAME/VERSION")],
    name: Annotated[str, Option(help="name of the registered model")],
    metric: Annotated[
        str | None, Option(help="the metric that decides (default: CIDEr or BLEU; without --data the recipe's)")
    ] = None,
    weights: Annotated[
        str | None, Option(help="weights of a captioner's backbone: a file that is to travel with the model")
    ] = None,
    allow_uri: Annotated[
        list[str] | None,
        Option(
            help="a prefix, as https://HOST/PATH/ or s3://BUCKET/, of addresses that the served model opens for the "
            "uri of a request; repeatable (default: it opens none)"
        ),
    ] = None,
    tracking_uri: Annotated[
        str | None,
        Option(help="MLflow's tracking URI (default: MLFLOW_TRACKING_URI, the run's own, or sqlite:///mlflow.db)"),
    ] = None,
    data: Annotated[
        list[str] | None,
        Option(
            "--data",
            "--references",
            help="held-out captions, or translations, on which both models are scored (default: compare the scores of "
            "their trainings, if these are on the same data)",
            rich_help_panel=HELD_OUT,
        ),
    ] = None,
    source: Annotated[str | None, Option(help="sentences to translate", rich_help_panel=HELD_OUT)] = None,
    store: Annotated[
        str | None, Option(help="features of the images (default: those of training)", rich_help_panel=HELD_OUT)
    ] = None,
    split: Annotated[str | None, Option(help="split of --data (default: val)", rich_help_panel=HELD_OUT)] = None,
    beam: Annotated[int, Option(help="beam size", min=1, rich_help_panel=HELD_OUT)] = 5,
    anyway: Annotated[
        bool,
        Option(
            "--anyway",
            help="make it the champion although its gain may be noise (paired bootstrap of what --data scores); "
            "without --data, make a version models:/NAME/VERSION the champion again, whatever its scores",
        ),
    ] = False,
) -> Outcome:
    """Register a model, and make it the champion if it beats the present one on the same held-out data."""
    from pipelines.verbs.promote import run

    return run(
        model, name, data=data, source=source, store=store, split=split, beam=beam, metric=metric, weights=weights,
        allow_uri=allow_uri, tracking_uri=tracking_uri, anyway=anyway,
    )  # fmt: skip
