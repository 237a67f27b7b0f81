"""The same pictures from a folder, a bucket, tar shards and a Parquet table: the same captions, the same failures."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store import Store, verify
from pipelines.cluster.resources import Plan
from pipelines.engine.resume import with_tries
from pipelines.features import backbones
from pipelines.features.sources import FromImages
from pipelines.inference.captioner import Captioner
from pipelines.verbs import caption
from rnncond.search import SearchOptions
from tests.worlds import hostile
from tests.worlds.captioner import model_reading

DATA = Path(os.environ.get("RNNCOND_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))
"""Photographs (flickr1k/images) and weights of SqueezeNet, where somebody has put them."""
SHARDS = 3
Found = dict[str, tuple[str, str, float]]
"""Of each image "caption", its text and score; or stage and reason of its failure, and 0."""


def contents(photos: Path) -> dict[str, bytes]:
    """Photographs and hostile files by name, in the order in which all four are listed."""
    found = {path.name: path.read_bytes() for path in photos.iterdir()}
    # Names that a bucket or a shard cannot have.
    found |= {name: data for name, data in hostile.CONTENTS.items() if not set(name) & set("\n\t\\")}
    return dict(sorted(found.items()))


def four_ways(files: dict[str, bytes], folder: Path, bucket: tuple[str, Callable]) -> dict[str, str]:
    """``files`` in all four forms: what to give as IMAGES, by form."""
    for name in ("files", "tars"):
        (folder / name).mkdir()
    uri, put = bucket
    for name, data in files.items():
        (folder / "files" / name).write_bytes(data)
        put(f"files/{name}", data)
    names = list(files)
    each = -(-len(names) // SHARDS)
    for number in range(SHARDS):
        with tarfile.open(folder / "tars" / f"{number}.tar", "w") as tar:
            for name in names[number * each : (number + 1) * each]:
                info = tarfile.TarInfo(name)
                info.size = len(files[name])
                tar.addfile(info, io.BytesIO(files[name]))
    table = pa.table({"image": [{"bytes": data, "path": None} for data in files.values()], "image_id": names})
    pq.write_table(table, folder / "table.parquet", row_group_size=100)
    tars, parquet = str(folder / "tars" / "*.tar"), str(folder / "table.parquet")
    return {"folder": str(folder / "files"), "bucket": f"{uri}/files", "tars": tars, "parquet": parquet}


def by_name(found: Found, form: str) -> Found:
    """Ids of members of a shard without the shard."""
    return {name.split("/", 1)[1] if form == "tars" else name: what for name, what in found.items()}


def assert_equal(found: dict[str, Found], files: dict[str, bytes]) -> None:
    first = found["folder"]
    assert first.keys() == files.keys()
    failed = {name: what for name, what in first.items() if what[0] != "caption"}
    expected = {name: hostile.EXPECTED[name] for name in files if hostile.EXPECTED.get(name)}
    assert failed.keys() == expected.keys() and len(failed) >= 10
    for name, (stage, reason) in expected.items():
        assert failed[name][0] == stage and reason in failed[name][1], name
    assert len({round(score, 2) for _, _, score in first.values()}) > 10
    for form, other in found.items():
        assert other.keys() == first.keys(), form
        for name, (kind, text, score) in other.items():
            # In other batches a network gives other last digits.
            assert (kind, text, score) == (*first[name][:2], pytest.approx(first[name][2], abs=1e-3)), (form, name)


def test_generated_pictures(make_photos, tmp_path, bucket):
    files = contents(make_photos(30))
    network = backbones.load("timm/test_resnet", "random")
    trained = model_reading(tmp_path / "model", "show_attend_tell", "grid", network.recipe)
    found = {}
    for form, images in four_ways(files, tmp_path, bucket).items():
        captioner = Captioner([trained], SearchOptions(beam=2, max_length=8))
        source = FromImages.open(images, trained.features, "random")
        worker = caption.CaptionWorker(Plan(1, 1, 0), source, captioner, caption.schema_of(captioner.options))
        rows, failures = worker.process(with_tries(pa.concat_tables(worker.source.chunks())))
        worker.source.featurize.pool.shutdown()
        found[form] = by_name(what_became(rows, failures), form)
    assert_equal(found, files)


def what_became(rows: pa.Table, failures: pa.Table) -> Found:
    said = {row["image_id"]: ("caption", row["caption"], row["score"]) for row in rows.to_pylist()}
    return said | {row["image_id"]: (row["stage"], row["reason"], 0.0) for row in failures.to_pylist()}


@pytest.mark.slow
@pytest.mark.ray
def test_photographs_through_the_command(make_photos, tmp_path, bucket):
    """The 850 photographs of Flickr8k and ImageNet's weights, where they are at hand."""
    photos, weights = DATA / "flickr1k" / "images", DATA / "weights" / "squeezenet1_0.safetensors"
    if not (photos.is_dir() and weights.is_file()):
        photos, weights = make_photos(60, size=(320, 240)), "random"
    files = contents(photos)
    network = backbones.load("torchvision/squeezenet1_0", str(weights))
    model_reading(tmp_path / "model", "show_attend_tell", "grid", network.recipe)
    found, sets = {}, set()
    for form, images in four_ways(files, tmp_path, bucket).items():
        out = tmp_path / f"from {form}"
        words = ["caption", images, "--model", str(tmp_path / "model"), "--out", str(out), "--weights", str(weights)]
        words += ["--beam", "3", "--rows-per-part", "100", "--json"]
        # A Ray of its own, which knows of the bucket.
        environment = {**os.environ, "RAY_ADDRESS": "local", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "-m", "pipelines.cli.main", *words], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 3, done.stderr
        summary = json.loads(done.stdout.splitlines()[-1])
        dataset = Store(out).open(kind="captions")
        snapshot = dataset.snapshot()
        assert verify(dataset).problems == []
        assert summary["computed"] + summary["failed"] == len(files) == snapshot.rows + snapshot.failed
        rows = pa.Table.from_batches(snapshot.scan(), dataset.schema)
        found[form] = by_name(what_became(rows, snapshot.failures()), form)
        sets.add(dataset.fingerprint)
    assert len(sets) == 1
    assert_equal(found, files)
