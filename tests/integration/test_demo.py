"""The demo: what it refuses, what it keeps of an earlier run, how it counts what is right; slow: the whole path."""

from __future__ import annotations

import json
import random
import subprocess
import sys

import pyarrow as pa
import pytest

from feature_store import Store
from pipelines.demo import world
from pipelines.errors import UserError
from pipelines.verbs import demo
from pipelines.verbs.demo import Subject
from tests.worlds.command import rnncond


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "PICTURES", {"train": 3, "val": 1, "test": 4})
    world.make(tmp_path / "world", demo.PICTURES, seed=5)
    return tmp_path / "world"


@pytest.mark.parametrize("half", [["--data", "captions.jsonl"], ["--weights", "cnn.safetensors"]])
def test_half_of_your_photographs_is_refused(half, tmp_path, capsys):
    out = tmp_path / "demo"
    assert rnncond("demo", *half, "--out", str(out)) == 2
    assert "--data and --weights go together" in " ".join(capsys.readouterr().err.split())
    assert not out.exists()


def test_a_world_is_kept_for_the_same_seed_alone(drawn, monkeypatch):
    assert demo.is_drawn(drawn, 5)
    assert not demo.is_drawn(drawn, 6)
    monkeypatch.setattr(world, "VERSION", world.VERSION + 1)
    assert not demo.is_drawn(drawn, 5)


def test_a_world_that_was_not_finished_is_drawn_again(drawn):
    text = (drawn / "world.json").read_text()
    (drawn / "world.json").write_text(text[: len(text) // 2])
    assert not demo.is_drawn(drawn, 5)
    (drawn / "world.json").unlink()
    assert not demo.is_drawn(drawn, 5)


def test_only_what_is_held_out_is_listed_to_be_captioned(drawn, tmp_path):
    subject = Subject(drawn / "captions.jsonl", "timm/none", tmp_path / "none", "demo", "test")
    rows = [json.loads(line) for line in demo.list_pictures(subject, tmp_path).read_text().splitlines()]
    assert [row["image_id"] for row in rows] == [f"test-{number:05d}" for number in range(4)]
    assert [row["file"] for row in rows] == [str(drawn / "images" / f"{row['image_id']}.jpg") for row in rows]


def test_too_few_pictures_to_hold_some_out_are_told(drawn, tmp_path):
    subject = Subject(drawn / "captions.jsonl", "timm/none", tmp_path / "none", "demo", "nobody")
    with pytest.raises(UserError, match="has no pictures of the split 'nobody' to caption; expected some"):
        demo.list_pictures(subject, tmp_path)


def test_exactness_is_the_share_of_captions_with_nothing_wrong(drawn, tmp_path):
    scenes = json.loads((drawn / "world.json").read_text())["scenes"]
    said = {
        image_id: world.caption_pair(tuple(world.Group(*group) for group in groups), 0, random.Random(0))[0]
        for image_id, groups in scenes.items()
        if image_id.startswith("test")
    }
    first, second, _, _ = said
    said[first] = said[first].replace(".", " and a small red star in the middle.")  # one group too many
    said[second] = "A picture."
    schema = pa.schema([pa.field("image_id", pa.string(), nullable=False), pa.field("caption", pa.string())])
    dataset = Store(str(tmp_path / "captioned")).dataset("captions", {"model": "none"}, schema)
    with dataset.begin() as term:
        table = pa.table([sorted(said), [said[name] for name in sorted(said)]], schema=schema)
        term.handle.commit(term.handle.part_name(sorted(said)), table)
    assert demo.exactness(drawn, tmp_path / "captioned") == 0.5


@pytest.mark.slow
@pytest.mark.ray
def test_the_whole_path_and_again(tmp_path):
    def run() -> dict:
        command = [sys.executable, "-m", "pipelines.cli.main", "demo", "--out", str(tmp_path / "demo"), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1])

    first = run()
    assert first["images"] == 200
    assert float(first["captions_with_every_attribute_right"].rstrip("%")) >= 80
    assert first["CIDEr"] > 1.5 * first["CIDEr of shuffled pictures"]
    assert "<img" in (tmp_path / first["report"]).read_text("utf-8")
    assert (tmp_path / "demo" / "mlflow.db").exists()

    kept = [*(tmp_path / "demo").glob("*.safetensors"), *(tmp_path / "demo" / "store").rglob("*.parquet")]
    times = {path: path.stat().st_mtime_ns for path in kept}
    assert len(times) > 1
    second = run()
    assert second["captions_with_every_attribute_right"] == first["captions_with_every_attribute_right"]
    assert {path: path.stat().st_mtime_ns for path in kept} == times
