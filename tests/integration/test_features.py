import json
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from feature_store import Store, feature_schema, to_numpy
from pipelines.engine.driver import Options
from pipelines.engine.failures import Failures
from pipelines.features import backbones, featurizer, preprocess
from pipelines.features.preprocess import Preprocess
from pipelines.verbs import features
from tests.worlds.command import rnncond

NAME = "torchvision/squeezenet1_0"


def compute(folder, store, **options):
    outputs = ("grid", "pooled")
    return features.run(str(folder), str(store), NAME, "random", outputs, options=Options(workers=1, **options))


def command(*arguments) -> int:
    return rnncond("features", *arguments)


def the_set(store):
    return Store(store).open(kind="features").snapshot()


def part_files(store) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in sorted(store.glob("sets/*/parts/*"))}


@pytest.mark.ray
def test_features_are_those_of_the_bare_network(ray_cluster, make_photos, tmp_path):
    folder = make_photos(20, size=(300, 200))
    outcome = features.run(str(folder), str(tmp_path / "store"), NAME, "random", options=Options(rows_per_part=7))
    assert (outcome.failed, outcome.summary["computed"], outcome.summary["parts"]) == (0, 20, 3)
    snapshot = the_set(tmp_path / "store")
    rows = snapshot.take(["00003.jpg", "00017.jpg"])
    assert rows.select(["uri", "width", "height"]).to_pylist() == [
        {"uri": str(folder / "00003.jpg"), "width": 300, "height": 200},
        {"uri": str(folder / "00017.jpg"), "width": 300, "height": 200},
    ]
    network = backbones.load(NAME, "random")
    assert Store(tmp_path / "store").open(kind="features").recipe == network.recipe
    pixels = [network.preprocess(Image.open(folder / name)) for name in ("00003.jpg", "00017.jpg")]
    expected = network(np.stack(pixels))
    for output in ("pooled", "grid"):
        assert np.allclose(to_numpy(rows[output]), expected[output], atol=2e-3, rtol=2e-3)


def test_the_command_its_failures_and_what_is_tried_again(without_ray, make_photos, tmp_path, capsys):
    folder, store = make_photos(20), tmp_path / "store"
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "gone.jpg").symlink_to("nowhere.jpg")
    (folder / "page.jpg").write_text("<html>not found</html>")
    (folder / "notes.txt").write_text("no picture")

    options = ["--store", store, "--backbone", NAME, "--weights", "random", "--workers", 1, "--json"]
    assert command(folder, *options, "--outputs", "grid,pooled", "--batch", 2) == 3
    shown = capsys.readouterr()
    summary = json.loads(shown.out)
    assert (summary["failed"], summary["computed"], summary["other_files_ignored"]) == (3, 20, 1)
    assert "RANDOM" in shown.err and "empty.jpg: decode: the file is empty" in shown.err
    snapshot = the_set(store)
    assert snapshot.schema.names[-2:] == ["pooled", "grid"]
    assert len(snapshot.ids(include_failures=False)) == snapshot.rows == 20
    assert snapshot.failures().select(["image_id", "stage", "tries"]).to_pylist() == [
        {"image_id": "empty.jpg", "stage": "decode", "tries": 1},
        {"image_id": "gone.jpg", "stage": "read", "tries": 1},
        {"image_id": "page.jpg", "stage": "decode", "tries": 1},
    ]

    # Nothing is done twice, and what failed is still told.
    before = part_files(store)
    second = compute(folder, store)
    assert (second.failed, second.summary["already_done"], second.summary["computed"]) == (3, 20, 0)
    assert "--retry-failed" in second.hint and len(second.failures) == 3
    assert part_files(store) == before

    # One is put right, and one is new.
    Image.new("RGB", (30, 30)).save(folder / "empty.jpg")
    Image.new("RGB", (30, 30)).save(folder / "new.jpg")
    third = compute(folder, store, retry_failed=True)
    assert (third.failed, third.summary["already_done"], third.summary["computed"]) == (2, 20, 2)
    snapshot = the_set(store)
    assert sorted(snapshot.ids(include_failures=False).to_pylist())[-2:] == ["empty.jpg", "new.jpg"]
    assert snapshot.rows == 22
    assert snapshot.failures().select(["image_id", "tries"]).to_pylist() == [
        {"image_id": "gone.jpg", "tries": 2},
        {"image_id": "page.jpg", "tries": 2},
    ]
    assert before.items() <= part_files(store).items()


def test_two_networks_share_a_store(tmp_path):
    for outputs in (("pooled",), ("grid",)):
        with featurizer.dataset_of(backbones.load(NAME, "random", outputs), str(tmp_path / "store")).begin():
            pass
    found = Store(tmp_path / "store").datasets()
    assert sorted(output for dataset in found for output in dataset.recipe["outputs"]) == ["grid", "pooled"]


