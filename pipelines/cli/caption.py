"""The command line of ``rnncond caption``."""

from __future__ import annotations

from typing import Annotated

from typer import Argument, Option

from pipelines.cli import options
from pipelines.cli.options import SEARCH
from pipelines.console import Outcome
from pipelines.workflow.commands import Output

app = options.application()

EXAMPLES = """
Examples:

  rnncond caption photos/ --model runs/show_tell --out captioned --weights squeezenet1_0.safetensors

  rnncond caption --store store --model runs/show_attend_tell --out captioned --beam 5 --nbest 3 --attention

  rnncond caption photo.jpg --model runs/show_tell --weights FILE          (prints it, without Ray)

  rnncond caption photo.jpg --model runs/show_tell --weights FILE --samples 5 --temperature 0.8 --top-p 0.9

  rnncond caption photos/ --model runs/show_tell --weights FILE --out captioned --keep-features store

  rnncond caption --store store --model runs/first --ensemble runs/second --ensemble runs/third --out captioned

  rnncond caption 's3://bucket/photos/' --model models:/captioner@champion --out s3://bucket/captions --address auto

Run the same command again to resume after an interruption, or to add images that are new.
"""


@app.command(epilog=EXAMPLES)
def caption(
    model: options.Model,
    images: Annotated[
        str | None,
        Argument(
            metavar="IMAGES",
            help="a folder, a glob, an s3:// or gs:// prefix, a picture, tar shards, Parquet with images, or a "
            "listing: .txt, .csv, .jsonl, .parquet",
        ),
    ] = None,
    out: Annotated[
        str | None,
        Option(
            help="the captions' store, a folder or uri; made if it is not there. Without it IMAGES is one "
            "picture, whose caption is printed"
        ),
        Output(),
    ] = None,
    lines: Annotated[
        str | None,
        Option(
            "--text",
            help="also write all captions of the set to this file: lines of image and caption, or by its name .csv, "
            ".tsv or .jsonl (.gz too); `lines` in a pipeline",
        ),
        Output(),
    ] = None,
    store: Annotated[str | None, Option(help="in place of IMAGES: a store with their features")] = None,
    weights: Annotated[
        str | None,
        Option(
            help="weights of the backbone that reads IMAGES: a file, `pretrained` or `random` (default: those that "
            "came with the model, or fit it)"
        ),
    ] = None,
    ensemble: Annotated[
        list[str] | None, Option(help="a further model of the same vocabulary and features; repeatable")
    ] = None,
    keep_features: Annotated[
        str | None,
        Option(
            help="also keep the features of IMAGES in this store; those that it has are not computed again, which "
            "--redo-changed would ask for"
        ),
        Output(),
    ] = None,
    retry_failed: options.RetryFailed = False,
    redo_changed: options.RedoChanged = False,
    save_listing: options.SaveListing = None,
    since: Annotated[
        str | None,
        Option(
            metavar="SET",
            help="a set of OUT (or current): caption its pictures, unless IMAGES or --store says others, and write "
            "what changed to OUT/diffs",
        ),
    ] = None,
    takeover: options.Takeover = False,
    tracking_uri: options.TrackingUri = None,
    beam: options.Beam = None,
    nbest: Annotated[
        int | None,
        Option(min=1, help="captions kept of each image, at most the beam size (default: 1)", rich_help_panel=SEARCH),
    ] = None,
    attention: options.Attention = False,
    max_length: options.MaxLength = None,
    min_length: options.MinLength = None,
    length_penalty: options.LengthPenalty = None,
    alpha: options.Alpha = None,
    coverage_penalty: options.CoveragePenalty = None,
    no_repeat_ngram: options.NoRepeatNgram = None,
    samples: options.Samples = None,
    temperature: options.Temperature = None,
    top_k: options.TopK = None,
    top_p: options.TopP = None,
    seed: options.Seed = None,
    precision: options.Precision = "float32",
    limit: options.Limit = None,
    dry_run: options.DryRun = False,
    sample: options.Sample = 64,
    price_per_hour: options.PricePerHour = None,
    decode: options.Decode = None,
    rows_per_part: options.RowsPerPart = None,
    retry_seconds: options.RetrySeconds = 60,
    workers: options.Workers = None,
    wait: options.Wait = 3600,
    gpus: options.Gpus = None,
    address: options.Address = None,
) -> Outcome:
    """Caption images, or the features in a store, that OUT has no caption of yet."""
    from feature_store.retry import retrying_for
    from pipelines.engine.driver import Options
    from pipelines.verbs.caption import run

    work = Options(
        workers, gpus, rows_per_part, retry_failed, takeover, address, redo_changed, retry_seconds, wait,
        limit=limit, dry_run=dry_run, sample=sample, price_per_hour=price_per_hour,
    )  # fmt: skip
    asked = options.search_options(
        beam=beam, nbest=nbest, max_length=max_length, min_length=min_length, length_penalty=length_penalty,
        alpha=alpha, coverage_beta=coverage_penalty, no_repeat_ngram=no_repeat_ngram, samples=samples,
        temperature=temperature, top_k=top_k, top_p=top_p, seed=seed, precision=precision,
    )  # fmt: skip
    asked |= {
        "ensemble": ensemble or (), "weights": weights, "options": work, "save_listing": save_listing, "lines": lines,
        "keep_features": keep_features, "tracking_uri": tracking_uri, "attention": attention, "decode": decode,
    }  # fmt: skip
    if since is not None:
        from pipelines.errors import UserError
        from pipelines.verbs.store import since as since_set

        if out is None:
            raise UserError("--since SET is of the store OUT; say --out DIR.")
        with retrying_for(retry_seconds):
            return since_set.run(since, model, out, images, store, **asked)
    with retrying_for(retry_seconds):
        return run(model, out, images, store=store, **asked)
