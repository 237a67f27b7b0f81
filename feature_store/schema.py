"""Columns of the store, the fingerprint of a recipe, and tensors between numpy and Arrow."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from feature_store.errors import StoreError

OUTPUTS = ("pooled", "grid", "regions")


def fingerprint(recipe: Mapping[str, Any]) -> str:
    """The first 16 hexadecimal digits of SHA-256 over the recipe as canonical JSON: the name of a set."""
    return hashlib.sha256(canonical(recipe).encode()).hexdigest()[:16]


def canonical(recipe: Mapping[str, Any]) -> str:
    try:
        return json.dumps(recipe, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise StoreError(f"a recipe holds only JSON values (text, numbers, lists, mappings): {error}") from error


def feature_schema(outputs: Iterable[str], shapes: Mapping[str, tuple[int, ...]]) -> pa.Schema:
    """Columns of a set of image features (FORMAT.md).

    Args:
        outputs: any of pooled, grid, regions.
        shapes: of one image: ``pooled`` (D,), ``grid`` (rows, columns, D), ``regions`` (D,) of each region.
    """
    fields = [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("version", pa.string()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
    ]
    for output in outputs:
        if output not in OUTPUTS:
            raise StoreError(f"no output is called {output!r}; there are {', '.join(OUTPUTS)}")
        if output == "regions":
            fields += region_fields(*shapes[output])
        else:
            fields.append(pa.field(output, pa.fixed_shape_tensor(pa.float16(), shapes[output]), nullable=False))
    return pa.schema(fields)


def region_fields(size: int) -> list[pa.Field]:
    """Regions, as many as the image has: features, boxes (x1, y1, x2, y2, pixels), scores, classes; equal lengths."""
    return [
        pa.field("regions", pa.list_(pa.list_(pa.float16(), size)), nullable=False),
        pa.field("boxes", pa.list_(pa.list_(pa.float32(), 4)), nullable=False),
        pa.field("scores", pa.list_(pa.float32()), nullable=False),
        pa.field("classes", pa.list_(pa.int32()), nullable=False),
    ]


def shape_of(field: pa.Field) -> tuple[int, ...]:
    """The shape of one image's features in a column of features; of one region's where the column has regions."""
    kind = field.type
    return tuple(kind.shape) if isinstance(kind, pa.FixedShapeTensorType) else (kind.value_type.list_size,)


def failure_schema(id_column: str = "image_id") -> pa.Schema:
    """Columns of inputs that gave no row. ``stage`` is list, read, decode, compute or process."""
    return pa.schema(
        [
            pa.field(id_column, pa.string(), nullable=False),
            pa.field("uri", pa.string(), nullable=False),
            pa.field("version", pa.string()),
            pa.field("stage", pa.string(), nullable=False),
            pa.field("reason", pa.string(), nullable=False),
            pa.field("tries", pa.int32(), nullable=False),
        ]
    )


def from_numpy(values: np.ndarray) -> pa.ExtensionArray:
    """(N, ...) numbers as a column of tensors; float16 storage is float16, without a copy where C-contiguous."""
    values = np.ascontiguousarray(values)
    kind = pa.fixed_shape_tensor(pa.from_numpy_dtype(values.dtype), values.shape[1:])
    flat = pa.array(values.reshape(-1))
    return pa.ExtensionArray.from_storage(kind, pa.FixedSizeListArray.from_arrays(flat, type=kind.storage_type))


def to_numpy(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """A column of tensors or of plain numbers as (N, ...), a read-only view where it is one chunk."""
    if isinstance(column, pa.ChunkedArray):
        if column.num_chunks != 1:
            return np.concatenate([to_numpy(chunk) for chunk in column.chunks] or [to_numpy(empty(column.type))])
        column = column.chunk(0)
    if not isinstance(column.type, pa.FixedShapeTensorType):
        numbers: np.ndarray = column.to_numpy(zero_copy_only=False)
        return numbers
    if column.null_count:
        raise StoreError(f"a tensor column has {column.null_count} nulls; it must have none")
    flat = column.storage.flatten().to_numpy(zero_copy_only=True)
    values: np.ndarray = flat.reshape(len(column), *column.type.shape)
    return values


def from_arrays(arrays: Sequence[np.ndarray]) -> pa.ListArray:
    """A column of lists of different lengths: of numbers from arrays (L,), of vectors from arrays (L, D)."""
    values = np.concatenate(arrays)
    offsets = pa.array(np.cumsum([0, *map(len, arrays)]), pa.int32())
    flat = pa.array(values.reshape(-1))
    if values.ndim > 1:
        flat = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    return pa.ListArray.from_arrays(offsets, flat)


def to_arrays(column: pa.ListArray | pa.ChunkedArray) -> list[np.ndarray]:
    """A column of lists as an array (L,) or (L, D) for each row, read-only views."""
    if isinstance(column, pa.ChunkedArray):
        return [array for chunk in column.chunks for array in to_arrays(chunk)]
    if column.null_count:
        raise StoreError(f"a column of lists has {column.null_count} nulls; it must have none")
    flat = column.flatten()
    if pa.types.is_fixed_size_list(flat.type):
        values = flat.flatten().to_numpy(zero_copy_only=True).reshape(-1, flat.type.list_size)
    else:
        values = flat.to_numpy(zero_copy_only=True)
    return np.split(values, np.cumsum(np.diff(column.offsets.to_numpy()))[:-1]) if len(column) else []


def empty(kind: pa.DataType) -> pa.Array:
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, pa.array([], kind.storage_type))
    return pa.array([], kind)


def pack_schema(schema: pa.Schema) -> str:
    """As text for set.json: Arrow's IPC message in base64, which any Arrow library reads."""
    return base64.b64encode(schema.serialize().to_pybytes()).decode()


def unpack_schema(text: str) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))


def differences(found: pa.Schema, expected: pa.Schema) -> list[str]:
    """What keeps a table of ``found`` out of a set of ``expected``, a line per column; order and nullability of
    columns do not matter."""
    lines = []
    for name in sorted({*found.names, *expected.names}):
        if name not in found.names:
            lines.append(f"column {name} ({expected.field(name).type}) is missing")
        elif name not in expected.names:
            lines.append(f"column {name} ({found.field(name).type}) is not of this set")
        elif found.field(name).type != expected.field(name).type:
            lines.append(f"column {name} is {found.field(name).type}, expected {expected.field(name).type}")
    return lines
