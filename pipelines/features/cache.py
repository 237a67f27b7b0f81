"""``rnncond caption --keep-features``: the features of a captioned image are kept, and those that are there are read.

A unit of work commits two parts: first its features, then its captions. A kill between the two leaves images with
features and without a caption, never the reverse; the next run captions them from the store. So each image is once in
either, and nothing that was committed is computed again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store import Dataset, Handle, Index, Snapshot
from pipelines.cluster.resources import Plan
from pipelines.engine.failures import Failures
from pipelines.engine.isolation import WHOLE
from pipelines.features.featurizer import dataset_of, table_of
from pipelines.features.loading import PART
from pipelines.features.sources import Batches, FromImages, FromStore


class Keeping:
    """Images as ``FromImages`` gives them, with their features in a store besides.

    Args:
        images: read where the store has no features.
        dataset: the set of the features, as it was at ``before``.
        handle: to commit to it.
    """

    def __init__(self, images: FromImages, dataset: Dataset, before: Snapshot, handle: Handle) -> None:
        self.images, self.dataset, self.before, self.handle = images, dataset, before, handle
        self.shape, self.total = images.shape, images.total

    def chunks(self) -> Iterator[pa.Table]:
        """What is listed, and which part has its features; once."""
        index = Index.of(self.before)
        for chunk in self.images.chunks():
            at = index.find(chunk["image_id"])
            part = np.zeros(len(at), np.int32)
            part[at >= 0] = index.part[at[at >= 0]]
            yield chunk.append_column(PART, pa.array(part, mask=at < 0))

    def start(self, plan: Plan) -> Keeping:
        self.images.start(plan)
        return self

    def __call__(self, unit: pa.Table, failures: Failures) -> Batches:
        kept = unit[PART].is_valid()
        yield from FromStore(self.before, self.images.output)(unit.filter(kept), failures)
        new = unit.filter(pc.invert(kept))
        name = self.handle.part_name(unit["image_id"].to_pylist())
        part = self.handle.committed(name)
        if part is None and WHOLE in (unit.schema.metadata or {}):
            part = self.handle.committed(self.handle.part_name(json.loads(unit.schema.metadata[WHOLE])))
        if part:  # another worker died between the two commits
            failed = self.handle.snapshot([part]).failures()
            failed = failed.filter(pc.is_in(failed["image_id"], value_set=unit["image_id"].combine_chunks()))
            failures.rows += failed.to_pylist()
            new = new.filter(pc.invert(pc.is_in(new["image_id"], value_set=failed["image_id"].combine_chunks())))
            its = FromStore(self.handle.snapshot([part]), self.images.output)
            first = pa.array(np.zeros(new.num_rows, np.int32))
            yield from its(new.drop_columns(PART).append_column(PART, first), failures)
        elif new.num_rows:
            yield from self._computed(name, new, failures)

    def _computed(self, name: str, unit: pa.Table, failures: Failures) -> Batches:
        tables, own = [], Failures(failures.tries)  # apart: what cannot be captioned may well have features
        for loaded, outputs in self.images.batches(unit, own):
            tables.append(table_of(loaded, outputs, self.handle.schema))
            yield self.images.give(loaded, outputs)
        self.handle.commit(name, pa.concat_tables(tables) if tables else None, own.table())
        failures.rows += own.rows

    def remarks(self) -> dict[str, Any]:
        added = self.dataset.snapshot().rows - self.before.rows
        features = {"features added": added, "features": f"{self.dataset.store.files.shown} {self.dataset.fingerprint}"}
        return self.images.remarks() | features


@contextmanager
def keeping(images: FromImages, store: str, takeover: bool) -> Iterator[Keeping]:
    """The only writer of the features of ``images`` in ``store``, until the block ends.

    Raises:
        StoreError: another writer is at work.
    """
    dataset = dataset_of(images.network, store)
    with dataset.begin(takeover) as term:
        yield Keeping(images, dataset, dataset.snapshot(), term.handle)
