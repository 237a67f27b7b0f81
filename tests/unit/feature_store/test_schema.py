"""Columns, tensors between numpy and Arrow, and the fingerprint of a recipe."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from feature_store import StoreError, fingerprint, from_numpy, to_numpy


def test_the_fingerprint_is_the_hash_of_canonical_json():
    # printf '{"a":"é","b":[1,2.5,null]}' | sha256sum
    assert fingerprint({"b": [1, 2.5, None], "a": "é"}) == "d764fee2563da33e"
    with pytest.raises(StoreError, match="only JSON values"):
        fingerprint({"a": float("nan")})


@given(hnp.arrays(st.sampled_from(["f2", "f4", "i4"]), hnp.array_shapes(min_dims=2, max_dims=4, max_side=5)))
def test_tensors_go_to_arrow_and_back(values):
    column = from_numpy(values)
    assert isinstance(column.type, pa.FixedShapeTensorType) and tuple(column.type.shape) == values.shape[1:]
    np.testing.assert_array_equal(to_numpy(column), values)
    np.testing.assert_array_equal(to_numpy(column[1:]), values[1:])
    pieces = pa.chunked_array([column[:1], column[1:]])
    np.testing.assert_array_equal(to_numpy(pieces), values)
    assert to_numpy(pa.chunked_array([], column.type)).shape == (0, *values.shape[1:])


def test_tensors_are_views_both_ways():
    values = np.ones((4, 3, 2), np.float16)
    column = from_numpy(values)
    values[2] = 7
    assert np.shares_memory(to_numpy(column), values) and to_numpy(column)[2, 0, 0] == 7


def test_a_tensor_that_is_missing_is_not_taken_for_numbers():
    kind = pa.fixed_shape_tensor(pa.float32(), (2,))
    column = pa.ExtensionArray.from_storage(kind, pa.array([[1, 2], None], kind.storage_type))
    with pytest.raises(StoreError, match="has 1 nulls"):
        to_numpy(column)
