import numpy as np
import pytest
from PIL import Image
from torchvision import transforms
from torchvision.transforms.functional import InterpolationMode

from pipelines.features.preprocess import Preprocess

RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)


@pytest.mark.parametrize("size", [(500, 333), (333, 500), (97, 64), (64, 64), (30, 41), (1001, 65)], ids=str)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_preprocess_is_torchvisions(size, interpolation):
    coarse = Image.fromarray(np.random.default_rng(5).integers(0, 256, (7, 9, 3), np.uint8))
    image = coarse.resize(size, Image.Resampling.BILINEAR)
    preprocess = Preprocess((56, 56), (64, 64), interpolation, (0.5,) * 3, (0.5,) * 3)
    reference = transforms.Compose([transforms.Resize(64, InterpolationMode(interpolation)), transforms.CenterCrop(56)])
    difference = preprocess(image).astype(int) - np.asarray(reference(image))
    assert np.abs(difference).max() <= 2


def test_squash_is_torchvisions():
    image = Image.fromarray(RGB).resize((200, 120), Image.Resampling.BILINEAR)
    preprocess = Preprocess((56, 48), (64, 56), "bilinear", (0.5,) * 3, (0.5,) * 3, fit="squash")
    reference = transforms.Compose([transforms.Resize((64, 56)), transforms.CenterCrop((56, 48))])
    assert np.abs(preprocess(image).astype(int) - np.asarray(reference(image))).max() <= 2


@pytest.mark.parametrize("size", [(1, 1), (1, 200_000), (200_000, 1), (2, 3)], ids=str)
def test_extreme_shapes(size):
    preprocess = Preprocess((224, 224), (256, 256), "bicubic", (0.5,) * 3, (0.5,) * 3)
    found = preprocess(Image.new("RGB", size, (1, 2, 3)))
    assert found.shape == (224, 224, 3) and found.dtype == np.uint8
    assert np.array_equal(found[0, 0], [1, 2, 3])
