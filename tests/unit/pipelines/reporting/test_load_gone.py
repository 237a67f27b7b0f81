"""What a report says of pictures that are gone."""

from __future__ import annotations

from types import SimpleNamespace

import pyarrow as pa
import pytest

from pipelines.reporting import load


def snapshot_of(uris: list[str], *sizes: int) -> SimpleNamespace:
    """A snapshot whose parts have so many rows."""
    assert sum(sizes) == len(uris)
    starts = [sum(sizes[:number]) for number in range(len(sizes))]
    tables = [pa.table({"uri": uris[start : start + size]}) for start, size in zip(starts, sizes, strict=True)]
    return SimpleNamespace(rows=len(uris), iter_columns=lambda names: iter(tables))


def test_pictures_that_are_gone_are_counted(tmp_path):
    (tmp_path / "here.jpg").touch()
    uris = [str(tmp_path / "here.jpg"), str(tmp_path / "gone.jpg"), "s3://bucket/x.jpg", str(tmp_path / "away.jpg")]
    assert load.gone_pictures(snapshot_of(uris, 3, 1)) == f"2 ({uris[1]}, {uris[3]})"
    assert load.gone_pictures(snapshot_of(uris[:1], 1)) is None


@pytest.mark.parametrize("sizes", [(40,), (7, 1, 32), (3, 0, 20, 17)])
def test_of_many_some_are_looked_for_evenly_spread(monkeypatch, sizes):
    """Of 40 rows every eighth: 0, 8, 16, 24 and 32, however they lie in parts."""
    monkeypatch.setattr(load, "LOOKED_FOR", 5)
    asked: list[str] = []
    monkeypatch.setattr(load.os.path, "exists", lambda uri: asked.append(uri) or uri != "16")
    remark = load.gone_pictures(snapshot_of([str(number) for number in range(40)], *sizes))
    assert asked == ["0", "8", "16", "24", "32"]
    assert remark == "1 (16) of 5 that were looked for"
