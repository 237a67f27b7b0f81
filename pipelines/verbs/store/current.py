"""``rnncond store use``: which of a store's sets its readers get."""

from __future__ import annotations

import shlex
from typing import Any

from feature_store import Store
from pipelines.console import Outcome
from pipelines.errors import UserError

NEWEST = "newest"
"""In place of a fingerprint: the set that a run completed last, and after it each that a run completes."""


def use(directory: str, fingerprint: str) -> Outcome:
    """Give the readers of a store the set ``fingerprint`` until told otherwise, or the newest one.

    Raises:
        UserError: the newest set is not known, as nothing was written yet.
        StoreError: there is no such set, and the message lists those that are there; or another process changes it.
    """
    store = Store(directory)
    newest = fingerprint == NEWEST
    dataset = newest_of(store) if newest else store.open(fingerprint)
    before = store.use(dataset, pinned=not newest)
    where = shlex.quote(directory)
    summary: dict[str, Any] = {
        "store": directory,
        "kind": dataset.kind,
        "current_set": dataset.fingerprint,
        "rows": dataset.snapshot().rows,
    }
    if before is None or before.fingerprint == dataset.fingerprint:
        back = None
    else:
        summary["before"] = before.fingerprint
        back = f"Back again: rnncond store use {where} {before.fingerprint}"
    if not newest:
        stays = f"Runs that complete another set leave it so; rnncond store use {where} {NEWEST}   follows them again."
        back = f"{back}\n{stays}" if back else stays
    return Outcome(summary, hint=back)


def newest_of(store: Store) -> Any:
    """The set that a run completed last, of the only kind that has several; where the store does not say it, the one
    with the newest part that no `compact` and no `certify --prune` made of others.

    Raises:
        UserError: there are several kinds with several sets, or no set has a part.
    """
    sets = store.datasets() or [store.open()]
    kinds = [dataset.kind for dataset in sets]
    several = {kind for kind in kinds if kinds.count(kind) > 1} or set(kinds)
    if len(several) > 1:
        raise UserError(
            f"{store.files.shown} has several sets of each of {', '.join(sorted(several))}; name the one to use by its "
            "fingerprint (`rnncond store info` lists them)."
        )
    known = store.current(min(several))
    for dataset in sets:
        if known is not None and dataset.fingerprint == known.completed:
            return dataset
    written = [
        (max((not part.replaces, part.time) for part in parts), dataset.fingerprint, dataset)
        for dataset in sets
        if dataset.kind in several and (parts := dataset.snapshot().parts)
    ]
    if not written:
        raise UserError(f"No set in {store.files.shown} has a part yet, so there is nothing to use.")
    return max(written)[2]