def test_changed_images_are_told_and_done_again_when_asked(without_ray, make_photos, tmp_path, capsys):
    folder, listing, store = make_photos(4), tmp_path / "listing.parquet", tmp_path / "store"
    options = ["--store", store, "--backbone", NAME, "--weights", "random", "--outputs", "pooled", "--workers", 1]

    def run(*arguments) -> tuple[dict, str]:
        assert command(*arguments, *options, "--json") == 0
        shown = capsys.readouterr()
        return json.loads(shown.out), " ".join(shown.err.split())

    assert run(folder, "--save-listing", listing)[0]["computed"] == 4
    before = the_set(store).take(["00000.jpg", "00001.jpg"], ["pooled"])["pooled"].to_pylist()
    Image.new("RGB", (64, 64), (200, 10, 10)).save(folder / "00001.jpg")
    assert run(listing)[0]["changed"] == 0  # it tells what there was
    told, shown = run(folder)
    assert (told["computed"], told["changed"]) == (0, 1)
    assert "1 input changed after the last reading; --redo-changed" in shown
    redone, _ = run(folder, "--redo-changed")
    assert (redone["computed"], redone["already_done"]) == (1, 3)
    after = the_set(store).take(["00000.jpg", "00001.jpg"], ["pooled"])["pooled"].to_pylist()
    assert after[0] == before[0] and after[1] != before[1]
    assert the_set(store).rows == 4
    assert run(folder, "--redo-changed")[0]["changed"] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": "empty"}, "no picture in"),
        ({"images": "text.dat"}, "nor a picture"),
        ({"--weights": "other.safetensors"}, "not of torchvision/squeezenet1_0"),
        ({"--weights": "none.pth"}, "no file none.pth"),
        ({"--store": "full_of_other_things"}, "no store"),
        ({"--workers": "1000"}, "1000 asked for"),
        ({"--gpus": "1000"}, "1000 asked for"),
        ({"--bakbone": "x"}, "No such option"),
    ],
    ids=str,
)
def test_mistakes(without_ray, change, message, make_photos, tmp_path, monkeypatch, capsys):
    from safetensors.numpy import save_file

    make_photos(1)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.dat").write_text("text")
    (tmp_path / "full_of_other_things").mkdir()
    (tmp_path / "full_of_other_things" / "thesis.doc").write_text("text")
    save_file({"conv1.weight": np.zeros(3)}, tmp_path / "other.safetensors")
    monkeypatch.chdir(tmp_path)
    given = {"images": "photos", "--store": "store", "--backbone": NAME, "--weights": "random", **change}
    images = given.pop("images")
    assert command(images, *(word for pair in given.items() for word in pair)) == 2
    shown = " ".join(capsys.readouterr().err.split())
    assert message in shown and "Traceback" not in shown
    assert not (tmp_path / "store").exists() or not part_files(tmp_path / "store")


def test_another_writer_at_work(make_photos, tmp_path, capsys):
    folder = make_photos(1)
    network = backbones.load(NAME, "random", ("pooled",))
    schema = feature_schema(network.outputs, network.shapes)
    dataset = Store(tmp_path / "store").dataset(kind="features", recipe=network.recipe, schema=schema)
    with dataset.begin():
        arguments = ["--backbone", NAME, "--weights", "random", "--outputs", "pooled"]
        assert command(folder, "--store", tmp_path / "store", *arguments) == 2
    assert "another writer is at work" in " ".join(capsys.readouterr().err.split())


def test_the_installed_command_finds_the_verb(tmp_path):
    process = subprocess.run(
        [sys.executable, "-m", "pipelines.cli.main", "features", str(tmp_path), "--store", str(tmp_path / "s")],
        capture_output=True,
        text=True,
    )
    assert process.returncode == 2
    assert "no picture in" in process.stderr and "Traceback" not in process.stderr


# Compute


class Fragile:
    """A network that cannot bear pictures whose first value is 13, computes too large a number for 14, and counts."""

    preprocess = Preprocess((2, 2), (2, 2), "bilinear", (0.5,) * 3, (0.5,) * 3)

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def example(self, count):
        return np.zeros((count, 2, 2, 3), np.uint8)

    def __call__(self, pictures):
        first = np.stack(pictures)[:, 0, 0, 0]
        self.batches.append(first.tolist())
        if (first == 13).any():
            raise ValueError("thirteen")
        return {"pooled": np.where(first == 14, np.inf, first).astype(np.float16)[:, None]}


