"""``rnncond caption`` on a cluster, and SIGKILL of its driver, its actors and their nodes: every image gets its caption
once."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch

from feature_store import Store, fingerprint, verify
from pipelines.features import backbones
from rnncond import checkpoint, systems
from rnncond.text import Vocabulary
from tests.worlds.nodes import ACTOR, await_
from tests.worlds.writing import Writing, check_kept, entries

BROKEN = "broken.jpg"
KILLS = 20
NODES = {7: 4, 14: 1}
"""That the cluster has from so many kills on; before it has two."""

pytestmark = pytest.mark.ray


@pytest.fixture
def model(tmp_path) -> Path:
    torch.manual_seed(0)
    recipe = backbones.load("timm/test_resnet", "random").recipe
    vocabulary = Vocabulary.train(["a b c d"])
    sizes = {"feature_size": recipe["outputs"]["pooled"][0], "embedding": 8, "hidden": 8}
    model = systems.build("show_tell", {"vocab_size": len(vocabulary), **sizes})
    features = {"fingerprint": fingerprint(recipe), "recipe": recipe, "output": "pooled"}
    checkpoint.save(checkpoint.Trained("show_tell", model, vocabulary, None, features), tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def images(make_photos):
    """A function that makes a folder of so many pictures, and one that is none."""

    def make(count: int) -> tuple[Path, set[str]]:
        photos = make_photos(count)
        (photos / BROKEN).write_bytes(b"no picture")
        return photos, {path.name for path in photos.iterdir()}

    return make


def words(photos: Path, model: Path, out: Path) -> list[str]:
    return ["caption", str(photos), "--model", str(model), "--out", str(out), "--rows-per-part", "4"]


def test_killed_driver_node_and_actor(nodes, command, images, model, chance, tmp_path):
    photos, ids = images(160)
    caption = words(photos, model, tmp_path / "out")
    writing = Writing(nodes, command, caption, tmp_path / "out")
    writing.await_parts(chance.randint(1, 8))
    writing.kill("driver")
    nodes.settle()

    writing = Writing(nodes, command, caption, tmp_path / "out")
    # As soon as there is an actor, and both at once: a fast machine would be done with all images soon after.
    writing.kill("node")
    writing.kill("actor")
    writing.finish(ids, {BROKEN})  # on the one node that is left
    nodes.fill()


@pytest.mark.slow
def test_a_killed_new_model_leaves_readers_the_old_set_until_all_is_there(
    nodes, command, images, model, chance, tmp_path
):
    """`--since`, killed while the new model captions: the store is whole, readers get what the old one said, and the
    same command goes on, to the set of the new one and the file of what changed."""
    photos, ids = images(160)
    out = tmp_path / "out"
    Writing(nodes, command, words(photos, model, out), out).finish(ids, {BROKEN})
    old = Store(out).current("captions").fingerprint
    other = [*words(photos, model, out), "--since", old, "--beam", "3"]  # which other captions are made by
    enough = entries(out) + chance.randint(1, 5)
    driver = command(*other)
    await_(lambda: entries(out) >= enough or driver.poll() is not None)
    assert driver.poll() is None, f"ended before it was killed: {driver.communicate()}"
    driver.kill()
    driver.communicate()
    assert all(verify(dataset).problems == [] for dataset in Store(out).datasets())
    assert Store(out).open(kind="captions").fingerprint == old
    nodes.settle()
    done = command(*other)
    printed, told = done.communicate(timeout=600)
    assert done.returncode == 3, told  # the broken one fails as before
    summary = json.loads(printed.splitlines()[-1])
    assert summary["already_done"] > 0 and summary["already_done"] + summary["computed"] == len(ids) - 1
    new = Store(out).open(kind="captions")
    assert new.fingerprint == summary["set"] != old and verify(new).problems == []
    assert Path(summary["changes"]).is_file()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["driver", "actor", "node"])
def test_twenty_kills_on_a_cluster_that_grows_and_shrinks(nodes, command, images, model, chance, tmp_path, kind):
    """At random moments; a run that ends before the last of them is followed by one on another folder."""
    kills, runs = 0, 0
    photos, ids = images(1500)
    before = nodes.count

    def start() -> Writing:
        nodes.settle()
        out = tmp_path / str(runs)
        return Writing(nodes, command, [*words(photos, model, out), "--workers", "1:4"], out)

    writing = start()
    try:
        while kills < KILLS:
            await_(lambda: nodes.fill() or nodes.processes(ACTOR) or not writing.runs())  # noqa: B023
            time.sleep(chance.uniform(0, 6))
            if not writing.runs():
                writing.finish(ids, {BROKEN})
                runs += 1
                writing = start()
                continue
            if kind == "driver":
                writing.kill("driver")
                kills, kept = kills + 1, writing.before
                writing = start()
                check_kept(kept, writing.before)
            elif nodes.processes(ACTOR):
                writing.kill(kind)
                nodes.fill()
                kills += 1
            if NODES.get(kills, nodes.count) != nodes.count:  # in the middle of a run
                nodes.resize(NODES[kills])
                if nodes.count > before:
                    await_(lambda: len(nodes.processes(ACTOR)) > before or not writing.runs())  # noqa: B023
        writing.finish(ids, {BROKEN})
    finally:
        nodes.resize(before)
    print(f"{kills} kills, {runs + 1} times all images, {entries(tmp_path / str(runs))} parts in the last")
