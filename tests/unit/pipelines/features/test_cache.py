"""Features that `rnncond caption` keeps on the way: those of `rnncond features`, once each, whatever is killed."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from feature_store import Store, StoreError, verify
from pipelines.cluster import shared_storage
from pipelines.cluster.resources import Plan
from pipelines.engine.driver import Options
from pipelines.engine.isolation import WHOLE
from pipelines.engine.resume import with_tries
from pipelines.errors import UserError
from pipelines.features import backbones
from pipelines.features.cache import keeping
from pipelines.features.featurizer import dataset_of
from pipelines.features.sources import FromImages
from pipelines.inference.captioner import Captioner
from pipelines.verbs import caption
from rnncond.search import SearchOptions
from tests.worlds.captioner import model_reading

BACKBONE = "timm/test_resnet"
ONE = Options(workers=1)


@pytest.fixture(scope="module")
def network():
    return backbones.load(BACKBONE, "random")


@pytest.fixture
def world(tmp_path, make_photos, network):
    """Five pictures and one that is none, a captioner, and a store to keep their features in."""

    class World:
        photos, store = make_photos(5), str(tmp_path / "store")
        trained = model_reading(tmp_path / "model", "show_attend_tell", "grid", network.recipe)
        model = str(tmp_path / "model")

        def run(self, before_commit=lambda unit: None, options=None, pieces=lambda unit: [unit]):
            """All of a run but Ray: one unit with every picture. Returns the captions' rows and failures."""
            images = FromImages.open(str(self.photos), self.trained.features, "random")
            with keeping(images, self.store, False) as source:
                captioner = Captioner([self.trained], options or SearchOptions(beam=2, max_length=8))
                schema = caption.schema_of(captioner.options)
                worker = caption.CaptionWorker(Plan(1, 1, 0), source, captioner, schema)
                (chunk,) = source.chunks()
                unit = with_tries(chunk)
                before_commit(lambda: worker.process(unit))
                done = [worker.process(piece) for piece in pieces(unit)]
                rows, failures = (pa.concat_tables(tables) for tables in zip(*done, strict=True))
                return {row["image_id"]: row for row in rows.to_pylist()}, failures.to_pylist()

        def kept(self) -> tuple[list[str], list[str], int]:
            """Ids of rows, ids of failures, and the number of parts."""
            dataset = Store(self.store).open(kind="features")
            snapshot = dataset.snapshot()
            assert verify(dataset).problems == []
            ids = snapshot.ids(include_failures=False).to_pylist()
            return sorted(ids), snapshot.failures()["image_id"].to_pylist(), len(snapshot.parts)

    (World.photos / "broken.jpg").write_bytes(b"\xff\xd8 nothing")
    return World()


NAMES = [f"{number:05d}.jpg" for number in range(5)]


def no_pictures(monkeypatch):
    def refuse(*_):
        raise AssertionError("a picture is read whose features are there")

    monkeypatch.setattr("pipelines.features.preprocess.load", refuse)


def test_they_are_those_of_the_network_and_each_is_there_once(world, network):
    rows, failures = world.run()
    assert (sorted(rows), [row["image_id"] for row in failures]) == (NAMES, ["broken.jpg"])
    assert world.kept() == (NAMES, ["broken.jpg"], 1)
    dataset = Store(world.store).open(kind="features")
    assert dataset.fingerprint == world.trained.features["fingerprint"]
    (batch,) = dataset.snapshot().scan()
    read = FromImages.open(str(world.photos), world.trained.features, "random").start(Plan(1, 1, 0))
    ((_, expected),) = read.batches(with_tries(pa.concat_tables(read.chunks())), caption.Failures())
    for output in network.outputs:
        found = batch[output].to_numpy_ndarray()
        np.testing.assert_array_equal(found, expected[output])


def test_killed_between_the_two_commits_then_run_again(world, monkeypatch):
    first, _ = world.run()  # its captions are never committed
    (world.photos / "new.jpg").write_bytes((world.photos / NAMES[0]).read_bytes())
    (world.photos / "broken.jpg").unlink()
    again, failures = world.run()
    assert failures == []
    assert {name: row["caption"] for name, row in again.items() if name != "new.jpg"} == {
        name: row["caption"] for name, row in first.items()
    }
    assert world.kept() == ([*NAMES, "new.jpg"], ["broken.jpg"], 2)
    no_pictures(monkeypatch)
    assert world.run()[0] == again
    assert world.kept()[2] == 2


def test_a_worker_that_dies_between_the_two_commits(world, monkeypatch):
    def another_attempt(process):
        process()
        no_pictures(monkeypatch)

    rows, failures = world.run(another_attempt)
    assert sorted(rows) == NAMES
    assert [(row["image_id"], row["stage"], row["tries"]) for row in failures] == [("broken.jpg", "decode", 1)]
    assert world.kept() == (NAMES, ["broken.jpg"], 1)


def test_a_unit_whose_pictures_are_done_one_by_one(world, monkeypatch):
    """Because captioning them raised, after their features were kept under the name of the whole unit."""

    def one_by_one(unit):
        marked = unit.replace_schema_metadata({WHOLE: json.dumps(unit["image_id"].to_pylist())})
        return [marked.slice(start, 1) for start in range(unit.num_rows)]

    def another_attempt(process):
        process()
        no_pictures(monkeypatch)

    rows, failures = world.run(another_attempt, pieces=one_by_one)
    assert sorted(rows) == NAMES
    assert [row["image_id"] for row in failures] == ["broken.jpg"]
    assert world.kept() == (NAMES, ["broken.jpg"], 1)


def test_what_cannot_be_captioned_has_features_all_the_same(world):
    rows, failures = world.run(options=SearchOptions(max_length=30, min_length=20, no_repeat_ngram=1))
    assert (rows, {row["stage"] for row in failures}, len(failures)) == ({}, {"decode", "compute"}, 6)
    assert world.kept() == (NAMES, ["broken.jpg"], 1)


def test_another_writer_of_the_features_is_refused(world, network):
    with dataset_of(network, world.store).begin(), pytest.raises(StoreError, match="another writer is at work"):
        world.run()


def test_features_are_not_kept_where_other_machines_do_not_see_them(without_ray, world, tmp_path, monkeypatch):
    monkeypatch.setattr(shared_storage, "other_machines", lambda plan: {"elsewhere": ""})
    monkeypatch.setattr(shared_storage, "ask", lambda path, nodes: {"elsewhere": not path.startswith(world.store)})
    asked = {"weights": "random", "keep_features": world.store, "options": ONE}
    with pytest.raises(UserError, match=f"The store {world.store} is a folder .* elsewhere do not see"):
        caption.run(world.model, str(tmp_path / "a"), str(world.photos), **asked)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"store": "store"}, "--keep-features is of IMAGES"),
        ({"images": "photos", "options": Options(redo_changed=True)}, "rnncond features ... --redo-changed"),
    ],
)
def test_what_does_not_go_together(arguments, message):
    with pytest.raises(UserError, match=message):
        caption.run("model", "out", keep_features="kept", **arguments)
