"""Features read from a store, part by part."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from feature_store import Snapshot, Store, feature_schema, from_numpy
from pipelines.engine.failures import Failures
from pipelines.engine.resume import with_tries
from pipelines.features import sources
from pipelines.features.sources import FromStore

PARTS, ROWS = 6, 20


def test_each_part_is_opened_once_for_its_rows_in_whatever_order_ids_are(tmp_path, monkeypatch):
    dataset = Store(tmp_path).dataset("features", {}, feature_schema(["pooled"], {"pooled": (1,)}))
    ids = np.random.default_rng(0).permutation([f"{number:03d}" for number in range(PARTS * ROWS)]).reshape(PARTS, ROWS)
    with dataset.begin() as term:
        for own in ids.tolist():
            values = from_numpy(np.array(own, int).astype(np.float16)[:, None])
            same = [[None] * ROWS] * 3
            rows = pa.Table.from_arrays(
                [pa.array(own), pa.array(own), *map(pa.array, same), values], dataset.schema.names
            )
            rows = rows.cast(dataset.schema)
            term.handle.commit(term.handle.part_name(own), rows)

    source = FromStore(dataset.snapshot(), "pooled")
    unit = with_tries(pa.concat_tables(source.chunks()))
    opened, open_ = [], Snapshot._open
    monkeypatch.setattr(Snapshot, "_open", lambda self, part: opened.append(part.name) or open_(self, part))
    monkeypatch.setattr(sources, "READ_ROWS", ROWS)
    found = {
        image.image_id: value.item()
        for images, values, _ in source(unit, Failures())
        for image, value in zip(images, values, strict=True)
    }
    assert found == {f"{number:03d}": number for number in range(PARTS * ROWS)}
    assert sorted(opened) == sorted(part.name for part in source.snapshot.parts)


def test_features_of_another_backbone_are_told_by_its_whole_name():
    there = {"backbone": "timm/tf_efficientnet_lite2", "weights": "0847c30eb0efca52" * 4, "outputs": {"grid": [9, 9]}}
    wanted = {"backbone": "timm/tf_efficientnet_lite0", "weights": "20fee2f1366bb2f5" * 4, "outputs": {"grid": [7, 7]}}
    assert sources.differences(there, wanted) == [
        "backbone is timm/tf_efficientnet_lite2, expected timm/tf_efficientnet_lite0",
        "outputs.grid is [9, 9], expected [7, 7]",
        "weights is 0847c30eb0efca52..., expected 20fee2f1366bb2f5...",
    ]
