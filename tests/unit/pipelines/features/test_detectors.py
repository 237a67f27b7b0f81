"""Regions of pictures, against torchvision's own detections, and their way into a store."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from feature_store import feature_schema, shape_of, to_arrays
from pipelines.engine.failures import Failures
from pipelines.errors import UserError
from pipelines.features import backbones, detectors
from pipelines.features.detectors import Detector, Fit, Regions
from pipelines.features.featurizer import Featurizer, table_of
from pipelines.reporting.gallery import Attention, Card, show
from tests.worlds.detectors import CLASSES, LONGER, SHORTER, SIZE, tiny_network

NAME = "torchvision/fasterrcnn_resnet50_fpn_v2"
LOW = 1 / CLASSES  # untrained, the detector gives every class about this


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(detectors, "build", tiny_network)


def picture(width: int, height: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@torch.no_grad()
def expected_of(network, pixels: np.ndarray, threshold: float) -> dict[str, np.ndarray]:
    """What torchvision detects, and the box head's features of those boxes."""
    network.roi_heads.score_thresh = threshold
    image = torch.from_numpy(pixels).permute(2, 0, 1) / 255
    (found,) = network([image])
    inputs, _ = network.transform([image])
    heads, maps = network.roi_heads, {"0": network.backbone(inputs.tensors)}
    found["regions"] = heads.box_head(heads.box_roi_pool(maps, [found["boxes"]], inputs.image_sizes))
    return {name: values.numpy() for name, values in found.items()}


def test_regions_are_the_detections_of_torchvision_and_what_its_box_head_makes_of_them():
    detector = Detector(NAME, tiny_network(), Regions(most=20, fewest=3, threshold=LOW))
    pixels = picture(90, SHORTER)
    found = {name: values[0] for name, values in detector([pixels]).items()}
    expected = expected_of(detector.network, pixels, LOW)
    assert 3 < len(expected["scores"]) <= 20
    np.testing.assert_allclose(found["boxes"] * [90, 64, 90, 64], expected["boxes"], atol=1e-3)
    np.testing.assert_allclose(found["scores"], expected["scores"], atol=1e-6)
    np.testing.assert_array_equal(found["classes"], expected["labels"])
    np.testing.assert_allclose(found["regions"], expected["regions"], atol=1e-3, rtol=1e-2)
    assert (found["regions"].dtype, found["classes"].dtype) == (np.float16, np.int32)


def test_the_best_fill_up_where_scores_are_low():
    pixels = picture(80, SHORTER)
    network = tiny_network()
    best = expected_of(Detector(NAME, network, Regions(100)).network, pixels, 0.0)["scores"]
    threshold = float((best[3] + best[4]) / 2)
    counts = {
        fewest: len(Detector(NAME, network, Regions(30, fewest, threshold))([pixels])["scores"][0])
        for fewest in (1, 4, 9, 30)
    }
    assert counts == {1: 4, 4: 4, 9: 9, 30: 30}
    kept = Detector(NAME, network, Regions(30, 9, threshold))([pixels])["scores"][0]
    np.testing.assert_allclose(kept, best[:9], atol=1e-6)


def test_a_picture_in_which_nothing_is_found_is_one_region(monkeypatch):
    detector = Detector(NAME, tiny_network(), Regions())
    nothing = [torch.zeros(0, 4)], [torch.zeros(0)], [torch.zeros(0, dtype=torch.int64)]
    monkeypatch.setattr(detector.network.roi_heads, "postprocess_detections", lambda *_: nothing)
    found = detector([picture(70, 64)])
    assert found["boxes"][0].tolist() == [[0, 0, 1, 1]]
    assert (found["scores"][0].tolist(), found["classes"][0].tolist()) == ([0], [0])
    assert found["regions"][0].shape == (1, SIZE)


def test_regions_do_not_depend_on_what_was_seen_before():
    detector = Detector(NAME, tiny_network(), Regions())
    before = detector([picture(80, 64)])
    strip = detector.preprocess(Image.new("RGB", (5000, 1)))
    again = detector([strip, picture(64, 96), picture(80, 64)])
    for name, values in before.items():
        np.testing.assert_array_equal(again[name][2], values[0])


@pytest.mark.parametrize(
    ("size", "expected"),
    [((640, 480), (1067, 800)), ((480, 640), (800, 1067)), ((3000, 1000), (1333, 444)), ((1, 20000), (1, 1333)),
     ((1, 1), (800, 800)), ((799, 1333), (799, 1333))],
)  # fmt: skip
def test_the_whole_picture_is_resized_as_torchvision_would(size, expected):
    fit = Fit(800, 1333, (0,) * 3, (1,) * 3)
    assert fit(Image.new("RGB", size)).shape == (*expected[::-1], 3)


