"""``rnncond features``: CNN features of images, computed once, into a store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from pipelines import console
from pipelines.cluster.resources import Plan
from pipelines.config.choices import Decoding
from pipelines.console import Outcome, Progress
from pipelines.engine import driver, dry_run
from pipelines.engine.counter import COUNTER
from pipelines.engine.failures import Failures
from pipelines.engine.workers import shipped
from pipelines.features import backbones
from pipelines.features.featurizer import Network, dataset_of, featurizer_of, table_of
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
    decode: Decoding | None = None,
    size: int | None = None,
) -> Outcome:
    """The verb as a function; the arguments are the command's, and of ``backbones.load``.

    Raises:
        UserError, StoreError: a mistake of the user's, or another writer at work.
    """
    dry_run.refuse_kept(options, {"--save-listing": save_listing})
    listing = Listing(images)
    chunks = listing.begin(save_listing)  # a wrong IMAGES is told before a network is built
    network = backbones.load(backbone, weights, outputs, regions, size)
    if weights == "random":
        console.tell(f"{backbone} has RANDOM weights: its features serve to try things out, and describe nothing.")
    dataset = dataset_of(network, store)
    make_worker = shipped(FeatureWorker, network, dataset.schema, batch, threads, decode)
    if options.dry_run:
        return dry_run.run(dataset, chunks, make_worker, network.row_bytes, "images", options, decode, [images])
    progress = Progress("features", "images", None)
    summary = driver.run(dataset, chunks, make_worker, progress, network.row_bytes, options, listing.total)
    more: dict[str, Any] = {"other_files_ignored": listing.ignored} if listing.ignored else {}
    more |= {"store": dataset.store.files.shown, "set": dataset.fingerprint}
    return summary.outcome("images", more, options.redo_changed, source=[images])


class FeatureWorker:
    """Computes a work unit of images; lives in an actor."""

    def __init__(
        self,
        plan: Plan,
        network: Network,
        schema: pa.Schema,
        batch: int | None = None,
        threads: int | None = None,
        decode: Decoding | None = None,
    ) -> None:
        self.schema = schema
        self.featurize = featurizer_of(network, plan, decode, batch, threads)

    def process(self, unit: pa.Table) -> tuple[pa.Table, pa.Table]:
        failures = Failures.before(unit)
        tables = []
        for images, outputs in self.featurize(unit, failures):
            tables.append(table_of(images, outputs, self.schema))
            COUNTER.add(len(images))
        return pa.concat_tables(tables or [self.schema.empty_table()]), failures.table()
