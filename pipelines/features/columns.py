"""Features of a batch of images, between the store and a system.

Images with features of one shape are an array (B, ...). Where each has its own number of regions they are a list of B
arrays (L, D), and become one array with a mask only where a system reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
import pyarrow as pa
import torch

from feature_store import from_arrays, from_numpy, to_arrays, to_numpy
from rnncond.contract import Source

Values = np.ndarray | list[np.ndarray]


def of_column(column: pa.Array | pa.ChunkedArray) -> Values:
    return to_arrays(column) if pa.types.is_list(column.type) else to_numpy(column)


def as_column(values: Values) -> pa.Array:
    return from_numpy(values) if isinstance(values, np.ndarray) else from_arrays(values)


def joined(pieces: Sequence[Values]) -> Values:
    """Batches as one."""
    return np.concatenate(pieces) if isinstance(pieces[0], np.ndarray) else list(chain.from_iterable(pieces))


def source_of(values: Values) -> Source:
    """What a system is given: pooled (B, D), the places of a grid (B, rows * columns, D), or padded regions."""
    if not isinstance(values, np.ndarray):
        return pad_regions(values)
    features = torch.from_numpy(values.copy())
    return Source(features.flatten(1, -2) if features.ndim > 2 else features)


def pad_regions(regions: Sequence[np.ndarray]) -> Source:
    """B arrays (L, D) as (B, longest L, D), zero behind the last region, with the mask of what is real."""
    lengths = np.array([len(one) for one in regions])
    mask = np.arange(lengths.max()) < lengths[:, None]
    values = np.zeros((*mask.shape, regions[0].shape[1]), regions[0].dtype)
    values[mask] = np.concatenate(regions)
    return Source(torch.from_numpy(values), torch.from_numpy(mask))