def test_boxes_are_in_pixels_of_the_picture_and_rows_are_ragged(tmp_path):
    sizes = {"wide.png": (300, 100), "tall.png": (50, 120)}
    for number, (name, (width, height)) in enumerate(sizes.items()):
        Image.fromarray(picture(width, height, number)).save(tmp_path / name)
    detector = backbones.load(NAME, "random", None, {"most": 12, "fewest": 2, "threshold": 0.21})
    unit = unit_of([tmp_path / name for name in sizes] + [tmp_path / "gone.png"])
    failures = Failures()
    ((images, outputs),) = Featurizer(detector, 8, 1)(unit, failures)
    schema = feature_schema(detector.outputs, detector.shapes)
    table = table_of(images, outputs, schema)
    table.validate(full=True)
    assert [row["stage"] for row in failures.rows] == ["read"]
    assert shape_of(schema.field("regions")) == (SIZE,)
    for row, (width, height) in zip(table.to_pylist(), sizes.values(), strict=True):
        assert 2 <= len(row["regions"]) <= 12
        assert len(row["boxes"]) == len(row["scores"]) == len(row["classes"]) == len(row["regions"])
        boxes = np.array(row["boxes"])
        assert (boxes >= 0).all() and boxes[:, 2].max() <= width + 1e-3 and boxes[:, 3].max() <= height + 1e-3
        assert boxes[:, 2].max() > 0.8 * width
        assert row["scores"] == sorted(row["scores"], reverse=True)
    for found, expected in zip(to_arrays(table["regions"]), outputs["regions"], strict=True):
        np.testing.assert_array_equal(found, expected)


def unit_of(files):
    import pyarrow as pa

    names = [str(file) for file in files]
    return pa.table({"image_id": names, "uri": names, "version": pa.nulls(len(names), pa.string()),
                     "problem": pa.nulls(len(names), pa.string()), "tries": [0] * len(names)})  # fmt: skip


def test_the_recipe_tells_apart_what_gives_other_numbers(tmp_path):
    random = backbones.load(NAME, "random")
    assert random.recipe["outputs"] == {"regions": [SIZE]}
    assert random.recipe["preprocessing"] | {"shorter": SHORTER, "longer": LONGER} == random.recipe["preprocessing"]
    state = {name: values + 0.01 for name, values in tiny_network().state_dict().items()}
    torch.save(state, tmp_path / "other.pth")
    others = [
        backbones.load(NAME, str(tmp_path / "other.pth")),
        *(backbones.load(NAME, "random", None, {name: value}) for name, value in
          {"most": 20, "fewest": 5, "threshold": 0.5}.items()),
    ]  # fmt: skip
    recipes = [str(detector.recipe) for detector in [random, *others]]
    assert len(set(recipes)) == 5
    assert backbones.load(NAME, "random", ("regions",)).recipe == random.recipe


def test_weights_of_another_number_of_classes(tmp_path):
    torch.save(tiny_network(classes=9).state_dict(), tmp_path / "nine.pth")
    assert backbones.load(NAME, str(tmp_path / "nine.pth")).network.roi_heads.box_predictor.cls_score.out_features == 9
    torch.save({"a": torch.zeros(1)}, tmp_path / "none.pth")
    with pytest.raises(UserError, match=r"is not of torchvision/fasterrcnn_resnet50_fpn_v2: .* missing"):
        backbones.load(NAME, str(tmp_path / "none.pth"))


@pytest.mark.parametrize(
    ("name", "outputs", "regions", "message"),
    [
        (NAME, ("pooled", "regions"), None, f"'pooled' is not among regions, which {NAME} gives"),
        ("torchvision/resnet18", ("regions",), None, "not among pooled, grid, .* regions are of a detector"),
        ("torchvision/resnet18", ("pooled",), {"most": 20}, "is no detector"),
        (NAME, None, {"most": 5}, "at least 10 and at most 5"),
        (NAME, None, {"threshold": 1.5}, "score threshold is 1.5"),
        ("torchvision/fasterrcnn_resnet50", None, None, f"Did you mean .*{NAME}"),
    ],
)
def test_mistakes(name, outputs, regions, message):
    with pytest.raises(UserError, match=message):
        backbones.load(name, "random", outputs, regions)


