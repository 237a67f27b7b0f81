"""``rnncond features``: CNN features of images, computed once, into a store."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import pyarrow as pa
import ray
import torch

from feature_store import Dataset
from pipelines import console
from pipelines.cluster.resources import Plan
from pipelines.console import Outcome, Progress
from pipelines.engine import driver
from pipelines.engine.failures import Failures
from pipelines.features import backbones
from pipelines.features.featurizer import Featurizer, Network, dataset_of, table_of
from pipelines.inputs.listing import Listing


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
