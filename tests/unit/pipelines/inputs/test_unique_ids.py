"""The memory of ids, held to a dictionary."""

import numpy as np
import pyarrow as pa
import pytest

from feature_store.index import hash_texts
from pipelines.inputs.unique_ids import SeenIds


@pytest.mark.parametrize("size", [1, 3, 7, 50])
def test_seen_is_a_set(size):
    numbers = np.random.default_rng(0).integers(0, 40, 100).tolist()
    seen, found = SeenIds(), []
    for start in range(0, 100, size):
        names = [str(number) for number in numbers[start : start + size]]
        fresh, twice = seen.compare(pa.chunked_array([names]), hash_texts(names)[:, 0])
        assert twice is None
        found += np.array(names)[fresh].tolist()
    assert found == list(dict.fromkeys(map(str, numbers)))
    assert sum(map(len, seen.runs)) == len(found)


def test_an_id_with_another_content_is_found_in_its_call_and_in_earlier_ones():
    contents = np.arange(4, dtype=np.uint64)
    assert SeenIds().compare(pa.chunked_array([["a", "b", "a"]]), contents[[0, 1, 2]])[1] == 2
    seen = SeenIds()
    assert seen.compare(pa.chunked_array([["a", "b", "a"]]), contents[[0, 1, 0]])[1] is None
    fresh, twice = seen.compare(pa.chunked_array([["c", "b"]]), contents[[2, 3]])
    assert (fresh[0], twice) == (True, 1)