def test_the_real_network_has_the_parts_that_are_used(monkeypatch):
    monkeypatch.undo()
    network = detectors.build("fasterrcnn_mobilenet_v3_large_320_fpn")
    assert set(detectors.names()) > {"fasterrcnn_resnet50_fpn", "fasterrcnn_resnet50_fpn_v2"}
    network.transform.min_size, network.transform.max_size = (64,), 96
    detector = Detector(NAME, network, Regions(most=10, fewest=10))
    found = detector([picture(96, 64)])
    assert found["regions"][0].shape == (10, 1024)
    assert detectors.CLASSES in network.state_dict()
    assert detector.shapes == {"regions": (SIZE,)}


class Finder:
    """A detector of orange: one box around all of it."""

    outputs, preprocess = ("regions",), Fit(120, 200, (0,) * 3, (1,) * 3)

    def example(self, count):
        return np.zeros((count, 120, 160, 3), np.uint8)

    def __call__(self, pictures):
        return {"regions": [np.zeros((1, 4), np.float16)] * len(pictures), "boxes": [box_of(p)[None] for p in pictures]}


def box_of(pixels: np.ndarray) -> np.ndarray:
    """x1, y1, x2, y2 of what is orange, as parts of width and height."""
    orange = (pixels[..., 0] > 200) & (pixels[..., 2] < 100)
    rows, columns = orange.any(1).nonzero()[0], orange.any(0).nonzero()[0]
    if not len(rows):
        return np.zeros(4, np.float32)
    edges = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)
    return edges / np.array([*pixels.shape[1::-1]] * 2, np.float32)


STORED = {
    1: lambda upright: upright,
    2: np.fliplr,
    3: lambda upright: np.rot90(upright, 2),
    4: np.flipud,
    5: lambda upright: upright.transpose(1, 0, 2),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: np.rot90(upright, 2).transpose(1, 0, 2),
    8: lambda upright: np.rot90(upright, -1),
}
"""How the rows of an upright picture lie in a file of each EXIF orientation (EXIF 2.32, 4.6.4)."""


@pytest.mark.parametrize("size", [(640, 400), (2400, 1500)], ids=["as it is", "decoded at a fraction"])
def test_boxes_lie_on_the_upright_picture_as_the_report_draws_it(tmp_path, size):
    """x from a tenth to a half, y from a fifth to two fifths: no two orientations have the same."""
    width, height = size
    upright = np.full((height, width, 3), 240, np.uint8)
    upright[height // 5 : 2 * height // 5, width // 10 : width // 2] = (255, 138, 30)
    for number, stored in STORED.items():
        exif = Image.Exif()
        exif[0x0112] = number
        Image.fromarray(stored(upright)).save(tmp_path / f"{number}.jpg", exif=exif, quality=95, subsampling=0)
    failures = Failures()
    files = [tmp_path / f"{number}.jpg" for number in STORED]
    ((loaded, outputs),) = Featurizer(Finder(), 8, 2)(unit_of(files), failures)
    assert not failures.rows and len(loaded) == 8
    expected = np.array([0.1, 0.2, 0.5, 0.4])
    for file, image, boxes in zip(files, loaded, outputs["boxes"], strict=True):
        assert (image.width, image.height) == (width, height)
        np.testing.assert_allclose(boxes, [expected * ([width, height] * 2)], atol=0.02 * width)
        seen = Attention(1, 1, ["orange"], np.ones((1, 1)), boxes)
        card = show(Card("x", "orange", attention=seen), [str(file)], None)
        drawn = Image.open(io.BytesIO(base64.b64decode(card.picture.partition(",")[2])))
        assert drawn.getexif().get(0x0112, 1) == 1  # a browser would turn it once more
        assert card.width / card.height == pytest.approx(width / height, abs=0.01)
        np.testing.assert_allclose(box_of(np.asarray(drawn)), expected, atol=0.02)
        np.testing.assert_allclose(card.data()["boxes"], [expected], atol=0.02)


def test_a_picture_that_memory_does_not_hold_takes_no_other_of_its_batch_along(tmp_path, monkeypatch):
    sizes = [(80, 64), (96, 32), (64, 64), (70, 64)]
    for number, size in enumerate(sizes):
        Image.fromarray(picture(*size, number)).save(tmp_path / f"{number}.png")
    detector, look = Detector(NAME, tiny_network(), Regions()), Detector.look

    def full(self, pixels):
        if pixels.shape[:2] == (32, 96):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return look(self, pixels)

    monkeypatch.setattr(Detector, "look", full)
    failures = Failures()
    batches = list(Featurizer(detector, 4, 1)(unit_of([tmp_path / f"{n}.png" for n in range(4)]), failures))
    assert [image.width for images, _ in batches for image in images] == [80, 64, 70]
    assert [(row["stage"], "out of memory" in row["reason"]) for row in failures.rows] == [("compute", True)]
