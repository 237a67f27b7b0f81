"""The command line of ``rnncond features``."""

from __future__ import annotations

from typing import Annotated

from typer import Option

from pipelines.cli import options
from pipelines.console import Outcome
from pipelines.workflow.commands import Output

app = options.application()

EXAMPLES = """
Examples:

  rnncond features photos/ --store store --backbone torchvision/resnet50 --weights pretrained

  rnncond features captions.jsonl --store store --backbone torchvision/squeezenet1_0 --weights squeezenet1_0.safetensors

  rnncond features photos/ --store store --backbone timm/resnet50 --size 448 --outputs grid

  rnncond features photos/ --store store --backbone torchvision/fasterrcnn_resnet50_fpn_v2 --outputs regions

  rnncond features 's3://bucket/photos/' --store s3://bucket/store --backbone timm/resnet101 --address auto

Run the same command again to resume after an interruption, or to add images that are new.
"""
DETECTOR = "Detectors"


@app.command(epilog=EXAMPLES)
def features(
    images: options.Images,
    store: Annotated[str, Option(help="the store's folder or uri; made if it is not there"), Output()],
    backbone: Annotated[str, Option(help="timm/NAME or torchvision/NAME")] = "timm/resnet50",
    outputs: Annotated[
        str | None, Option(help="pooled, grid or both; regions with a detector (default: all that it gives)")
    ] = None,
    weights: Annotated[
        str,
        Option(
            help="a file (.safetensors, .pth, .pt), `pretrained` (downloads by name) or `random` (to try things out)"
        ),
    ] = "pretrained",
    size: Annotated[
        int | None,
        Option(
            min=32,
            max=2048,
            help="pixels of the square that the network sees of a picture (default: the network's own)",
        ),
    ] = None,
    regions_max: Annotated[
        int | None,
        Option(min=10, max=100, help="most regions kept of an image (default: 36)", rich_help_panel=DETECTOR),
    ] = None,
    regions_min: Annotated[
        int | None,
        Option(min=1, help="regions kept whatever their scores (default: 10)", rich_help_panel=DETECTOR),
    ] = None,
    score_threshold: Annotated[
        float | None,
        Option(help="score that further regions must exceed (default: 0.2)", rich_help_panel=DETECTOR),
    ] = None,
    retry_failed: options.RetryFailed = False,
    redo_changed: options.RedoChanged = False,
    save_listing: options.SaveListing = None,
    takeover: options.Takeover = False,
    batch: Annotated[
        int | None,
        Option(
            min=1,
            help="images in a forward pass (default: 8, on a GPU 128; a detector takes one at a time)",
            rich_help_panel=options.WORK,
        ),
    ] = None,
    threads: Annotated[
        int | None,
        Option(
            min=1,
            help="reader threads in each worker; more for a slow network (default: 2 per CPU)",
            rich_help_panel=options.WORK,
        ),
    ] = None,
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
    """Compute features of the images that the store does not have yet."""
    from feature_store.retry import retrying_for
    from pipelines.engine.driver import Options
    from pipelines.verbs.features import run

    work = Options(
        workers, gpus, rows_per_part, retry_failed, takeover, address, redo_changed, retry_seconds, wait,
        limit=limit, dry_run=dry_run, sample=sample, price_per_hour=price_per_hour,
    )  # fmt: skip
    wanted = None if outputs is None else tuple(outputs.replace(" ", "").split(","))
    regions = options.given(most=regions_max, fewest=regions_min, threshold=score_threshold)
    with retrying_for(retry_seconds):
        return run(images, store, backbone, weights, wanted, batch, threads, work, save_listing, regions, decode, size)
