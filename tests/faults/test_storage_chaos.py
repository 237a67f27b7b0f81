"""Every verb that reads or writes object storage, on storage of which a fifth of the requests goes wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from feature_store import Store, retry, verify
from pipelines.features import backbones
from pipelines.files import filesystems
from pipelines.files.jsonl import read_lines
from pipelines.inputs import fetch
from pipelines.inputs.listing import Listing
from pipelines.training.run.info import RunPlace
from tests.worlds import captioner, training, translator
from tests.worlds.bad_storage import BadStorage

SHARE, SEED = 0.2, 5
PHOTOS = 120
BROKEN = "broken.jpg"
RUNS = 6
"""Of one command, each of which may end with exit code 4 and goes on where the last one ended."""


@pytest.fixture
def bad(bucket):
    """The bucket's uri, what puts objects in it, and the proxy that commands see in its place."""
    uri, put = bucket
    with BadStorage(os.environ["AWS_ENDPOINT_URL"], SHARE, SEED) as proxy:
        yield uri, put, proxy


@pytest.fixture
def run(bad, tmp_path):
    """A function that gives a command until it is done, and a line of the table for it; prints the table at the end."""
    _, _, proxy = bad
    table = []

    def done(*words: str, expected: int) -> dict:
        codes, retries, before = [], 0, (proxy.counts["requests"], proxy.errors)
        for _ in range(RUNS):
            call = [sys.executable, "-m", "pipelines.cli.main", *words, "--json"]
            ended = subprocess.run(
                call, env=os.environ | {"AWS_ENDPOINT_URL": proxy.url}, cwd=tmp_path, text=True, capture_output=True
            )
            codes.append(ended.returncode)
            assert "Traceback" not in ended.stderr, ended.stderr[-3000:]
            summary = json.loads(ended.stdout.strip().splitlines()[-1])
            retries += summary.get("storage_asked_again", 0)
            if ended.returncode != 4:
                break
        counts = (proxy.counts["requests"] - before[0], proxy.errors - before[1])
        table.append((words[0], *counts, retries, " ".join(map(str, codes))))
        assert codes[-1] == expected and set(codes[:-1]) <= {4}, (codes, ended.stdout, ended.stderr[-3000:])
        return summary

    yield done
    print(f"\n{'verb':12}{'requests':>10}{'errors':>8}{'again':>7}  exit codes")
    for verb, requests, errors, retries, codes in table:
        print(f"{verb:12}{requests:10,}{errors:8,}{retries:7,}  {codes}")


def sound(store: str, kind: str) -> list[dict]:
    """The failures of a store in which nothing is damaged or there twice."""
    dataset = Store(store).open(kind=kind)
    assert verify(dataset).problems == []
    return dataset.snapshot().failures().to_pylist()


@pytest.mark.slow
@pytest.mark.ray
def test_nothing_is_lost_doubled_or_failed_that_was_not_rotten(bad, run, make_photos, tmp_path):
    uri, put, proxy = bad
    for photo in make_photos(PHOTOS).iterdir():
        put(f"photos/{photo.name}", photo.read_bytes())
    put(f"photos/{BROKEN}", b"no picture")
    backbone = ["--backbone", "timm/test_resnet", "--weights", "random"]
    run("features", f"{uri}/photos/", "--store", f"{uri}/store", *backbone, "--rows-per-part", "16", expected=3)
    (failure,) = sound(f"{uri}/store", "features")
    assert (failure["image_id"], failure["stage"]) == (BROKEN, "decode")
    assert Store(f"{uri}/store").open(kind="features").snapshot().rows == PHOTOS

    network = backbones.load("timm/test_resnet", "random")
    captioner.model_reading(tmp_path / "model", "show_tell", "pooled", network.recipe)
    model = ["--model", str(tmp_path / "model"), "--out", f"{uri}/captions"]
    run("caption", f"{uri}/photos/", *model, "--weights", "random", "--rows-per-part", "16", expected=3)
    assert [row["image_id"] for row in sound(f"{uri}/captions", "captions")] == [BROKEN]
    assert Store(f"{uri}/captions").open(kind="captions").snapshot().rows == PHOTOS

    translator.make_translator(tmp_path / "translator")
    put("test.en", "".join(f"{sentence}\n" for sentence in [*translator.PAIRS] * 40).encode())
    model = ["--model", str(tmp_path / "translator"), "--out", f"{uri}/translations"]
    run("translate", f"{uri}/test.en", *model, "--rows-per-part", "16", expected=0)
    assert sound(f"{uri}/translations", "translations") == []
    assert Store(f"{uri}/translations").open(kind="translations").snapshot().rows == 40 * len(translator.PAIRS)

    overrides = training.make_world(tmp_path / "world")
    for path in Path(tmp_path / "world" / "store").rglob("*.*"):
        put(f"world/{path.relative_to(tmp_path / 'world')}", path.read_bytes())
    overrides = [*overrides, f"data.store={uri}/world/store", "training.epochs=2"]
    run("train", "show_tell.small", *overrides, "--out", f"{uri}/run", expected=0)
    place = RunPlace.at(f"{uri}/run")
    assert [line["epoch"] for line in read_lines(place.folder / "metrics.jsonl")] == [1, 2]
    assert proxy.errors > proxy.counts["requests"] / 10


def test_pictures_and_a_store_on_bad_storage(bad, no_pauses, monkeypatch):
    """The same without Ray: pictures listed and read, parts committed, read and verified."""
    uri, put, proxy = bad
    pictures = {f"{number:03d}.jpg": os.urandom(2000) for number in range(40)}
    for name, content in pictures.items():
        put(f"photos/{name}", content)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    filesystems._file_system.cache_clear()
    before = retry.RETRIES.total
    rows = [row for chunk in Listing(f"{uri}/photos").chunks() for row in chunk.to_pylist()]
    assert {row["image_id"]: fetch.read(row["uri"])[1] for row in rows} == pictures
    schema = pa.schema([pa.field("image_id", pa.string(), nullable=False)])
    dataset = Store(f"{uri}/store").dataset("test", {"a": 1}, schema)
    with dataset.begin() as term:
        for start in range(0, 40, 5):
            ids = sorted(pictures)[start : start + 5]
            term.handle.commit(term.handle.part_name(ids), pa.table([ids], schema=schema))
    assert dataset.snapshot().ids().to_pylist() == sorted(pictures)
    assert verify(dataset).problems == []
    assert proxy.errors > proxy.counts["requests"] / 10
    assert retry.RETRIES.total > before
    print(
        f"\n{proxy.counts['requests']} requests, {proxy.errors} went wrong, {retry.RETRIES.total - before} made again"
    )