def unit_of(folder, colours):
    import pyarrow as pa

    names = [f"{at}.png" for at in range(len(colours))]
    for name, colour in zip(names, colours, strict=True):
        Image.new("RGB", (2, 2), (colour, 0, 0)).save(folder / name)
    columns = {"image_id": names, "uri": [str(folder / name) for name in names]}
    nothing = pa.nulls(len(names), pa.string())
    return pa.table({**columns, "version": nothing, "problem": nothing, "tries": [0] * len(names)})


def test_one_image_that_cannot_be_computed_costs_no_other(tmp_path):
    network = Fragile()
    failures = Failures()
    batches = list(featurizer.Featurizer(network, 4, 2)(unit_of(tmp_path, [1, 2, 13, 4, 5, 14]), failures))
    done = {
        image.image_id: float(value[0])
        for images, outputs in batches
        for image, value in zip(images, outputs["pooled"], strict=True)
    }
    assert done == {"0.png": 1, "1.png": 2, "3.png": 4, "4.png": 5}
    assert [(row["image_id"], row["stage"], row["reason"]) for row in failures.rows] == [
        ("2.png", "compute", "ValueError: thirteen"),
        ("5.png", "compute", "features beyond the range of float16"),
    ]


def test_a_batch_that_memory_does_not_hold_is_halved_and_costs_no_image(tmp_path):
    class Small(Fragile):
        def __call__(self, pictures):
            if len(pictures) > 2:
                self.batches.append([])
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().__call__(pictures)

    network, failures = Small(), Failures()
    batches = list(featurizer.Featurizer(network, 8, 2)(unit_of(tmp_path, [1, 2, 3, 13, 5, 6]), failures))
    assert [image.image_id for images, _ in batches for image in images] == [f"{at}.png" for at in (0, 1, 2, 4, 5)]
    assert [float(value[0]) for _, outputs in batches for value in outputs["pooled"]] == [1, 2, 3, 5, 6]
    assert [row["reason"] for row in failures.rows] == ["ValueError: thirteen"]
    assert network.batches.count([]) == 2  # 8, 4: then it knows


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 65504, -65504, 6e-8, 0])
@pytest.mark.parametrize("kind", [np.float16, np.float32, list])
def test_which_features_are_finite(value, kind):
    values = np.ones((3, 2, 2, 4), np.float16 if kind is list else kind)
    values[1, 1, 0, 2] = value
    found = featurizer.is_finite(list(values) if kind is list else values)
    assert found.tolist() == [True, bool(np.isfinite(value)), True]


def test_pixels_do_not_outlive_their_batch(tmp_path):
    compute = featurizer.Featurizer(backbones.load("timm/test_resnet", "random"), 2, 1)
    ((images, outputs),) = compute(unit_of(tmp_path, [1, 2]), Failures())
    assert [image.pixels.size for image in images] == [0, 0]
    assert len(outputs["pooled"]) == 2


def test_a_defect_of_preprocessing_costs_no_other_image(tmp_path):
    class Picky(Fragile):
        def preprocess(self, image):
            if image.getpixel((0, 0))[0] == 2:
                raise MemoryError("two")
            return np.asarray(image)

    Picky.preprocess.needed = 2
    failures = Failures({"1.png": 4})
    (batch,) = featurizer.Featurizer(Picky(), 4, 2)(unit_of(tmp_path, [1, 2, 3]), failures)
    assert [image.image_id for image in batch[0]] == ["0.png", "2.png"]
    assert [(row["stage"], row["reason"], row["tries"]) for row in failures.rows] == [("decode", "MemoryError: two", 5)]


def test_the_next_two_batches_are_decoded_while_the_network_computes(tmp_path, monkeypatch):
    decoded, news, seen = [], threading.Condition(), []
    load = preprocess.load

    def counting(row, preprocess):
        loaded = load(row, preprocess)
        with news:
            decoded.append(loaded.image_id)
            news.notify_all()
        return loaded

    class Slow(Fragile):
        """A device that is busy until what may be decoded meanwhile is; the warm-up does not wait."""

        def __call__(self, pictures):
            if self.batches:
                done = 4 * len(self.batches)
                with news:
                    assert news.wait_for(lambda: len(decoded) >= min(done + 2 * 4, 16), timeout=60)
                seen.append((done, len(decoded)))
            return super().__call__(pictures)

    monkeypatch.setattr(preprocess, "load", counting)
    list(featurizer.Featurizer(Slow(), 4, 1)(unit_of(tmp_path, range(20, 36)), Failures()))
    assert [done for done, _ in seen] == [4, 8, 12, 16]
    assert seen[0][1] <= 4 + 2 * 4 + 1  # and no more than that is held


def test_a_network_that_cannot_compute_at_all_is_no_images_fault():
    class Broken(Fragile):
        def example(self, count):
            return np.full((count, 2, 2, 3), 13, np.uint8)

    with pytest.raises(ValueError, match="thirteen"):
        featurizer.Featurizer(Broken(), 4, 1)
