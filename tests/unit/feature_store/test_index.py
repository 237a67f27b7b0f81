import hashlib
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pyarrow as pa

from feature_store import Index, Store, index
from feature_store.index import NO_VERSION, hash_texts

SCHEMA = pa.schema([pa.field("image_id", pa.string(), nullable=False), pa.field("version", pa.string())])


def index_of(tmp_path, *parts) -> Index:
    dataset = Store(tmp_path / "store").dataset("test", {}, SCHEMA)
    with dataset.begin() as term:
        for part in parts:
            rows = pa.table({"image_id": list(part), "version": list(part.values())}, schema=SCHEMA)
            term.handle.commit(term.handle.part_name(part), rows)
    return Index.of(dataset.snapshot())


def test_ids_are_found_in_their_parts(tmp_path):
    index = index_of(tmp_path, {"a": "1", "ü": "2"}, {"b": None, "": "4"}, {f"{n}": "5" for n in range(1000)})
    ids = pa.chunked_array([["b", "x", "a"], ["ü", "", "999", "1000"]])
    at = index.find(ids)
    assert (at >= 0).tolist() == [True, False, True, True, True, True, False]
    # parts are in order of their first id: "" and b, then 0 ..., then a and ü
    assert index.part[at[at >= 0]].tolist() == [0, 2, 2, 0, 1]
    versions = pa.chunked_array([["9", "9", "9"], ["2", None, "6", "6"]])
    assert index.changed(at, versions).tolist() == [False, False, True, False, False, True, False]


def test_the_memory_that_an_index_is_built_in(monkeypatch):
    """28 bytes a row, and 16 for a moment: the order of the rows, and one column in that order."""
    rows, parts = 1_000_000, 100
    table = pa.table({"image_id": ["a"] * (rows // parts), "version": ["1"] * (rows // parts)})
    snapshot = SimpleNamespace(
        id_column="image_id",
        schema=table.schema,
        rows=rows,
        parts=[SimpleNamespace(rows=table.num_rows)] * parts,
        iter_columns=lambda columns: (table for _ in range(parts)),
    )
    random = np.random.default_rng(0)
    monkeypatch.setattr(index, "hash_texts", lambda texts: random.integers(1 << 63, size=(len(texts), 2)))
    tracemalloc.start()
    try:
        built = Index.of(snapshot)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (built.first[:-1] <= built.first[1:]).all()
    assert kept / rows < 29 and peak / rows < 46


def test_an_empty_index(tmp_path):
    assert index_of(tmp_path).find(pa.chunked_array([["a", "b"]])).tolist() == [-1, -1]
    assert index_of(tmp_path).find(pa.chunked_array([], pa.string())).tolist() == []


def test_ids_that_share_half_of_their_hash():
    asked = hash_texts(["a", "b"])
    first = np.array([asked[0, 0]] * 3 + [asked[1, 0]], np.uint64)
    order = np.argsort(first, kind="stable")
    second = np.array([7, 8, asked[0, 1], 9], np.uint64)[order]
    index = Index(first[order], second, np.zeros(4, np.uint64), np.arange(4, dtype=np.uint32)[order])
    at = index.find(pa.chunked_array([["a", "b", "c"]]))
    assert index.part[at[0]] == 2 and at[1:].tolist() == [-1, -1]


def test_a_hash_is_blake2b():
    digest = hashlib.blake2b("ü".encode(), digest_size=16).digest()
    expected = [int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")]
    assert hash_texts(["ü", None]).tolist() == [expected, [NO_VERSION, NO_VERSION]]
