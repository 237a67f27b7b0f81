"""``rnncond features``: CNN features of images, computed once, into a store."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any

import pyarrow as pa
import ray
import torch
import typer

from feature_store import Dataset
from pipelines import console
from pipelines.cluster.resources import Plan
from pipelines.console import Outcome, Progress
from pipelines.engine import driver
from pipelines.engine.failures import Failures
from pipelines.features import backbones
from pipelines.features.featurizer import Featurizer, Network, dataset_of, table_of
from pipelines.inputs.listing import Listing

app = typer.Typer(rich_markup_mode="rich", add_completion=False)

EXAMPLES = """
Examples:

  rnncond features photos/ --store store --backbone torchvision/resnet50 --weights pretrained

  rnncond features captions.jsonl --store store --backbone torchvision/squeezenet1_0 --weights squeezenet1_0.safetensors

  rnncond features photos/ --store store --backbone torchvision/fasterrcnn_resnet50_fpn_v2 --outputs regions

  rnncond features 's3://bucket/photos/' --store s3://bucket/store --backbone timm/resnet101 --address auto

Run the same command again to go on after an interruption, or to add images that are new.
"""


@app.command(epilog=EXAMPLES)
def command(
    images: Annotated[
        str,
        typer.Argument(
            help="a folder, a glob, an s3:// or gs:// prefix, a picture, tar shards, Parquet with images, "
            "or a listing: .txt, .csv, .jsonl, .parquet"
        ),
    ],
    store: Annotated[str, typer.Option(help="the store's folder or uri; made if it is not there")],
    backbone: Annotated[str, typer.Option(help="timm/NAME or torchvision/NAME")] = "timm/resnet50",
    outputs: Annotated[
        str | None, typer.Option(help="pooled, grid or both; regions of a detector; by default all that it gives")
    ] = None,
    weights: Annotated[
        str,
        typer.Option(
            help="a file (.safetensors, .pth, .pt), `pretrained` (downloads by name) or "
            "`random` (for trying things out)"
        ),
    ] = "pretrained",
    regions_max: Annotated[
        int | None, typer.Option(min=10, max=100, help="of a detector: regions kept of an image, 36 by default")
    ] = None,
    regions_min: Annotated[
        int | None, typer.Option(min=1, help="of a detector: regions kept whatever their scores, 10 by default")
    ] = None,
    score_threshold: Annotated[
        float | None, typer.Option(help="of a detector: what the others' scores must exceed, 0.2 by default")
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(min=1, help="images a forward pass; by default 8, on a GPU 128; a detector takes one at a time"),
    ] = None,
    rows_per_part: Annotated[
        int | None, typer.Option(min=1, help="images a part; by default by size and number")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="actors; by default one a GPU, or one a CPU")] = None,
    gpus: Annotated[int | None, typer.Option(min=0, help="GPUs to use, 0 for none; by default all")] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="that read and decode in each worker; more for a slow network; by default 2 for each of its CPUs",
        ),
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="try images again that failed before")] = False,
    redo_changed: Annotated[
        bool, typer.Option("--redo-changed", help="do images again that have changed since they were read")
    ] = False,
    save_listing: Annotated[
        str | None, typer.Option(help="a .parquet file for what IMAGES lists, to be given as IMAGES later")
    ] = None,
    takeover: Annotated[bool, typer.Option("--takeover", help="write although another writer seems to live")] = False,
    address: Annotated[
        str | None, typer.Option(help="of a Ray cluster; by default RAY_ADDRESS, else Ray starts here")
    ] = None,
) -> Outcome:
    """Compute features of images that the store does not have yet."""
    options = driver.Options(workers, gpus, rows_per_part, retry_failed, takeover, address, redo_changed)
    wanted = None if outputs is None else tuple(outputs.replace(" ", "").split(","))
    regions = {"most": regions_max, "fewest": regions_min, "threshold": score_threshold}
    regions = {name: value for name, value in regions.items() if value is not None}
    return run(images, store, backbone, weights, wanted, batch, threads, options, save_listing, regions)


def run(
    images: str,
    store: str,
    backbone: str,
    weights: str = "pretrained",
    outputs: tuple[str, ...] | None = None,
    batch: int | None = None,
    threads: int | None = None,
    options: driver.Options = driver.DEFAULTS,
    save_listing: str | None = None,
    regions: Mapping[str, Any] | None = None,
) -> Outcome:
    """The verb as a function; the arguments are the command's, and of ``backbones.load``.

    Raises:
        UserError, StoreError: a mistake of the user's, or another writer at work.
    """
    listing = Listing(images)
    chunks = listing.begin(save_listing)  # a wrong IMAGES is told before a network is built
    network = backbones.load(backbone, weights, outputs, regions)
    if weights == "random":
        console.tell(f"{backbone} has RANDOM weights: its features serve to try things out, and describe nothing.")
    dataset = dataset_of(network, store)
    make_worker = partial(FeatureWorker.on, network, dataset.schema, batch, threads)
    progress = Progress("features", "images", None)
    totals = driver.run(dataset, chunks, make_worker, progress, network.row_bytes, options, listing.total)
    return describe(dataset, listing, totals, options.redo_changed)


class FeatureWorker:
    """Computes a unit of images; lives in an actor."""

    def __init__(
        self, network: ray.ObjectRef, schema: pa.Schema, plan: Plan, batch: int | None, threads: int | None
    ) -> None:
        torch.set_num_threads(plan.cpus)
        self.schema = schema
        found = ray.get(network).to(plan.device)
        self.featurise = Featurizer(found, batch or found.batch, threads or 2 * plan.cpus)

    @classmethod
    def on(cls, network: Network, schema: pa.Schema, batch: int | None, threads: int | None, plan: Plan):
        """What makes a worker in an actor. The weights travel once, through the object store, so that workers on
        other nodes need no file."""
        return partial(cls, ray.put(network), schema, plan, batch, threads)

    def process(self, unit: pa.Table) -> tuple[pa.Table, pa.Table]:
        failures = Failures.before(unit)
        tables = [table_of(*batch, self.schema) for batch in self.featurise(unit, failures)]
        return pa.concat_tables(tables or [self.schema.empty_table()]), failures.table()


def describe(dataset: Dataset, listing: Listing, totals: driver.Totals, redo_changed: bool) -> Outcome:
    summary = totals.summary("images")
    if listing.ignored:
        summary["other_files_ignored"] = listing.ignored
    summary |= {"store": dataset.store.files.shown, "set": dataset.fingerprint}
    return Outcome(summary, totals.failed + totals.failed_before, totals.failures, totals.hint(redo_changed))
