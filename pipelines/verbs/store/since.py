"""``rnncond caption --since SET``: the pictures of a set captioned by another model, and what that changed."""

from __future__ import annotations

import os
import shlex
import tempfile
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from feature_store import Dataset, Store
from pipelines.config.dotted import absolute
from pipelines.console import Outcome
from pipelines.evaluation.differences import difference
from pipelines.verbs import caption
from pipelines.verbs.store.diff import keep


def run(since: str, model: str, out: str, images: str | None, store: str | None, **options: Any) -> Outcome:
    """Caption what ``since`` has, or IMAGES or the features in ``store``, and write what changed into the store.

    Args:
        since: a set of captions in ``out``: a fingerprint, its beginning, or ``current``.
        options: the other arguments of ``caption.run``.

    Raises:
        UserError, StoreError: a mistake of the user's, or another writer at work.
    """
    before = Store(out).open(since, kind="captions")
    with tempfile.TemporaryDirectory() as folder:
        if images is None and store is None:
            images = str(Path(folder, "pictures.parquet"))
            write_listing(before, images)
        outcome = caption.run(model, out, images, store=store, **options)
    if "set" not in outcome.summary:  # of --dry-run, which makes none
        return outcome
    found = difference(Store(out), before.fingerprint, outcome.summary["set"])
    # `changed` of the run itself counts inputs with another version.
    counts = {f"captions_{name}" if name in outcome.summary else name: n for name, n in found.counts().items()}
    summary = outcome.summary | {"since": before.fingerprint} | counts | {"changes": keep(found)}
    hint = f"rnncond store diff {shlex.quote(out)} --set {before.fingerprint} --set {found.after.fingerprint}"
    return replace(outcome, summary=summary, hint="\n".join(filter(None, [hint, outcome.hint])))


def write_listing(dataset: Dataset, path: str) -> None:
    """The pictures of a set, rows and failures, as a listing; paths from the root: others begin at its own folder.
    Files that were removed since would be failures of the set that is made, and are left out."""
    snapshot = dataset.snapshot()
    schema = pa.schema([(name, pa.string()) for name in ("image_id", "uri", "version")])
    with pq.ParquetWriter(path, schema) as writer:
        for some in chain(snapshot.scan(schema.names), [snapshot.failures()]):
            uris = [absolute(uri) for uri in some["uri"].to_pylist()]
            listed = pa.table([some["image_id"], pa.array(uris, pa.string()), some["version"]], schema=schema)
            writer.write_table(listed.filter(pa.array([not is_removed(uri) for uri in uris], pa.bool_())))


def is_removed(uri: str) -> bool:
    """Whether a local file is gone from its folder. Of object storage and members of shards it is not asked."""
    return "://" not in uri and not os.path.exists(uri) and os.path.isdir(os.path.dirname(uri))
