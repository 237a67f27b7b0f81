"""Rows in Parquet parts, committed by a ledger: features, captions, translations. FORMAT.md is the specification."""

from feature_store.errors import StoreError
from feature_store.index import Index
from feature_store.maintenance import compact, drop, vacuum, verify
from feature_store.parts import Part
from feature_store.schema import (
    failure_schema,
    feature_schema,
    fingerprint,
    from_arrays,
    from_numpy,
    shape_of,
    to_arrays,
    to_numpy,
)
from feature_store.snapshot import RowGroup, Snapshot
from feature_store.store import Dataset, Store
from feature_store.term import Term
from feature_store.writer import Handle

__all__ = [
    "Dataset", "Handle", "Index", "Part", "RowGroup", "Snapshot", "Store", "StoreError", "Term",
    "compact", "drop", "failure_schema", "feature_schema", "fingerprint", "from_arrays", "from_numpy", "shape_of",
    "to_arrays", "to_numpy", "vacuum", "verify",
]  # fmt: skip
