"""A store of features, captions, translations or tokens, as a table or as a data set of torch."""

from __future__ import annotations

import bisect
from collections import OrderedDict
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch

from feature_store import Snapshot, Store, to_arrays, to_numpy

if TYPE_CHECKING:
    import polars

KEPT_GROUPS = 8
"""Row groups that a data set of torch keeps in memory."""


class StoredSet:
    """What was committed of a set when it was opened. ``open_store`` makes one.

    Attributes:
        kind: features, captions, translations or tokens.
        fingerprint: the set's name, by its recipe.
        recipe: all that its rows depend on.
        columns: their names; the first is the id.
    """

    def __init__(self, kind: str, fingerprint: str, recipe: dict[str, Any], snapshot: Snapshot) -> None:
        self.kind, self.fingerprint, self.recipe, self.snapshot = kind, fingerprint, recipe, snapshot
        self.columns = list(snapshot.schema.names)

    def __len__(self) -> int:
        return self.snapshot.rows

    def __repr__(self) -> str:
        return f"StoredSet({self.kind} {self.fingerprint}, {len(self):,} rows)"

    def arrow(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows as a table of Arrow, in memory.

        Raises:
            StoreError: there is no such column, or a part is damaged.
        """
        batches = list(self.snapshot.scan(columns))
        schema = pa.schema([self.snapshot.schema.field(name) for name in columns or self.columns])
        return pa.Table.from_batches(batches, schema=batches[0].schema if batches else schema)

    def pandas(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """All rows as a table of pandas, with the id as its index; a tensor is an array of numpy in its cell."""
        first = self.columns[0]
        table = self.arrow(None if columns is None else [first, *(name for name in columns if name != first)])
        return pd.DataFrame({name: cells(table[name]) for name in table.column_names}).set_index(first)

    def polars(self, columns: Sequence[str] | None = None) -> polars.DataFrame:
        """All rows as a table of polars, which has to be installed."""
        import polars

        frame = polars.from_arrow(self.arrow(columns))
        assert isinstance(frame, polars.DataFrame), "a table gives a frame"
        return frame

    def failures(self) -> pd.DataFrame:
        """The inputs that gave no row, with stage and reason."""
        frame: pd.DataFrame = self.snapshot.failures().to_pandas()
        return frame

    def torch(self, columns: Sequence[str] | None = None) -> TorchDataset:
        """A map-style data set for ``torch.utils.data.DataLoader``; an item is a dict by column.

        Args:
            columns: by default the id and every column of tensors.
        """
        tensors = [field.name for field in self.snapshot.schema if is_tensor(field.type)]
        return TorchDataset(self.snapshot, list(columns or [self.columns[0], *tensors]))


def open_store(path: str | Path, kind: str | None = None, fingerprint: str | None = None) -> StoredSet:
    """A set of the store at ``path``, a folder or a uri such as s3://bucket/store.

    Args:
        kind: features, captions, translations or tokens, where the store has several.
        fingerprint: of the set, or its beginning, where there are several of a kind.

    Raises:
        StoreError: there is no store, or none or several sets fit; it lists what is there.
    """
    dataset = Store(str(path)).open(fingerprint, kind)
    return StoredSet(dataset.kind, dataset.fingerprint, dataset.recipe, dataset.snapshot())


class TorchDataset(torch.utils.data.Dataset[dict[str, Any]]):
    """Rows by number, read row group by row group. Tensors keep their shape and type (float16); of images with
    regions each has its own number of them, which a ``collate_fn`` has to pad. Can be pickled, for workers."""

    def __init__(self, snapshot: Snapshot, columns: list[str]) -> None:
        self.snapshot, self.columns = snapshot, columns
        self.groups = snapshot.row_groups()
        self.ends = list(accumulate(group.rows for group in self.groups))
        self.kept: OrderedDict[int, dict[str, list[Any]]] = OrderedDict()

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    def __getitem__(self, index: int) -> dict[str, Any]:
        index = index + len(self) if index < 0 else index
        if not 0 <= index < len(self):
            raise IndexError(index)
        number = bisect.bisect_right(self.ends, index)
        place = index - (self.ends[number - 1] if number else 0)
        return {name: values[place] for name, values in self.group(number).items()}

    def group(self, number: int) -> dict[str, list[Any]]:
        """The columns of a row group."""
        if number not in self.kept:
            if len(self.kept) == KEPT_GROUPS:
                self.kept.popitem(last=False)
            group = self.groups[number]
            batch = self.snapshot.read_row_group(group.part, group.index, self.columns)
            self.kept[number] = {
                name: [torch.from_numpy(one.copy()) if isinstance(one, np.ndarray) else one for one in cells(column)]
                for name, column in zip(batch.schema.names, batch.columns, strict=True)
            }
        self.kept.move_to_end(number)
        return self.kept[number]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"kept": OrderedDict()}


def is_tensor(kind: pa.DataType) -> bool:
    """Whether a column has an array in each row: of one shape, or of the row's own length."""
    if pa.types.is_list(kind):
        inner = kind.value_type
        return pa.types.is_fixed_size_list(inner) or pa.types.is_integer(inner) or pa.types.is_floating(inner)
    return isinstance(kind, pa.FixedShapeTensorType)


def cells(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    """The cells of a column: arrays of numpy where it has arrays, Python's own values elsewhere."""
    if len(column) == 0 or not is_tensor(column.type):
        return list(column.to_pylist())
    return list(to_arrays(column) if pa.types.is_list(column.type) else to_numpy(column))
